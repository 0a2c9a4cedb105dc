"""A small training by the user's own command, in which something goes wrong at a step of choice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import train as train_program
from tests.conftest import small_model_flags
from util.engine.schedule import Progress
from util.engine.step import Stepper

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


def at_step(monkeypatch: pytest.MonkeyPatch, number: int, happen: Callable[[], None]) -> None:
    """Let something happen just before the step after so many images."""
    step = Stepper.step

    def step_and_more(self: Stepper, batch: Any, progress: Progress, **rest: Any) -> Any:
        if progress.images == number:
            happen()
        return step(self, batch, progress, **rest)

    monkeypatch.setattr(Stepper, "step", step_and_more)


def state_of(run: Path) -> Any:
    """The training state of the run in a folder."""
    return torch.load(run / "training_state.pth", weights_only=True)


def tensors(content: Any) -> list[torch.Tensor]:
    """All tensors in nested dictionaries and lists, in order."""
    if isinstance(content, torch.Tensor):
        return [content]
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else []
    return [tensor for part in parts for tensor in tensors(part)]
