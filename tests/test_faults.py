"""What goes wrong while a training runs: it goes on, or ends with one sentence and everything saved that can be."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import train as train_program
from options.types import duration
from tests.conftest import small_model_flags
from tests.test_engine import BATCH, TwoPhases
from util.engine import interrupt as interrupt_module
from util.engine.interrupt import Deadline, Interrupt
from util.engine.nonfinite import MOST_IN_A_ROW, LossWatch, NotFinite, Step, check_weights, veto
from util.engine.stepper import Stepper
from util.errors import EXIT_TERMINATED, EXIT_TIME_LIMIT, EXIT_USER_ERROR, Terminated, entry_point
from util.images import save_png

SHORT = ("--n_epochs_decay", "0", "--print_freq", "1", "--save_latest_freq", "1000", "--save_epoch_freq", "1000")


class Run:
    """A small training by the user's own command."""

    def __init__(self, folder: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.dataset, self._capsys = folder / "checkpoints" / "run", dataset, capsys

    def __call__(self, *flags: str, epochs: int = 3, model: str = "cut") -> tuple[int, list[str]]:
        """Exit code, and the lines on standard error."""
        where = ["--dataroot", str(self.dataset), "--name", "run", "--checkpoints_dir", str(self.folder.parent)]
        small = [*small_model_flags(model), *SHORT, "--n_epochs", str(epochs)]
        code = train_program.main([*where, *small, *flags])
        text = self._capsys.readouterr().err
        assert "Traceback" not in text
        return code, text.replace("\r", "\n").splitlines()

    @property
    def state(self) -> Any:
        return torch.load(self.folder / "training_state.pth", weights_only=True)

    @property
    def images_saved(self) -> int:
        return self.state["position"]["total_images"]


@pytest.fixture
def run(tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(tmp_path, dataset, capsys)


def at_step(monkeypatch: pytest.MonkeyPatch, number: int, happen: Callable[[], None]) -> None:
    """Let something happen just before the step after so many images."""
    step = Stepper.step

    def step_and_more(self: Stepper, batch: Any, images_seen: int, **rest: Any) -> Any:
        if images_seen == number:
            happen()
        return step(self, batch, images_seen, **rest)

    monkeypatch.setattr(Stepper, "step", step_and_more)


# ---- losses that are not finite ----


def poison(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    """Make the generator's adversarial loss NaN in these steps, counted by the images before them."""
    from models.cut_model import CUTModel

    step, losses, seen = Stepper.step, CUTModel.generator_losses, 0

    def remember(self: Stepper, batch: Any, images_seen: int, **rest: Any) -> Any:
        nonlocal seen
        seen = images_seen
        return step(self, batch, images_seen, **rest)

    def poisoned(self: Any, passed: Any) -> dict[str, Tensor]:
        terms = losses(self, passed)
        return {
            name: term * float("nan") if seen in steps and name == "G_GAN" else term for name, term in terms.items()
        }

    monkeypatch.setattr(Stepper, "step", remember)
    monkeypatch.setattr(CUTModel, "generator_losses", poisoned)


def test_nan_stops_with_term_place_and_files_and_keeps_the_state(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, {5})
    code, lines = run("--save_latest_freq", "2", "--print_freq", "1000")
    assert code == EXIT_USER_ERROR
    assert lines[-1].startswith("error: the loss G_GAN is nan (epoch 2, image 6 of all, batch of '")
    assert "rainy_" in lines[-1] and "clean_" in lines[-1] and "--on_nan skip" in lines[-1]
    assert run.images_saved == 4


def test_nan_skipped_leaves_that_update_out_and_nothing_else(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, {5})
    code, lines = run("--on_nan", "skip")
    assert code == 0
    assert sum("--on_nan skip: the loss G_GAN is nan" in line for line in lines) == 1
    state = run.state
    steps = {name: {int(e["step"]) for e in opt["state"].values()} for name, opt in state["optimizers"].items()}
    assert steps["D"] == {12} and steps["G"] == {11}
    assert all(value.isfinite().all() for net in state["nets"].values() for value in net.values())


def test_nan_without_end_stops_even_when_skipping(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("util.engine.nonfinite.MOST_IN_A_ROW", 4)
    poison(monkeypatch, set(range(2, 99)))
    code, lines = run("--on_nan", "skip")
    assert code == EXIT_USER_ERROR and "4 steps in a row" in lines[-1]


class Poisoned(TwoPhases):
    def losses(self, x: Tensor) -> dict[str, Tensor]:
        return {"product": super().losses(x)["product"] * x.max()}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_vetoed_update_changes_no_weight_moment_or_count(value: float) -> None:
    model = Poisoned()
    stepper = Stepper(
        model,
        device=torch.device("cpu"),
        precision="fp32",
        learning_rate=0.1,
        betas=(0.5, 0.999),
        seed=1,
        skip_non_finite=True,
    )
    stepper.step(BATCH, 0)
    before = torch.cat([p.detach().clone() for n in model.nets.values() for p in n.parameters()])
    moments = str({name: optimizer.state_dict() for name, optimizer in stepper.optimizers.items()})
    stepper.step({"A": torch.full((1, 1), value)}, 1)
    assert torch.equal(before, torch.cat([p for n in model.nets.values() for p in n.parameters()]))
    assert moments == str({name: optimizer.state_dict() for name, optimizer in stepper.optimizers.items()})
    stepper.step(BATCH, 2)
    assert not torch.equal(before, torch.cat([p for n in model.nets.values() for p in n.parameters()]))


@pytest.mark.parametrize(
    ("loss", "gradient", "expected"), [(1.0, 1.0, 0.0), (float("nan"), 1.0, 1.0), (1.0, float("inf"), 1.0)]
)
def test_a_veto_looks_at_loss_and_gradients(loss: float, gradient: float, expected: float) -> None:
    assert veto(torch.tensor(loss), [torch.ones(3), torch.tensor([0.0, gradient]), None]).item() == expected


def test_skips_in_a_row_are_counted_anew_after_a_good_step() -> None:
    watch, step = LossWatch("skip"), Step(1, 1, ("a.png",))
    for value in [float("nan")] * (MOST_IN_A_ROW - 1) + [1.0] + [float("nan")] * (MOST_IN_A_ROW - 1):
        watch.look(step, {"G": torch.tensor(value)})
    with pytest.raises(NotFinite, match=f"{MOST_IN_A_ROW} steps in a row"):
        watch.look(step, {"G": torch.tensor(float("nan"))})


def test_networks_with_nan_are_not_saved() -> None:
    network = nn.Linear(2, 2)
    check_weights({"G": network})
    with torch.no_grad():
        network.weight[0, 1] = float("nan")
    with pytest.raises(NotFinite, match="the network G"):
        check_weights({"G": network})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_a_loss_is_looked_at_a_step_later() -> None:
    watch = LossWatch()
    watch.look(Step(1, 1, ("bad.png",)), {"G": torch.tensor(float("nan"), device="cuda")})
    with pytest.raises(NotFinite, match=r"image 1 of all, batch of 'bad\.png'"):
        watch.look(Step(1, 2, ("good.png",)), {"G": torch.tensor(1.0, device="cuda")})
    watch.look(Step(1, 3, ("bad.png",)), {"G": torch.tensor(float("nan"), device="cuda")})
    with pytest.raises(NotFinite, match="image 3"):
        watch.settle()


# ---- memory, disks, images, workers ----


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError("CUDA out of memory."), MemoryError(),
                                   RuntimeError("DefaultCPUAllocator: can't allocate memory")])  # fmt: skip
def test_out_of_memory_says_what_to_reduce(run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def happen() -> None:
        raise error

    at_step(monkeypatch, 2, happen)
    code, lines = run("--save_latest_freq", "1")
    assert code == EXIT_USER_ERROR and lines[-1].startswith("error: out of memory: a step with 1 images of 32×32")
    assert "--batch_size" in lines[-1] and "--crop_size" in lines[-1]
    assert run.images_saved == 2


def full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_costs_the_page_but_not_the_training(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    at_step(monkeypatch, 2, lambda: monkeypatch.setattr("util.trackers.web_page.save_png", full))
    code, lines = run("--update_html_freq", "1", epochs=1)
    assert code == 0 and run.images_saved == 4
    assert sum("WebPage is switched off" in line for line in lines) >= 1
    assert save_png is not full


def test_a_full_disk_at_the_tables_costs_them_only(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    at_step(monkeypatch, 2, lambda: monkeypatch.setattr("util.trackers.loss_files.LossFiles._write_log", full))
    code, lines = run("--no_html", epochs=1)
    assert code == 0 and run.images_saved == 4
    assert sum("LossFiles is switched off" in line for line in lines) == 1


def test_a_full_disk_at_a_save_ends_with_the_state_before(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    at_step(monkeypatch, 3, lambda: monkeypatch.setattr(os, "fsync", full))
    code, lines = run("--save_latest_freq", "2", "--no_html", epochs=1)
    assert code == EXIT_USER_ERROR
    assert "training_state.pth: cannot be written (No space left on device)" in lines[-1]
    assert run.images_saved == 2
    monkeypatch.undo()
    assert run("--continue_train", epochs=1)[0] == 0


def test_a_deleted_folder_costs_no_training(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    at_step(monkeypatch, 2, lambda: shutil.rmtree(run.folder))
    code, lines = run("--no_html", epochs=1)
    assert code == 0 and any("was deleted; it is made again" in line for line in lines)
    assert run.images_saved == 4 and (run.folder / "options.yaml").is_file()
    assert run("--continue_train", "--no_html", epochs=2)[0] == 0


@pytest.mark.parametrize("harm", ["deleted", "cut off"])
def test_an_image_that_breaks_between_epochs(run: Run, monkeypatch: pytest.MonkeyPatch, harm: str) -> None:
    path = run.dataset / "trainA" / "rainy_1.png"

    def happen() -> None:
        path.write_bytes(path.read_bytes()[:100])
        if harm == "deleted":
            path.unlink()

    at_step(monkeypatch, 3, happen)
    code, lines = run("--cache", "none", "--no_html")
    assert code == EXIT_USER_ERROR and "rainy_1.png" in lines[-1] and "--skip_bad" in lines[-1]
    assert run.images_saved >= 4  # everything that was trained
    picture = np.zeros((36, 40, 3), dtype=np.uint8)
    Image.fromarray(picture).save(path)
    assert run("--continue_train", "--no_html")[0] == 0


def test_with_the_cache_a_broken_image_is_not_even_noticed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    at_step(monkeypatch, 4, lambda: shutil.rmtree(run.dataset / "trainA"))
    assert run("--no_html", "--serial_batches")[0] == 0


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_killed_worker_is_one_sentence_and_costs_no_training(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def happen() -> None:
        for worker in multiprocessing.active_children():
            os.kill(worker.pid or 0, signal.SIGKILL)

    at_step(monkeypatch, 2, happen)
    code, lines = run("--num_threads", "1", "--no_html", "--cache", "none", epochs=9)
    assert code == EXIT_USER_ERROR
    assert lines[-1].startswith("error: a process that reads images was killed, most likely")
    assert "--num_threads" in lines[-1]
    assert run.images_saved >= 3


# ---- signals and time ----


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_finishes_the_step_and_says_how_to_go_on(
    run: Run, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    at_step(monkeypatch, 2, lambda: os.kill(os.getpid(), number))
    code, lines = run("--no_html")
    assert code == 128 + number and run.images_saved == 3
    assert "--continue_train" in lines[-1]
    assert not (run.folder / "run.lock").exists()


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_stops_at_once_with_the_last_state(
    run: Run, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def happen() -> None:
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)

    at_step(monkeypatch, 3, happen)
    code, lines = run("--no_html", "--save_latest_freq", "2")
    assert code == 128 + number and lines[-1] == "interrupted"
    assert run.images_saved == 2
    assert not (run.folder / "run.lock").exists()


def test_the_limit_of_time_stops_saves_and_goes_on(run: Run) -> None:
    code, lines = run("--time_limit", "0.000001", "--no_html")
    assert code == EXIT_TIME_LIMIT and run.images_saved == 1 and "--continue_train" in lines[-1]
    assert run("--continue_train", "--no_html", "--time_limit", "1:00")[0] == 0
    assert run.images_saved == 12


def test_a_deadline_leaves_room_for_a_step_and_a_save(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(interrupt_module.time, "monotonic", lambda: now)
    deadline = Deadline(10000.0)  # of which a minute is spare
    deadline.observe("step", 30.0)
    deadline.observe("save", 10.0)
    deadline.observe("step", 20.0)
    now = 11000.0 - 101.0
    assert not deadline.reached
    now += 2.0
    assert deadline.reached and Interrupt(deadline).requested


def test_a_clock_that_jumps_moves_no_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    deadline = Deadline(3600.0)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1e6)
    assert not deadline.reached


@pytest.mark.parametrize(("text", "hours"), [("11:30", 11.5), ("0:06", 0.1), ("24", 24.0), ("0.5", 0.5)])
def test_a_limit_of_time_is_hours_or_hours_and_minutes(text: str, hours: float) -> None:
    assert duration(text) == pytest.approx(hours)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1:60", ":30", "soon", "", "0:00"])
def test_other_limits_of_time_are_refused(run: Run, text: str) -> None:
    code, lines = run("--time_limit", text)
    assert code == EXIT_USER_ERROR and "--time_limit" in lines[-1]


def test_terminated_at_once_has_the_code_of_its_signal() -> None:
    @entry_point
    def main(argv: Any) -> int:
        raise Terminated

    assert main() == EXIT_TERMINATED


def test_training_draws_from_torchs_generator_alone(run: Run) -> None:
    """Whose seed every step sets, so there is no state of a generator to keep."""
    import random

    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    assert run("--no_html", epochs=1, model="cycle_gan")[0] == 0
    assert before == (random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]
