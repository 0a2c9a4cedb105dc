"""scripts/doctor.py on disks and on what a run has left."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import pytest
import torch

from scripts._doctor import machine
from scripts._doctor import run as doctor_run
from scripts._doctor.checks import OK, PROBLEM, WARNING, Check, examine
from scripts._doctor.run import Request
from tests.doctor_findings import only, room
from util.engine.checkpoint import Checkpointer
from util.errors import UserError


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
    finding = only(machine.check_folder("--results_dir", tmp_path / "a" / "b", room(free), lambda folder: rate))
    assert finding.status == status and words in finding.found


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    finding = only(machine.check_folder("--results_dir", tmp_path, room(1e12), no_space))
    assert finding.status == PROBLEM and "Read-only file system" in finding.found


def test_a_folder_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    finding = only(machine.check_folder("--results_dir", tmp_path / "file" / "x"))
    assert finding.status == PROBLEM and "is a file" in finding.found


def test_measuring_leaves_nothing(tmp_path: Path) -> None:
    assert machine.write_speed(tmp_path) > 0
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
    finding = only(doctor_run.check_run(run))
    assert finding.status == OK and "--model cut, continues in epoch 7 after 1,200 images" in finding.found


def test_a_run_that_cannot_go_on(run: Request) -> None:
    (folder_of(run) / "training_state.pth").unlink()
    assert only(doctor_run.check_run(run)).status == WARNING


def test_a_damaged_training_state_and_a_missing_run(run: Request) -> None:
    state = folder_of(run) / "training_state.pth"
    state.write_bytes(state.read_bytes()[:100])
    damaged = only(examine(Check("run", partial(doctor_run.check_run, run)), {}))
    missing = Request(None, "rainn", run.checkpoints_dir)
    absent = only(examine(Check("run", partial(doctor_run.check_run, missing)), {}))
    assert damaged.status == absent.status == PROBLEM
    assert str(state) in damaged.found and "rain" in absent.found


def test_a_damaged_state_with_one_before_it(run: Request) -> None:
    state = folder_of(run) / "training_state.pth"
    state.rename(state.with_name("training_state.previous.pth"))
    state.write_bytes(b"half a state")
    damaged, before = doctor_run.check_run(run)
    assert damaged.status == WARNING and str(state) in damaged.found
    assert before.status == OK and "epoch 7" in before.found
    assert state.read_bytes() == b"half a state"


def test_a_run_that_is_being_trained(run: Request) -> None:
    (folder_of(run) / "run.lock").touch()  # left behind
    assert "trained now" not in only(doctor_run.check_run(run)).found
    with Checkpointer(folder_of(run)) as other:
        other.claim()
        assert f"trained now by process {os.getpid()}" in only(doctor_run.check_run(run)).found


def test_networks_are_loaded_and_damaged_ones_named(run: Request) -> None:
    (folder_of(run) / "5_net_G.pth").write_bytes(b"no network")
    (folder_of(run) / ".latest_net_G.pth.12ab.tmp").write_bytes(b"half")
    damaged, loaded, unfinished = doctor_run.check_networks(run)
    assert damaged.status == PROBLEM and "5_net_G.pth" in damaged.found
    assert loaded.status == OK and loaded.found == "3 of 4 files load; checkpoints: 5, 10, best_psnr, latest"
    assert unfinished.status == WARNING and ".tmp" in unfinished.found


def test_networks_beyond_the_time_are_counted(run: Request) -> None:
    ticks = iter(range(0, 100, 10))
    finding = only(doctor_run.check_networks(run, budget=15, clock=lambda: next(ticks)))
    assert "2 of 4 files load, 2 older ones not looked at" in finding.found


def test_options_are_the_runs(run: Request) -> None:
    assert (run.options().model, run.options().crop_size) == ("cut", 32)
    assert Request("x", None, "y").options().dataroot == "x"


def test_the_dataset_is_the_runs_unless_one_is_named(run: Request, dataset: Path) -> None:
    assert run.dataset() == dataset
    assert Request("x", "rain", run.checkpoints_dir).dataset() == Path("x")
    assert Request(None, "absent", run.checkpoints_dir).dataset() is None


def test_a_run_elsewhere_and_the_model_that_ships_are_found_by_their_names(run: Request, dataset: Path) -> None:
    for name in (str(folder_of(run)), str(folder_of(run) / "5_net_G.pth")):
        elsewhere = Request(None, name, "nowhere")
        assert elsewhere.folder() == folder_of(run) and elsewhere.dataset() == dataset
    shipped = Request(None, "general", "nowhere")
    assert shipped.dataset() is None
    assert only(doctor_run.check_run(shipped)).found == "--model restoration, without a training state"
    assert only(doctor_run.check_networks(shipped)).found == "1 of 1 files load; checkpoints: latest"


def test_names_do_not_lead_out_of_the_folder(run: Request) -> None:
    out = Request(None, "../checkpoints/rain", run.checkpoints_dir)
    with pytest.raises(UserError, match="inside --checkpoints_dir"):
        list(doctor_run.check_networks(out))
