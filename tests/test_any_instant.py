"""A training that dies at any of its disk operations, each in turn, ends with the files of the uninterrupted one.

One run is made, and before each operation its folder is copied: what a process that is killed at that instant leaves
behind. Then each copy goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import train as train_program
from tests.conftest import small_model_flags, write_rain_dataset
from tests.disk_operations import operations
from util.engine.checkpoint import PREVIOUS_STATE_FILE, STATE_FILE
from util.engine.records import BEST_FILE
from util.names import OPTIONS_FILE

RUN = "run"
OF_THE_MOMENT = {"options", "versions"}  # of a state: the command line is among the options
TEXTS = ("losses.csv", "metrics.csv", BEST_FILE)
LEAST_OPERATIONS, LEAST_INSTANTS = 200, 20  # many operations, such as a part of a file, change nothing that counts


def differences(first: Any, second: Any, path: str = "") -> list[str]:
    """Where two states differ in any bit."""
    if isinstance(first, dict):
        if first.keys() != second.keys():
            return [f"{path}: other keys"]
        return [found for key in first for found in differences(first[key], second[key], f"{path}.{key}")]
    if isinstance(first, (list, tuple)):
        if len(first) != len(second):
            return [f"{path}: other length"]
        return [
            f for i, (a, b) in enumerate(zip(first, second, strict=True)) for f in differences(a, b, f"{path}[{i}]")
        ]
    same = torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second
    return [] if same else [path]


def state_of(run: Path) -> dict[str, Any]:
    """The training state, without what differs between two runs that are the same."""
    state = torch.load(run / STATE_FILE, weights_only=True)
    return {key: value for key, value in state.items() if key not in OF_THE_MOMENT}


def names_in(run: Path) -> set[str]:
    """All files; the state before the last depends on how often there was a save."""
    return {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()} - {PREVIOUS_STATE_FILE}


def check_same(whole: Path, parts: Path, told: str) -> None:
    """Two runs have the same files, and in them the same."""
    assert names_in(whole) == names_in(parts), told
    for name in TEXTS:
        assert (whole / name).read_bytes() == (parts / name).read_bytes(), (told, name)
    assert differences(state_of(whole), state_of(parts)) == [], told
    for path in whole.glob("*_net_*.pth"):
        if path.read_bytes() != (parts / path.name).read_bytes():
            nets = [torch.load(run / path.name, weights_only=True) for run in (whole, parts)]
            assert differences(*nets) == [], (told, path.name)
    options = [yaml.safe_load((run / OPTIONS_FILE).read_text(encoding="utf-8")) for run in (whole, parts)]
    for part in ("given", "resolved"):
        assert {**options[0][part], "checkpoints_dir": ""} == {**options[1][part], "checkpoints_dir": ""}, told


def looks(run: Path, *, unfinished: bool) -> str:
    """What a folder holds; of its ``unfinished`` files, if they count, that there are some."""
    names = sorted(path for path in run.rglob("*") if path.is_file())
    whole = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in names if path.suffix != ".tmp"}
    return json.dumps([whole, unfinished and len(whole) < len(names)])


def instants_of(run: Path, train: Callable[[], int], copies: Path, *, every: bool) -> tuple[dict[int, str], int]:
    """Train once, and keep a copy of ``run`` at each operation that finds it other than before.

    With ``every``, also at those that find nothing new but an unfinished file, or that it is gone.
    Returns number and name of these operations, and how many there were in all.
    """
    seen: dict[int, str] = {}
    last = ""

    def keep(name: str, number: int) -> None:
        nonlocal last
        if (now := looks(run, unfinished=every)) != last:
            shutil.copytree(run, copies / str(number) / RUN)
            last, seen[number] = now, name

    with operations(keep, "unlink") as done:
        assert train() == 0
    return seen, len(done)


def die_everywhere(tmp_path: Path, model: str, *flags: str, every: bool) -> None:
    """Train an epoch, then another one that dies at every operation, and goes on."""
    data = write_rain_dataset(tmp_path / "data")
    for domain in "AB":
        shutil.copytree(data / f"test{domain}", data / f"val{domain}")
        (data / f"val{domain}" / "scene_1.png").unlink()
    small = [*small_model_flags(model), "--ngf", "1", "--ndf", "1", "--max_dataset_size", "1", "--n_epochs_decay", "0"]
    often = ["--print_freq", "1", "--val_freq", "1", "--save_epoch_freq", "1", "--keep", "1"]

    def train(checkpoints: Path, *more: str) -> int:
        return train_program.main(["--name", RUN, "--checkpoints_dir", str(checkpoints), *more])

    whole = tmp_path / "whole" / RUN
    assert train(whole.parent, "--dataroot", str(data), *small, *often, *flags, "--n_epochs", "1") == 0
    go_on = ("--continue_train", "--n_epochs", "2")
    instants, count = instants_of(whole, lambda: train(whole.parent, *go_on), tmp_path / "copies", every=every)
    assert count >= LEAST_OPERATIONS and len(instants) >= LEAST_INSTANTS
    epochs = {best["epoch"] for best in state_of(whole)["validation"]["best"].values()}
    assert epochs == {1, 2}, "a validation that is the best by some metrics and not by others is what this is about"
    for number, name in instants.items():
        parts = tmp_path / "copies" / str(number) / RUN
        assert train(parts.parent, *go_on) == 0
        check_same(whole, parts, f"killed before operation {number}, {name}")
        shutil.rmtree(parts)


def test_a_training_killed_at_any_disk_operation_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: None)  # which takes time, and only the machine's death needs it
    die_everywhere(tmp_path, "cut", "--lambda_NCE", "0", "--no_html", every=False)


@pytest.mark.heavy
@pytest.mark.parametrize("model", ["cclgan", "cut", "cycle_gan"])
def test_every_model_killed_at_any_disk_operation_ends_the_same(tmp_path: Path, model: str) -> None:
    die_everywhere(tmp_path, model, "--update_html_freq", "1", "--ema", "0.5", every=True)
