"""scripts/doctor.py on broken packages, processors, encoders' weights and Visdom."""

from __future__ import annotations

import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from scripts import doctor
from scripts._doctor import machine, run
from scripts._doctor.checks import OK, PROBLEM, WARNING
from tests.doctor_findings import only, room, statuses


def requirements(folder: Path, text: str) -> Path:
    path = folder / "requirements.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_packages_as_they_are_here_fit() -> None:
    """By pip's own word for the whole environment, which the tests run in."""
    findings = list(machine.check_packages(doctor.ROOT / "requirements.txt"))
    assert {finding.status for finding in findings} <= {OK, WARNING}


def test_missing_and_other_packages_are_told_apart(tmp_path: Path) -> None:
    path = requirements(
        tmp_path,
        '# comment\n-r other.txt\nabsent==1.0\nolder==2.0  # why\nsame==3.0\nno==1; python_version < "3"\nany>=1\n',
    )
    versions = {"older": "1.9", "same": "3.0+cu126", "any": "7"}
    missing, other = machine.check_packages(path, versions.get)
    assert missing.status == PROBLEM and missing.found == "not installed: absent==1.0"
    assert other.status == WARNING and other.found == "of other versions than tested: older 1.9 (tested: 2.0)"


def test_a_complete_environment_is_one_line(tmp_path: Path) -> None:
    path = requirements(tmp_path, "one==1\ntwo==2\n")
    assert only(machine.check_packages(path, {"one": "1", "two": "2"}.get)).status == OK


@pytest.mark.parametrize(("version", "status"), [((3, 9), PROBLEM), ((3, 12), OK), ((3, 99), PROBLEM)])
def test_python_versions(version: tuple[int, int], status: str, tmp_path: Path) -> None:
    assert only(machine.check_python(tmp_path, version)).status == status


def test_the_python_beside_the_checkouts_own_is_pointed_to(tmp_path: Path) -> None:
    python = tmp_path / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    python.parent.mkdir(parents=True)
    python.touch()
    finding = only(machine.check_python(tmp_path, (3, 12)))
    assert finding.status == WARNING and str(python) in finding.todo


def test_torch_and_torchvision_of_this_environment() -> None:
    assert statuses([*machine.check_torch(), *machine.check_torchvision()]) == {OK}


@pytest.mark.parametrize(
    ("threads", "allowed", "status"), [(4, 4, OK), (1, 0.5, OK), (64, 2, WARNING), (4, 2.5, WARNING)]
)
def test_more_threads_than_processors_are_told(threads: int, allowed: float, status: str) -> None:
    assert machine.judge_threads(threads, allowed, "").status == status


@pytest.mark.parametrize(("text", "expected"), [("50000 100000\n", 0.5), ("max 100000\n", None), ("", None)])
def test_a_containers_share_of_processors(tmp_path: Path, text: str, expected: float | None) -> None:
    limit = tmp_path / "cpu.max"
    limit.write_text(text, encoding="ascii")
    without = machine.usable_processors(tmp_path / "absent")
    assert machine.usable_processors(limit) == (without if expected is None else expected)


@pytest.mark.parametrize(("free", "status"), [(99, PROBLEM), (150, WARNING), (200, OK)])
def test_shared_memory(tmp_path: Path, free: int, status: str) -> None:
    assert only(machine.check_shared_memory(lambda: 100, tmp_path, room(free))).status == status


def test_what_waits_in_shared_memory() -> None:
    """4 workers, 2 batches each, of 2 × [8, 3, 256, 256] float32."""
    batch = sum(torch.zeros(8, 3, 256, 256).nbytes for _ in "AB")
    needed = machine.shared_memory_needed(workers=4, batch_size=8, crop_size=256)
    assert needed == 4 * 2 * batch


@pytest.mark.parametrize(
    ("build", "driver", "present", "usable", "status", "words"),
    [
        ("12.6", (12, 4), True, True, OK, ""),
        (None, None, False, False, OK, "CPU"),
        ("12.6", None, False, False, OK, "CPU"),
        (None, (12, 4), True, False, WARNING, "stays unused"),
        ("12.6", (11, 8), True, False, PROBLEM, "too new"),
        ("12.6", None, True, False, PROBLEM, "no NVIDIA driver"),
        ("12.6", (12, 4), True, False, PROBLEM, "no processor can be used"),
    ],
)
def test_cuda_builds_and_drivers(
    build: str | None, driver: tuple[int, int] | None, present: bool, usable: bool, status: str, words: str
) -> None:
    finding = machine.judge_driver(build, driver, present=present, usable=usable)
    assert finding.status == status and words in finding.found
    assert bool(finding.todo) == (status != OK)


def test_without_a_driver_there_is_no_version() -> None:
    assert machine.driver_version("libno-such-driver.so") is None


def test_a_convolution_here_is_right() -> None:
    finding = machine.judge_convolution("CPU", "", torch.device("cpu"), bf16=True)
    assert finding.status == OK


def test_an_error_is_measured_against_float64() -> None:
    """bfloat16 keeps 8 bits, float32 24."""
    coarse, fine = (machine.convolution_error(torch.device("cpu"), kind) for kind in (torch.bfloat16, torch.float32))
    assert fine < 1e-5 < coarse < machine.BFLOAT16_ERROR


def test_efficientnet_embeds() -> None:
    finding = run.check_other("efficientnet_lite0")
    assert finding.status == OK and "1280 finite numbers" in finding.found


def test_clip_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import open_clip
    from open_clip import factory

    tiny = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 1, "layers": 1},
    }
    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny", tiny)
    path = tmp_path / "tiny.pt"
    torch.save(open_clip.create_model("tiny", pretrained=None).state_dict(), path)
    finding = run.check_clip("tiny", str(path))
    assert finding.status == OK and "16 finite numbers" in finding.found and str(path) in finding.found


def test_tags_that_would_be_downloaded_past_the_hub_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from open_clip import pretrained

    monkeypatch.setitem(pretrained._PRETRAINED, "tiny", {"own": {"url": "https://weights.invalid/tiny.pt"}})
    finding = run.check_clip("tiny", "own")
    assert finding.status == WARNING and "weights.invalid" in finding.found


def test_vgg16_is_looked_for_where_torchvision_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    finding = run.check_other("vgg16")
    assert finding.status == WARNING and str(tmp_path) in finding.todo


def test_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    finding = only(machine.check_server("http://127.0.0.1", free))
    assert finding.status == WARNING and f"127.0.0.1:{free}" in finding.found and "visdom_server.py" in finding.todo


def test_a_port_that_somebody_else_has() -> None:
    class Elsewhere(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_error(404)

        def log_message(self, *message: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        finding = only(machine.check_server("http://127.0.0.1", server.server_port))
        server.shutdown()
    assert finding.status == WARNING and "is none" in finding.found


def test_the_page_is_as_complete_as_the_server_script_says() -> None:
    from scripts import _visdom

    complete = not _visdom.missing_files(_visdom.static_folder())
    assert only(machine.check_page()).status == (OK if complete else WARNING)
