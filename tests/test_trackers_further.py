"""TensorBoard and Weights & Biases, read back by other means than they were written with."""

from __future__ import annotations

import importlib
import json
import logging
import struct
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from options import parse_train
from train import trackers_of
from util.errors import UserError
from util.trackers.tensorboard import TensorBoardTracker
from util.trackers.tracker import Report, Tracker
from util.trackers.wandb import WandbTracker

LEARNING_RATE = 2e-4
WAIT_SECONDS = 30.0
RED = np.full((4, 6, 3), (200, 10, 10), dtype=np.uint8)


def progress_at(total: int) -> Report:
    return Report((total - 1) // 100 + 1, 4, (total - 1) % 100 + 1, 100, total, LEARNING_RATE, 3.0, 0.1)


def report(tracker: Tracker, totals: list[int]) -> None:
    """Losses at each of these numbers of images, pictures and a validation at the last."""
    for total in totals:
        tracker.scalars(progress_at(total), {"G": total / 10})
    tracker.images(progress_at(totals[-1]), {"fake_B": RED, "gray": RED[:, :, :1]})
    tracker.metrics(progress_at(totals[-1]), {"psnr": 21.5})
    tracker.close()


def test_tensorboards_own_reader_finds_everything_once_after_a_resume(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    report(TensorBoardTracker(tmp_path, None), [50, 100, 150])
    report(TensorBoardTracker(tmp_path, 100), [150, 200])
    reader = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()

    def curve(tag: str) -> list[tuple[int, Any]]:
        return [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)]

    assert curve("loss/G") == [(50, 5.0), (100, 10.0), (150, 15.0), (200, 20.0)]
    assert curve("learning_rate")[0] == (50, LEARNING_RATE)
    assert curve("validation/psnr") == [(200, 21.5)]
    pictures = events.Images("pictures/fake_B")
    assert [(picture.step, picture.width, picture.height) for picture in pictures] == [(200, 6, 4)]
    assert events.Images("pictures/gray")


def test_a_new_run_does_not_mix_its_events_with_those_of_the_one_before(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    report(TensorBoardTracker(tmp_path, None), [50])
    TensorBoardTracker(tmp_path, None).close()
    assert len(list((tmp_path / "tensorboard.previous").iterdir())) == 1
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def recorded(folder: Path) -> list[dict[str, Any]]:
    """The history in W&B's offline files, once its own process has written all of them.

    After 7 bytes, they are records of checksum, length, kind and a protobuf message.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        rows, ended = _read_records(folder)
        if ended == len(list((folder / "wandb").glob("offline-run-*"))):
            return rows
        time.sleep(0.05)
    raise AssertionError("W&B did not end its files")


def _read_records(folder: Path) -> tuple[list[dict[str, Any]], int]:
    """Rows of all files, and the number of files that are complete."""
    Record = importlib.import_module("wandb.proto.wandb_internal_pb2").Record
    rows, ended = [], 0
    for path in sorted((folder / "wandb").glob("offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns):
        data, place = path.read_bytes(), 7
        while place + 7 <= len(data):
            _, length, kind = struct.unpack_from("<IHB", data, place)
            assert kind == 1, "a record in parts, which these small ones are not"
            record = Record.FromString(data[place + 7 : place + 7 + length])
            place += 7 + length
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
            ended += record.WhichOneof("record_type") == "exit"
    return rows, ended


def test_wandb_records_offline_without_an_account_and_goes_on_under_the_same_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("wandb")
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    with caplog.at_level(logging.INFO, "util.trackers.wandb"):
        report(WandbTracker(tmp_path, "run", None, {"lr": 0.1, "netD": "basic", "hed": None}), [50, 100])
    assert any("wandb sync" in record.getMessage() for record in caplog.records)
    began = (tmp_path / "wandb" / "run_id.txt").read_text(encoding="utf-8").strip()
    rows = recorded(tmp_path)
    assert [(row["_step"], row["loss/G"]) for row in rows] == [(50, 5.0), (100, 10.0)]
    assert rows[-1]["validation/psnr"] == 21.5
    assert rows[-1]["pictures/fake_B/width"] == 6
    report(WandbTracker(tmp_path, "run", 100, {"lr": 0.1, "netD": "basic", "hed": None}), [150])
    assert recorded(tmp_path)[-1]["_step"] == 150
    assert (tmp_path / "wandb" / "run_id.txt").read_text(encoding="utf-8").strip() == began


def test_wandb_gets_numbers_as_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    run = SimpleNamespace(dir=str(tmp_path / "wandb" / "run"), finish=lambda: None)
    wandb = SimpleNamespace(Image=None, Settings=dict, init=lambda **settings: given.update(settings) or run)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    opt = parse_train(["--dataroot", str(tmp_path), "--trackers", "wandb", "--no_html", "--display_id", "0"])
    model, state = SimpleNamespace(headings={}), SimpleNamespace(stepper=SimpleNamespace(device=torch.device("cpu")))
    trackers_of(opt, SimpleNamespace(path=tmp_path), state, model, resumed=False).close()  # type: ignore[arg-type]
    config = given["config"]
    assert config["lr"] == opt.lr and type(config["lr"]) is float
    assert config["batch_size"] == 1 and config["no_html"] is True and config["model"] == "cclgan"


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_one_sentence_that_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    module = "torch.utils.tensorboard" if name == "tensorboard" else "wandb"
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"--trackers {name}: .*pip install {name}"):
        TensorBoardTracker(tmp_path, None) if name == "tensorboard" else WandbTracker(tmp_path, "run", None, {})


def test_further_trackers_are_named_with_commas(tmp_path: Path) -> None:
    assert parse_train(["--dataroot", str(tmp_path)]).trackers == ()
    opt = parse_train(["--dataroot", str(tmp_path), "--trackers", "TensorBoard, wandb"])
    assert opt.trackers == ("tensorboard", "wandb")


def test_a_misspelled_tracker_is_corrected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--trackers: 'tensorbord' is no such tracker.*tensorboard"):
        parse_train(["--dataroot", str(tmp_path), "--trackers", "tensorbord"])
