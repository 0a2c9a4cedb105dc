"""scripts/doctor.py: what it says of broken packages, machines, datasets and runs, and that nothing ends it."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import threading
import time
import types
from collections.abc import Iterable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from options import parse_test, parse_train
from scripts import (
    _doctor_dataset,
    _doctor_devices,
    _doctor_environment,
    _doctor_storage,
    _doctor_visdom,
    _doctor_weights,
    doctor,
)
from scripts._doctor_report import OK, PROBLEM, WARNING, Check, Finding, as_json, summary
from scripts._doctor_request import Request
from scripts._doctor_runner import examine, run_checks
from util.errors import UserError

FINE = Finding(OK, "next", "was looked at too")


def only(findings: Iterable[Finding]) -> Finding:
    (finding,) = findings
    return finding


def of(findings: Iterable[Finding], subject: str) -> Finding:
    return only(finding for finding in findings if finding.subject == subject)


def statuses(findings: Iterable[Finding]) -> set[str]:
    return {finding.status for finding in findings}


# Report and runner


def test_a_finding_is_one_printable_line_whatever_a_file_is_called() -> None:
    line = Finding(PROBLEM, "images", "a\nb\x1b[31m\udcff.png", "rename it").line()
    assert line == r"problem  images: a\nb\x1b[31m\udcff.png -> rename it"


def test_json_is_ascii_and_says_whether_all_is_well() -> None:
    text = as_json([FINE, Finding(PROBLEM, "images", "é\udcff", "x")])
    content = json.loads(text)
    assert text.isascii() and content["healthy"] is False
    assert content["count"] == {"ok": 1, "warning": 0, "problem": 1}
    assert content["findings"][1] == {"status": "problem", "subject": "images", "found": "é\udcff", "todo": "x"}
    assert json.loads(as_json([FINE]))["healthy"] is True


def test_the_last_line_counts() -> None:
    assert summary([FINE, Finding(PROBLEM, "a", "b")]) == "1 problem, 0 warnings, 1 ok"


def after(finding: Finding, error: BaseException) -> Iterator[Finding]:
    yield finding
    raise error


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (ZeroDivisionError("none left"), PROBLEM, "the check itself failed (ZeroDivisionError: none left; test_"),
        (UserError("--flag 3: is wrong; give 4."), PROBLEM, "--flag 3: is wrong; give 4."),
        (ModuleNotFoundError("No module named 'timm'", name="timm"), WARNING, "not checked, because timm"),
        (ImportError("cannot import name 'x'", name="util.x"), PROBLEM, "the check itself failed (ImportError"),
        (SystemExit(3), PROBLEM, "the check itself failed (SystemExit"),
    ],
)  # fmt: skip
def test_what_a_check_raises_is_a_finding_after_those_before(error: BaseException, status: str, words: str) -> None:
    first, second = examine(Check("it", partial(after, FINE, error)), {})
    assert first == FINE
    assert second.status == status and second.found.startswith(words)


def test_a_module_that_cannot_be_imported_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_installed.py").write_text(
        "from pathlib import Path\n"
        "with Path(__file__).with_name('tries').open('a') as file: file.write('x')\n"
        "raise OSError('libsomething.so: cannot open shared object file')\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    broken: dict[str, str] = {}
    about = only(examine(Check("it", list, ("half_installed",), without=PROBLEM), broken))
    later = only(examine(Check("later", lambda: [FINE], ("half_installed", "json"), without=PROBLEM), broken))
    assert about.status == PROBLEM and "libsomething.so" in about.found
    assert later.status == WARNING and "half_installed cannot be imported" in later.found
    assert (tmp_path / "tries").read_text() == "x"


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_check_that_ends_its_process_or_never_ends_does_not_end_the_report() -> None:
    checks = [
        Check("crashes", os.abort, ("json",)),
        Check("hangs", partial(time.sleep, 60), seconds=0.5),  # type: ignore[arg-type]
        Check("next", partial(list, [FINE])),
        Check("as crashed", partial(list, [FINE]), ("json",)),
    ]
    crashed, hung, fine, blamed = run_checks(checks)
    assert crashed.status == PROBLEM and "SIGABRT" in crashed.found
    assert hung.status == PROBLEM and "did not end within" in hung.found
    assert fine == FINE
    assert blamed.status == WARNING and "json cannot be imported" in blamed.found


# Environment


def requirements(folder: Path, text: str) -> Path:
    path = folder / "requirements.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_packages_as_they_are_here_fit() -> None:
    """By pip's own word for the whole environment, which the tests run in."""
    findings = list(_doctor_environment.check_packages(doctor.ROOT / "requirements.txt"))
    assert {finding.status for finding in findings} <= {OK, WARNING}


def test_missing_and_other_packages_are_told_apart(tmp_path: Path) -> None:
    path = requirements(
        tmp_path,
        '# comment\n-r other.txt\nabsent==1.0\nolder==2.0  # why\nsame==3.0\nno==1; python_version < "3"\nany>=1\n',
    )
    versions = {"older": "1.9", "same": "3.0+cu126", "any": "7"}
    missing, other = _doctor_environment.check_packages(path, versions.get)
    assert missing.status == PROBLEM and missing.found == "not installed: absent==1.0"
    assert other.status == WARNING and other.found == "of other versions than tested: older 1.9 (tested: 2.0)"


def test_a_complete_environment_is_one_line(tmp_path: Path) -> None:
    path = requirements(tmp_path, "one==1\ntwo==2\n")
    assert only(_doctor_environment.check_packages(path, {"one": "1", "two": "2"}.get)).status == OK


@pytest.mark.parametrize(("version", "status"), [((3, 9), PROBLEM), ((3, 12), OK), ((3, 99), PROBLEM)])
def test_python_versions(version: tuple[int, int], status: str, tmp_path: Path) -> None:
    assert only(_doctor_environment.check_python(tmp_path, version)).status == status


def test_the_python_beside_the_checkouts_own_is_pointed_to(tmp_path: Path) -> None:
    python = tmp_path / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    python.parent.mkdir(parents=True)
    python.touch()
    finding = only(_doctor_environment.check_python(tmp_path, (3, 12)))
    assert finding.status == WARNING and str(python) in finding.todo


def test_torch_and_torchvision_of_this_environment() -> None:
    assert statuses([*_doctor_environment.check_torch(), *_doctor_environment.check_torchvision()]) == {OK}


@pytest.mark.parametrize(
    ("threads", "allowed", "status"), [(4, 4, OK), (1, 0.5, OK), (64, 2, WARNING), (4, 2.5, WARNING)]
)
def test_more_threads_than_processors_are_told(threads: int, allowed: float, status: str) -> None:
    assert _doctor_environment.judge_threads(threads, allowed, "").status == status


@pytest.mark.parametrize(("text", "expected"), [("50000 100000\n", 0.5), ("max 100000\n", None), ("", None)])
def test_a_containers_share_of_processors(tmp_path: Path, text: str, expected: float | None) -> None:
    limit = tmp_path / "cpu.max"
    limit.write_text(text, encoding="ascii")
    without = _doctor_environment.usable_processors(tmp_path / "absent")
    assert _doctor_environment.usable_processors(limit) == (without if expected is None else expected)


def room(free: float) -> Any:
    """A stand-in for shutil.disk_usage."""
    return lambda folder: types.SimpleNamespace(free=free)


@pytest.mark.parametrize(("free", "status"), [(99, PROBLEM), (150, WARNING), (200, OK)])
def test_shared_memory(tmp_path: Path, free: int, status: str) -> None:
    assert only(_doctor_environment.check_shared_memory(lambda: 100, tmp_path, room(free))).status == status


def test_what_waits_in_shared_memory() -> None:
    """4 workers, 2 batches each, of 2 × [8, 3, 256, 256] float32."""
    batch = sum(torch.zeros(8, 3, 256, 256).nbytes for _ in "AB")
    needed = _doctor_environment.shared_memory_needed(workers=4, batch_size=8, crop_size=256)
    assert needed == 4 * 2 * batch


# Devices


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
    finding = _doctor_devices.judge_driver(build, driver, present=present, usable=usable)
    assert finding.status == status and words in finding.found
    assert bool(finding.todo) == (status != OK)


def test_without_a_driver_there_is_no_version() -> None:
    assert _doctor_devices.driver_version("libno-such-driver.so") is None


def test_a_convolution_here_is_right() -> None:
    finding = _doctor_devices.judge_convolution("CPU", "", torch.device("cpu"), bf16=True)
    assert finding.status == OK


def test_an_error_is_measured_against_float64() -> None:
    """bfloat16 keeps 8 bits, float32 24."""
    coarse, fine = (
        _doctor_devices.convolution_error(torch.device("cpu"), kind) for kind in (torch.bfloat16, torch.float32)
    )
    assert fine < 1e-5 < coarse < _doctor_devices.BFLOAT16_ERROR


# Weights


def test_efficientnet_embeds() -> None:
    finding = _doctor_weights.check_other("efficientnet_lite0")
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
    finding = _doctor_weights.check_clip("tiny", str(path))
    assert finding.status == OK and "16 finite numbers" in finding.found and str(path) in finding.found


def test_tags_that_would_be_downloaded_past_the_hub_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from open_clip import pretrained

    monkeypatch.setitem(pretrained._PRETRAINED, "tiny", {"own": {"url": "https://weights.invalid/tiny.pt"}})
    finding = _doctor_weights.check_clip("tiny", "own")
    assert finding.status == WARNING and "weights.invalid" in finding.found


def test_vgg16_is_looked_for_where_torchvision_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    finding = _doctor_weights.check_other("vgg16")
    assert finding.status == WARNING and str(tmp_path) in finding.todo


# Folders and runs


def no_space(folder: Path) -> float:
    raise OSError(30, "Read-only file system")


@pytest.mark.parametrize(
    ("free", "rate", "status", "words"),
    [
        (100e9, 500e6, OK, "500 MB/s"),
        (100e9, 5e6, WARNING, "every save takes long"),
        (5e9, 500e6, WARNING, "may fill"),
        (0.5e9, 500e6, PROBLEM, "0.5 GB free"),
    ],
)
def test_disks(tmp_path: Path, free: float, rate: float, status: str, words: str) -> None:
    finding = only(_doctor_storage.check_folder("--results_dir", tmp_path / "a" / "b", room(free), lambda folder: rate))
    assert finding.status == status and words in finding.found


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    finding = only(_doctor_storage.check_folder("--results_dir", tmp_path, room(1e12), no_space))
    assert finding.status == PROBLEM and "Read-only file system" in finding.found


def test_a_folder_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    finding = only(_doctor_storage.check_folder("--results_dir", tmp_path / "file" / "x"))
    assert finding.status == PROBLEM and "is a file" in finding.found


def test_measuring_leaves_nothing(tmp_path: Path) -> None:
    assert _doctor_storage.write_speed(tmp_path) > 0
    assert not list(tmp_path.iterdir())


@pytest.fixture
def run(tmp_path: Path, dataset: Path) -> Request:
    """A run that says all but its networks: options, a training state, and two files of a network."""
    folder = tmp_path / "checkpoints" / "rain"
    folder.mkdir(parents=True)
    text = "model: cut\nload_size: 36\ncrop_size: 32\nnum_threads: 1\n"
    (folder / "options.yaml").write_text(f"dataroot: {json.dumps(str(dataset))}\n{text}", encoding="utf-8")
    torch.save({"format": 3, "position": {"epoch": 7, "total_images": 1200}}, folder / "training_state.pth")
    for tag in ("latest", "5", "10", "best_psnr"):
        torch.save({"weight": torch.ones(3)}, folder / f"{tag}_net_G.pth")
    return Request(None, "rain", str(folder.parent))


def folder_of(run: Request) -> Path:
    return Path(run.checkpoints_dir) / "rain"


def test_where_a_run_stands(run: Request) -> None:
    finding = only(_doctor_storage.check_run(run))
    assert finding.status == OK and "--model cut, goes on in epoch 7 after 1,200 images" in finding.found


def test_a_run_that_cannot_go_on(run: Request) -> None:
    (folder_of(run) / "training_state.pth").unlink()
    assert only(_doctor_storage.check_run(run)).status == WARNING


def test_a_damaged_training_state_and_a_missing_run(run: Request) -> None:
    state = folder_of(run) / "training_state.pth"
    state.write_bytes(state.read_bytes()[:100])
    damaged = only(examine(Check("run", partial(_doctor_storage.check_run, run)), {}))
    missing = Request(None, "rainn", run.checkpoints_dir)
    absent = only(examine(Check("run", partial(_doctor_storage.check_run, missing)), {}))
    assert damaged.status == absent.status == PROBLEM
    assert str(state) in damaged.found and "rain" in absent.found


def test_a_damaged_state_with_one_before_it(run: Request) -> None:
    state = folder_of(run) / "training_state.pth"
    state.rename(state.with_name("training_state.previous.pth"))
    state.write_bytes(b"half a state")
    damaged, before = _doctor_storage.check_run(run)
    assert damaged.status == WARNING and str(state) in damaged.found
    assert before.status == OK and "epoch 7" in before.found
    assert state.read_bytes() == b"half a state"


def test_a_run_that_is_being_trained(run: Request) -> None:
    (folder_of(run) / "run.lock").touch()
    assert "trains there now" in only(_doctor_storage.check_run(run)).found
    os.utime(folder_of(run) / "run.lock", (1e9, 1e9))
    assert "trains there now" not in only(_doctor_storage.check_run(run)).found


def test_networks_are_loaded_and_damaged_ones_named(run: Request) -> None:
    (folder_of(run) / "5_net_G.pth").write_bytes(b"no network")
    (folder_of(run) / ".latest_net_G.pth.12ab.tmp").write_bytes(b"half")
    damaged, loaded, unfinished = _doctor_storage.check_networks(run)
    assert damaged.status == PROBLEM and "5_net_G.pth" in damaged.found
    assert loaded.status == OK and loaded.found == "3 of 4 files load; checkpoints: 5, 10, best_psnr, latest"
    assert unfinished.status == WARNING and ".tmp" in unfinished.found


def test_networks_beyond_the_time_are_counted(run: Request) -> None:
    ticks = iter(range(0, 100, 10))
    finding = only(_doctor_storage.check_networks(run, budget=15, clock=lambda: next(ticks)))
    assert "2 of 4 files load, 2 older ones not looked at" in finding.found


def test_options_are_the_runs(run: Request) -> None:
    assert (run.options().model, run.options().crop_size) == ("cut", 32)
    assert Request("x", None, "y").options().dataroot == "x"


def test_the_dataset_is_the_runs_unless_one_is_named(run: Request, dataset: Path) -> None:
    assert run.dataset() == dataset
    assert Request("x", "rain", run.checkpoints_dir).dataset() == Path("x")
    assert Request(None, "absent", run.checkpoints_dir).dataset() is None


# Dataset


def picture(path: Path, side: int = 40, *, seed: int = 0, value: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng([seed, *path.name.encode()]).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(noise if value is None else np.full_like(noise, value)).save(path)
    return path


def look(root: Path, **chosen: Any) -> list[Finding]:
    """The findings on a dataset, with options as for a small training."""
    survey = _doctor_dataset.survey_of(root)
    values: dict[str, Any] = {"load_size": 36, "crop_size": 32, **chosen}
    flags = [word for name, value in values.items() for word in (f"--{name}", str(value))]
    opt = parse_train(["--dataroot", str(root), *flags])
    return [
        *_doctor_dataset.check_images(survey),
        *_doctor_dataset.check_training(survey, opt),
        *_doctor_dataset.check_pairs_of(survey, "test", opt.direction),
        *_doctor_dataset.check_same_files(survey),
    ]


def test_a_good_dataset_has_no_problem(dataset: Path) -> None:
    findings = look(dataset)
    assert PROBLEM not in statuses(findings)
    assert of(findings, "images").found == "all 11 decoded, the headers of all read"
    assert of(findings, "test pairs").found == "2, all of equal size"
    assert of(findings, "same files").status == OK


def test_few_training_images_are_told(dataset: Path) -> None:
    few = [finding for finding in look(dataset) if finding.subject == "training images"]
    assert [finding.found for finding in few] == ["trainA has only 3", "trainB has only 4"]


def test_a_domain_of_enough_images_is_described(tmp_path: Path) -> None:
    for index in range(10):
        picture(tmp_path / "trainA" / f"{index}.png", 40 + index)
        picture(tmp_path / "trainB" / f"{index}.png", seed=1)
    first, _ = (finding for finding in look(tmp_path) if finding.subject == "training images")
    assert first == Finding(OK, "training images", "trainA: 10, sides 40 to 49, fit --preprocess resize_and_crop")


def test_files_that_cannot_be_read(dataset: Path) -> None:
    (dataset / "trainA" / "empty.png").touch()
    whole = picture(dataset / "trainA" / "cut.png")
    whole.write_bytes(whole.read_bytes()[:-200])
    finding = of(look(dataset), "images")
    assert finding.status == PROBLEM and finding.found.startswith("2 cannot be read")
    assert "empty.png" in finding.found and "cut.png" in finding.found


def test_files_that_show_nothing(dataset: Path) -> None:
    picture(dataset / "trainB" / "black.png", value=0)
    finding = of(look(dataset), "images")
    assert finding.status == WARNING and finding.found.startswith("1 show nothing") and "black.png" in finding.found


def test_images_beyond_the_time_are_said(tmp_path: Path) -> None:
    count = 4 * (os.cpu_count() or 1) + 1
    for index in range(count):
        picture(tmp_path / "trainA" / f"{index}.png", 8)
    ticks = iter([0.0, 1.0, 2.0])
    finding = only(_doctor_dataset.check_images(_doctor_dataset.survey_of(tmp_path), 0.5, lambda: next(ticks)))
    assert finding.found == f"a random {count - 1} of {count} decoded, the headers of all read"


@pytest.mark.parametrize("mode", ["unaligned", "aligned"])
def test_too_small_for_the_crop(dataset: Path, mode: str) -> None:
    for domain in "AB":
        for path in (dataset / f"train{domain}").iterdir():
            path.unlink()
        picture(dataset / f"train{domain}" / "small.png", 30)
    with pytest.raises(UserError, match=r"small\.png.*--crop_size 32"):
        look(dataset, preprocess="crop", dataset_mode=mode)


def test_pairs_that_do_not_go_together(dataset: Path) -> None:
    picture(dataset / "testA" / "alone.png")
    with pytest.raises(UserError, match=r"without a partner: 1 in testA \(first 'alone\.png'\)"):
        look(dataset)


def test_pairs_too_small_to_measure(dataset: Path) -> None:
    for domain in "AB":
        picture(dataset / f"test{domain}" / "tiny.png", 10)
    finding = of(look(dataset), "test pairs")
    assert finding.status == PROBLEM and "tiny.png" in finding.found


def test_images_without_ground_truth_are_fine(dataset: Path) -> None:
    for path in (dataset / "testB").iterdir():
        path.unlink()
    (dataset / "testB").rmdir()
    finding = of(look(dataset), "test pairs")
    assert finding.status == OK and "2 images without ground truth" in finding.found


def test_the_same_file_on_both_sides_is_a_leak(dataset: Path) -> None:
    source = picture(dataset / "trainA" / "x.png")
    (dataset / "trainB" / "other name.png").write_bytes(source.read_bytes())
    finding = of(look(dataset), "same files")
    assert finding.status == WARNING and finding.found == "1 in trainA and in trainB: x.png = other name.png"


def test_a_test_image_in_training_is_a_leak(dataset: Path) -> None:
    source = next((dataset / "testB").iterdir())
    (dataset / "trainB" / "seen.png").write_bytes(source.read_bytes())
    finding = of(look(dataset), "same files")
    assert finding.status == WARNING and f"{source.name} = seen.png" in finding.found and "trained" in finding.todo


def test_files_that_only_begin_alike_are_not_the_same(tmp_path: Path) -> None:
    pixels = np.zeros((200, 200, 3), dtype=np.uint8)
    for domain, last in (("A", 0), ("B", 255)):
        pixels[-1, -1] = last
        path = tmp_path / f"train{domain}" / "x.bmp"
        path.parent.mkdir()
        Image.fromarray(pixels[::-1]).save(path)  # BMP begins with the lowest row, which is that of the difference
        Image.fromarray(pixels).save(path.with_name("y.bmp"))
    survey = _doctor_dataset.survey_of(tmp_path)
    assert {path.stat().st_size for path in survey.sizes} == {120054}
    assert _doctor_dataset.same_files(survey.folders) == []


def test_a_folder_without_images_is_a_problem(dataset: Path) -> None:
    for path in (dataset / "trainB").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="trainB' holds no image"):
        look(dataset)


@pytest.mark.parametrize("wrong", ["datb", "data/trainA", "empty"])
def test_a_wrong_folder_gets_the_programs_own_words(dataset: Path, wrong: str) -> None:
    (dataset.parent / "empty").mkdir()
    with pytest.raises(UserError, match="--dataroot"):
        _doctor_dataset.survey_of(dataset.parent / wrong if wrong != "data/trainA" else dataset / "trainA" / "absent")


def test_pictures_without_layout_are_counted(tmp_path: Path) -> None:
    picture(tmp_path / "x.png")
    findings = list(_doctor_dataset.check_dataset(Request(str(tmp_path), None, str(tmp_path))))
    assert "--input) 1" in of(findings, "dataset").found
    assert of(findings, "training images").status == WARNING
    assert PROBLEM not in statuses(findings)


def test_one_broken_part_leaves_the_others(dataset: Path) -> None:
    picture(dataset / "testA" / "alone.png")
    findings = list(_doctor_dataset.check_dataset(Request(str(dataset), None, str(dataset))))
    assert of(findings, "test pairs").status == PROBLEM
    assert of(findings, "same files").status == OK


# Visdom


def test_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    finding = only(_doctor_visdom.check_server("http://127.0.0.1", free))
    assert finding.status == WARNING and f"127.0.0.1:{free}" in finding.found and "visdom_server.py" in finding.todo


def test_a_port_that_somebody_else_has() -> None:
    class Elsewhere(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_error(404)

        def log_message(self, *message: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        finding = only(_doctor_visdom.check_server("http://127.0.0.1", server.server_port))
        server.shutdown()
    assert finding.status == WARNING and "is none" in finding.found


def test_the_page_is_as_complete_as_the_server_script_says() -> None:
    from scripts import _visdom_files

    complete = not _visdom_files.missing_files(_visdom_files.static_folder())
    assert only(_doctor_visdom.check_page()).status == (OK if complete else WARNING)


# The command


def test_the_defaults_are_those_of_the_programs() -> None:
    args = doctor.parse([])
    train, test = parse_train(["--dataroot", "x"]), parse_test(["--dataroot", "x"])
    assert args.checkpoints_dir == train.checkpoints_dir and args.results_dir == test.results_dir
    assert (args.display_server, args.display_port) == (train.display_server, train.display_port)


def test_the_exit_code_says_whether_something_is_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With two checks instead of all."""

    def checks(args: argparse.Namespace) -> list[Check]:
        status = PROBLEM if args.name else WARNING
        return [Check("it", partial(list, [FINE, Finding(status, "it", "was found")]))]

    monkeypatch.setattr(doctor, "checks_for", checks)
    assert doctor.main([]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0 problems, 1 warning, 1 ok"
    assert doctor.main(["--name", "x", "--json"]) == doctor.EXIT_PROBLEM
    assert json.loads(capsys.readouterr().out)["healthy"] is False


def test_the_whole_command(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                           monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """No network, no weights of CLIP: warnings, but nothing is broken, and nothing is written."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    flags = ["--dataroot", str(dataset), "--checkpoints_dir", str(tmp_path / "c"), "--results_dir", str(tmp_path / "r")]
    code = doctor.main([*flags, "--display_port", str(free), "--json"])
    content = json.loads(capsys.readouterr().out)
    found = {finding["subject"]: finding for finding in content["findings"]}
    crashed = [finding for finding in content["findings"] if "check itself" in finding["found"]]
    assert not crashed
    assert code == (0 if content["healthy"] else 1)
    assert found["CLIP weights (ViT-B-32, openai)"]["status"] == WARNING
    assert found["PyTorch"]["status"] == found["test pairs"]["status"] == OK
    assert not (tmp_path / "c").exists() and not (tmp_path / "r").exists()
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before


def test_the_doctors_modules_need_the_standard_library_alone() -> None:
    """So that they can say that everything else is missing."""
    import subprocess

    program = "import sys; sys.path.insert(0, sys.argv[1]); import scripts.doctor; print(*sys.modules)"
    command = [sys.executable, "-S", "-c", program, str(doctor.ROOT)]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "PIL", "yaml", "options", "data", "models"} & set(loaded)
