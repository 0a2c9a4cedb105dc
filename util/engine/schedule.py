"""Learning rates over a training, by epoch or by step, as factors on the rate that a phase begins with.

Schedules combine: ``WarmUp(Cosine(per_step=True), 500, per_step=True)`` rises over 500 steps, then falls.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

LR_POLICIES = ("linear", "step", "plateau", "cosine")


@dataclass(frozen=True)
class Progress:
    """Where a training stands before a step.

    Attributes:
        images: seen so far, over all epochs.
        step: number of this step, from 0; ``total_steps`` is how many the whole training has.
        epoch: number of this epoch, from 1.
        images_in_epoch: seen so far in this epoch; above 0 at the first step of a run that resumes within an epoch.
    """

    images: int = 0
    step: int = 0
    total_steps: int = 1
    epoch: int = 1
    total_epochs: int = 1
    images_in_epoch: int = 0


Active = Callable[[Progress], bool]
"""Whether a phase is computed in the step at a place of the training."""


def always(progress: Progress) -> bool:
    """In every step."""
    del progress
    return True


def every(n: int, offset: int = -1) -> Active:
    """In every n-th step; by default the last of each n, so that what is active otherwise comes first."""
    return lambda progress: progress.step % n == offset % n


def after(images: int) -> Active:
    """Active once this many images have been seen."""
    return lambda progress: progress.images >= images


@dataclass
class Schedule:
    """Base class, and the constant schedule. With ``per_step`` lengths count steps instead of epochs."""

    per_step: bool = field(default=False, kw_only=True)

    def factor(self, progress: Progress) -> float:
        """What the initial learning rate is multiplied by in the step at ``progress``."""
        if self.per_step:
            return self.at(progress.step, progress.total_steps)
        return self.at(progress.epoch - 1, progress.total_epochs)

    def at(self, done: int, total: int) -> float:
        """The factor after ``done`` of ``total`` epochs or steps."""
        del done, total
        return 1.0

    def end_epoch(self, loss: float) -> None:
        """Take in an epoch's mean loss, for a schedule that depends on it."""

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`end_epoch` has found."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put it back."""


@dataclass
class Constant(Schedule):
    """The initial rate throughout."""


@dataclass
class Linear(Schedule):
    """CycleGAN's: constant for ``constant``, then down to (almost) 0 over ``decay``."""

    constant: int
    decay: int

    def at(self, done: int, total: int) -> float:
        return 1 - max(0, done + 1 - self.constant) / (self.decay + 1)


@dataclass
class Step(Schedule):
    """× ``gamma`` after every ``every``."""

    every: int
    gamma: float = 0.1

    def at(self, done: int, total: int) -> float:
        return float(self.gamma ** (done // self.every))


@dataclass
class MultiStep(Schedule):
    """× ``gamma`` at each of ``milestones``."""

    milestones: tuple[int, ...]
    gamma: float = 0.1

    def at(self, done: int, total: int) -> float:
        return float(self.gamma ** sum(done >= milestone for milestone in self.milestones))


@dataclass
class StepAtShares(Schedule):
    """× ``gamma`` at each of ``shares`` of the whole training, which keeps its form at any length."""

    shares: tuple[float, ...]
    gamma: float = 0.1

    def at(self, done: int, total: int) -> float:
        return float(self.gamma ** sum(done >= share * total for share in self.shares))


@dataclass
class Cosine(Schedule):
    """Half a cosine from 1 to ``minimum`` over the whole training."""

    minimum: float = 0.0

    def at(self, done: int, total: int) -> float:
        return self.minimum + (1 - self.minimum) * ((1 + math.cos(math.pi * done / total)) / 2)


@dataclass
class Plateau(Schedule):
    """× ``gamma`` when the epoch's mean loss has not fallen by ``threshold`` for more than ``patience`` epochs.

    The loss is that of the phases which train the networks that testing needs. (CycleGAN's own code feeds this
    policy a constant.)
    """

    gamma: float = 0.2
    patience: int = 5
    threshold: float = 0.01
    _reduced: float = field(default=1.0, init=False)
    _best: float = field(default=math.inf, init=False)
    _bad_epochs: int = field(default=0, init=False)

    def at(self, done: int, total: int) -> float:
        return self._reduced

    def end_epoch(self, loss: float) -> None:
        if loss < self._best * (1 - self.threshold):
            self._best, self._bad_epochs = loss, 0
        else:
            self._bad_epochs += 1
        if self._bad_epochs > self.patience:
            self._reduced, self._bad_epochs = self._reduced * self.gamma, 0

    def state_dict(self) -> dict[str, Any]:
        return {"reduced": self._reduced, "best": self._best, "bad_epochs": self._bad_epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:  # empty where the run had another schedule before
            self._reduced, self._best, self._bad_epochs = state["reduced"], state["best"], state["bad_epochs"]


@dataclass
class WarmUp(Schedule):
    """From almost 0 in equal steps up to the factor of ``then``, over ``length``."""

    then: Schedule
    length: int

    def factor(self, progress: Progress) -> float:
        return super().factor(progress) * self.then.factor(progress)

    def at(self, done: int, total: int) -> float:
        return min(1.0, (done + 1) / self.length)

    def end_epoch(self, loss: float) -> None:
        self.then.end_epoch(loss)

    def state_dict(self) -> dict[str, Any]:
        return self.then.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.then.load_state_dict(state)


def policy_schedule(policy: str, *, n_epochs: int, n_epochs_decay: int, decay_iters: int) -> Schedule:
    """The schedule that ``--lr_policy`` names; raises :class:`ValueError` if it is not one of :data:`LR_POLICIES`."""
    if policy == "linear":
        return Linear(n_epochs, n_epochs_decay)
    if policy == "step":
        return Step(decay_iters)
    if policy == "cosine":
        return Cosine()
    if policy == "plateau":
        return Plateau()
    raise ValueError(f"policy must be one of {LR_POLICIES}, not {policy!r}")
