"""Learning rate by epoch, with CycleGAN's policies."""

from __future__ import annotations

import math
from typing import Any

LR_POLICIES = ("linear", "step", "plateau", "cosine")
_STEP_FACTOR = 0.1
_PLATEAU_FACTOR = 0.2
_PLATEAU_PATIENCE = 5
_PLATEAU_THRESHOLD = 0.01


class Schedule:
    """The learning rate of each epoch (counted from 1).

    * ``linear``: constant for ``n_epochs``, then down to (almost) 0 over ``n_epochs_decay``;
    * ``step``: × 0.1 every ``decay_iters`` epochs;
    * ``cosine``: half a cosine over all epochs;
    * ``plateau``: × 0.2 when the epoch's mean of the losses that train the derainer has not fallen by 1 % for
      five epochs (CycleGAN's own code feeds this policy a constant).
    """

    def __init__(self, policy: str, base: float, n_epochs: int, n_epochs_decay: int, decay_iters: int) -> None:
        if policy not in LR_POLICIES:
            raise ValueError(f"policy must be one of {LR_POLICIES}, not {policy!r}")
        self.policy, self.base = policy, base
        self.n_epochs, self.n_epochs_decay, self.decay_iters = n_epochs, n_epochs_decay, decay_iters
        self._reduced = 1.0
        self._best = math.inf
        self._bad_epochs = 0

    @property
    def total_epochs(self) -> int:
        """Length of the training."""
        return self.n_epochs + self.n_epochs_decay

    def learning_rate(self, epoch: int) -> float:
        """The rate throughout ``epoch``."""
        if self.policy == "linear":
            return self.base * (1 - max(0, epoch - self.n_epochs) / (self.n_epochs_decay + 1))
        if self.policy == "step":
            return self.base * _STEP_FACTOR ** ((epoch - 1) // self.decay_iters)
        if self.policy == "cosine":
            return self.base * (1 + math.cos(math.pi * (epoch - 1) / self.total_epochs)) / 2
        return self.base * self._reduced

    def end_epoch(self, loss: float) -> None:
        """Tell the plateau policy the epoch's mean loss; the others ignore it."""
        if loss < self._best * (1 - _PLATEAU_THRESHOLD):
            self._best, self._bad_epochs = loss, 0
        else:
            self._bad_epochs += 1
        if self._bad_epochs > _PLATEAU_PATIENCE:
            self._reduced, self._bad_epochs = self._reduced * _PLATEAU_FACTOR, 0

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`end_epoch` has learnt."""
        return {"reduced": self._reduced, "best": self._best, "bad_epochs": self._bad_epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put it back."""
        self._reduced, self._best, self._bad_epochs = state["reduced"], state["best"], state["bad_epochs"]
