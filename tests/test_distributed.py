"""Several processes train as one would: gloo on the CPU, in forks that are told what torchrun tells."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import train as train_program
from data.loader import TrainingLoader
from models import create_model
from options import parse_train
from tests.conftest import small_model_flags, write_rain_dataset
from tests.ranks_runner import Ranks, difference, in_float64, tensors, training
from util.engine import distributed
from util.engine.checkpoint import STATE_FILE, NullCheckpointer
from util.engine.schedule import Progress
from util.engine.step import Stepper
from util.errors import EXIT_TERMINATED, EXIT_TIME_LIMIT, EXIT_USER_ERROR, UserError
from util.trackers.csv_files import read_table

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

EXACT = {
    "cut": ("--num_patches", "64"),
    "cycle_gan": ("--pool_size", "2"),
    "cclgan": ("--lambda_inter", "0", "--lambda_intra", "0", "--ema", "0.5", "--clip_grad", "0.1"),
}
"""Everything but losses that are no means over the images of a batch. Locations and pools draw at random."""
SECONDS_TO_NOTICE = 20.0  # a few milliseconds, on a machine that has nothing else to do
UNWANTED = ("Traceback", "Warning")
Step = Callable[..., Any]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pairs an epoch; imports what every fork would import otherwise."""
    folder = write_rain_dataset(tmp_path_factory.mktemp("ranks"), train_images=2)
    create_model(parse_train(flags(folder, folder, "warm", "cut")), training=True)
    return folder


def flags(data: Path, checkpoints: Path, name: str, model: str, *more: str) -> list[str]:
    where = ["--dataroot", str(data), "--name", name, "--checkpoints_dir", str(checkpoints)]
    length = ["--n_epochs", "2", "--n_epochs_decay", "0", "--print_freq", "1", "--val_freq", "0"]
    size = ["--load_size", "24", "--crop_size", "24", "--batch_size", "2"]
    return [*where, *small_model_flags(model), *length, *size, "--no_html", *more]


def train(
    log: Path, command: list[str], count: int, *codes: int, prepare: Callable[[int], None] | None = None
) -> Ranks:
    """Train to the end, which is with these exit codes, by default 0."""
    with training(log, command, count, prepare) as ranks:
        found = ranks.codes()
        assert found == list(codes or [0] * count), ranks.outputs
        assert not any(word in output for output in ranks.outputs for word in UNWANTED), ranks.outputs
        return ranks


def state_of(run: Path) -> Any:
    return torch.load(run / STATE_FILE, weights_only=True)


def images_saved(run: Path) -> int:
    return int(state_of(run)["position"]["total_images"])


def same_bits(one: Any, two: Any) -> bool:
    return all(difference(one[part], two[part]) == 0 for part in ("nets", "optimizers"))


def at_step(number: int, rank: int, happen: Callable[[Any], None]) -> Callable[[int], None]:
    """In one of the processes, let something happen to the batch just before the step after so many images."""

    def prepare(this: int) -> None:
        step: Step = Stepper.step

        def step_and_more(self: Stepper, batch: Any, progress: Progress, **rest: Any) -> Any:
            if progress.images == number and this == rank:
                happen(batch)
            return step(self, batch, progress, **rest)

        Stepper.step = step_and_more  # type: ignore[method-assign]

    return prepare


def send(number: signal.Signals) -> Callable[[Any], None]:
    return lambda batch: os.kill(os.getpid(), number)


# ---- the same mathematics ----


@pytest.mark.parametrize("model", EXACT)
def test_two_processes_train_what_one_does(tmp_path: Path, data: Path, model: str) -> None:
    """Three images an epoch in batches of two: the second process has nothing of every epoch's last batch."""

    def and_keep_the_seconds_state(rank: int) -> None:
        in_float64(rank)
        NullCheckpointer.save = lambda self, tag, state: torch.save(state.state_dict(), tmp_path / STATE_FILE)  # type: ignore

    for count in (1, 2):
        ranks = train(
            tmp_path / f"{count}",
            flags(data, tmp_path, str(count), model, *EXACT[model]),
            count,
            prepare=and_keep_the_seconds_state,
        )
    assert ranks.outputs[1] == "" and "epoch 2/2 done" in ranks.outputs[0]
    one, two, second = (state_of(tmp_path / name) for name in ("1", "2", "."))
    assert images_saved(tmp_path / "2") == images_saved(tmp_path / "1") == 6
    for part in ("nets", "optimizers"):
        assert difference(one[part], two[part]) < 1e-6, part
    if model == "cycle_gan":
        assert difference(one["model"], two["model"]) < 1e-6
    if model == "cclgan":
        assert difference(one["stepper"], two["stepper"]) < 1e-6
    assert same_bits(two, second)
    tables = [read_table(tmp_path / name / "losses.csv") for name in ("1", "2")]
    assert len(tables[0]) == 4
    for row, other in zip(*tables, strict=True):
        assert other == pytest.approx(row, rel=1e-6, abs=1e-6)


@pytest.mark.heavy
def test_in_single_precision_two_processes_agree_where_adam_does_not_step_by_rounding(
    tmp_path: Path, data: Path
) -> None:
    """Biases in front of an instance norm have no gradient but rounding, and no effect."""
    for count in (1, 2):
        train(tmp_path / "log", flags(data, tmp_path, str(count), "cycle_gan", "--pool_size", "0"), count)
    one, two = (state_of(tmp_path / name)["nets"] for name in ("1", "2"))
    for name, network in one.items():
        for key, weight in network.items():
            if weight.ndim > 1:
                assert difference(weight, two[name][key]) < 1e-5, f"{name}.{key}"


def test_pieces_a_skipped_step_and_averages_are_the_same_in_all_processes(tmp_path: Path, data: Path) -> None:
    """Batches of four in pieces; NaN in the second process's images alone, which nobody may learn from."""
    more = ("--batch_size", "4", "--accumulate", "2", "--on_nan", "skip", "--ema", "0.5", "--pool_size", "3")

    def prepare(rank: int) -> None:
        at_step(0, 1, lambda batch: batch["A"].fill_(float("nan")))(rank)
        NullCheckpointer.save = lambda self, tag, state: torch.save(state.state_dict(), tmp_path / STATE_FILE)  # type: ignore

    ranks = train(tmp_path / "run", flags(data, tmp_path, "run", "cut", *more), 2, prepare=prepare)
    assert "--on_nan skip" in ranks.outputs[0] and ranks.outputs[1] == ""
    first, second = state_of(tmp_path / "run"), state_of(tmp_path)
    assert same_bits(first, second) and difference(first["stepper"], second["stepper"]) == 0
    assert all(tensor.isfinite().all() for tensor in tensors(first["nets"]))
    assert all(moments["step"] == 1 for moments in first["optimizers"]["G"]["state"].values())


# ---- stopping together ----


def test_a_signal_to_one_process_stops_both_after_the_same_step_and_the_run_goes_on(tmp_path: Path, data: Path) -> None:
    """It goes on with two processes to the bits of an uninterrupted run, and with one as well."""
    command = flags(data, tmp_path, "parts", "cycle_gan", "--pool_size", "2")
    train(tmp_path / "whole", flags(data, tmp_path, "whole", "cycle_gan", "--pool_size", "2"), 2)
    stop = at_step(2, 1, send(signal.SIGTERM))
    ranks = train(tmp_path / "parts", command, 2, EXIT_TERMINATED, EXIT_TERMINATED, prepare=stop)
    assert "stopped and saved; go on with" in ranks.outputs[0] and ranks.outputs[1] == ""
    assert images_saved(tmp_path / "parts") == 3
    again = ["--name", "parts", "--checkpoints_dir", str(tmp_path), "--continue_train", "--display_id", "0"]
    train(tmp_path / "parts", again, 2)
    whole, parts = (state_of(tmp_path / name) for name in ("whole", "parts"))
    assert same_bits(whole, parts) and difference(whole["model"], parts["model"]) == 0
    assert (tmp_path / "whole" / "losses.csv").read_bytes() == (tmp_path / "parts" / "losses.csv").read_bytes()
    train(tmp_path / "parts", [*again, "--n_epochs", "3"], 1)
    assert images_saved(tmp_path / "parts") == 9


def test_the_limit_of_time_of_one_process_is_everybodys(tmp_path: Path, data: Path) -> None:
    def prepare(rank: int) -> None:
        if rank == 1:
            limits.append("--time_limit=0.000001")

    limits: list[str] = flags(data, tmp_path, "run", "cut")
    train(tmp_path / "run", limits, 2, EXIT_TIME_LIMIT, EXIT_TIME_LIMIT, prepare=prepare)


@pytest.mark.heavy
def test_validation_is_the_leaders_and_anybody_can_stop_it(tmp_path: Path, data: Path) -> None:
    command = flags(data, tmp_path, "run", "cut", "--val_freq", "1", "--val_phase", "test")

    def prepare(rank: int) -> None:
        if rank == 0:
            from util.engine.validation import Validator

            score = Validator.score_model

            def score_slowly(self: Validator, model: Any, device: Any, precision: Any, stop: Callable[[], bool]) -> Any:
                while not stop():
                    time.sleep(0.01)
                return score(self, model, device, precision, stop)

            Validator.score_model = score_slowly  # type: ignore[method-assign]
        else:
            at_step(2, 1, lambda batch: signal.setitimer(signal.ITIMER_REAL, 1.0) and None)(rank)
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))

    ranks = train(tmp_path / "stop", command, 2, EXIT_TERMINATED, EXIT_TERMINATED, prepare=prepare)
    assert ranks.outputs[1] == "" and images_saved(tmp_path / "run") == 3
    again = ["--name", "run", "--checkpoints_dir", str(tmp_path), "--continue_train", "--display_id", "0"]
    train(tmp_path / "go on", again, 2)
    assert [row["epoch"] for row in read_table(tmp_path / "run" / "metrics.csv")] == [1, 2]


# ---- faults ----


@pytest.mark.parametrize("rank", [0, 1])
def test_the_others_of_a_killed_process_end_soon_with_a_sentence(tmp_path: Path, data: Path, rank: int) -> None:
    command = flags(data, tmp_path, "run", "cut", "--save_latest_freq", "2")
    with training(tmp_path / "log", command, 2, at_step(3, rank, send(signal.SIGKILL))) as ranks:
        ranks.processes[rank].join(60)
        died = time.monotonic()
        codes = ranks.codes()
        took = time.monotonic() - died
    assert codes[rank] == -signal.SIGKILL and codes[1 - rank] == EXIT_USER_ERROR
    assert took < SECONDS_TO_NOTICE
    *_, last = ranks.outputs[1 - rank].splitlines()
    assert last.startswith("error: rank 1: another" if rank == 0 else "error: another") and "--continue_train" in last
    assert "Traceback" not in "".join(ranks.outputs)
    assert images_saved(tmp_path / "run") == 2
    again = ["--name", "run", "--checkpoints_dir", str(tmp_path), "--continue_train", "--display_id", "0"]
    train(tmp_path / "again", again, 2)
    assert images_saved(tmp_path / "run") == 6


def test_a_process_that_cannot_read_its_images_says_so_and_all_is_saved(tmp_path: Path, data: Path) -> None:
    def prepare(rank: int) -> None:
        epoch = TrainingLoader.epoch

        def broken(self: TrainingLoader, number: int, start_batch: int = 0) -> Iterator[Mapping[str, Any]]:
            for count, batch in enumerate(epoch(self, number, start_batch)):
                if rank == 1 and count == 1:
                    raise UserError("an image is gone.")
                yield batch

        TrainingLoader.epoch = broken  # type: ignore[method-assign, assignment]

    codes = (EXIT_USER_ERROR, EXIT_USER_ERROR)
    ranks = train(tmp_path / "log", flags(data, tmp_path, "run", "cut"), 2, *codes, prepare=prepare)
    assert ranks.outputs[1] == "error: rank 1: an image is gone.\n"
    assert "warning: another process cannot go on" in ranks.outputs[0] and "stopped and saved" in ranks.outputs[0]
    assert images_saved(tmp_path / "run") == 2


def test_a_batch_that_cannot_be_shared_out_is_refused(tmp_path: Path, data: Path) -> None:
    command = flags(data, tmp_path, "run", "cut", "--batch_size", "3")
    ranks = train(tmp_path / "log", command, 2, EXIT_USER_ERROR, EXIT_USER_ERROR)
    assert ranks.outputs[0].startswith("error: --batch_size 3 is what all 2 processes")
    assert ranks.outputs[1].startswith("error: rank 1: --batch_size 3")
    assert not (tmp_path / "run").exists()


@pytest.mark.heavy
def test_a_process_that_falls_silent_is_waited_for_no_longer_than_the_timeout(tmp_path: Path, data: Path) -> None:
    def prepare(rank: int) -> None:
        distributed.TIMEOUT = timedelta(seconds=1)
        at_step(3, 1, send(signal.SIGSTOP))(rank)

    with training(tmp_path / "log", flags(data, tmp_path, "run", "cut"), 2, prepare) as ranks:
        ranks.processes[0].join(SECONDS_TO_NOTICE)
        assert ranks.processes[0].exitcode == EXIT_USER_ERROR
        assert ranks.outputs[0].splitlines()[-1].startswith("error: another process of this training")


def test_parameters_without_a_gradient_are_told_as_nobody_would_wait_for_them(tmp_path: Path, data: Path) -> None:
    def prepare(rank: int) -> None:
        def with_an_idle_network(opt: Any, *, training: bool) -> Any:
            model = create_model(opt, training=training)
            model.nets["idle"] = nn.Linear(1, 1)
            first, *others = model.phases
            model.phases = (replace(first, trains=(*first.trains, "idle")), *others)
            return model

        train_program.create_model = with_an_idle_network  # type: ignore[assignment]

    codes = (EXIT_USER_ERROR, EXIT_USER_ERROR)
    ranks = train(tmp_path / "log", flags(data, tmp_path, "run", "cut"), 2, *codes, prepare=prepare)
    assert "do not depend on 2 parameters of the networks" in ranks.outputs[0]
