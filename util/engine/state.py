"""What a training run continues from: networks, optimizers, schedule, position and records."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from util.engine.records import Records
from util.engine.step import Stepper
from util.engine.weights import Describe, put_into
from util.errors import UserError

logger = logging.getLogger(__name__)

FORMAT = 5
_ONE_SCHEDULE = 4  # what was written when all phases had the same learning rate; complete otherwise
_WITHOUT_TAGS = 3  # and before the state knew its network files
_WITHOUT_VALIDATION = 2  # and before there were validations


@dataclass
class Position:
    """Where a training stands: the epoch (from 1), what is done of it, and of everything.

    ``images_per_epoch`` is the length of the epoch that ``images_in_epoch`` belongs to, and ``watched_loss`` the
    sum over these images that ``--lr_policy plateau`` looks at.
    """

    epoch: int = 1
    images_in_epoch: int = 0
    images_per_epoch: int = 0
    total_images: int = 0
    watched_loss: float = 0.0

    def advance(self, images: int) -> None:
        """Count one batch."""
        self.images_in_epoch += images
        self.total_images += images

    def next_epoch(self) -> None:
        """Begin the next epoch."""
        self.epoch += 1
        self.restart_epoch()

    def restart_epoch(self) -> None:
        """Begin this epoch anew."""
        self.images_in_epoch = 0
        self.watched_loss = 0.0

    def finished_epoch(self) -> int:
        """The number of the epoch that has just ended; 0 within an epoch, and where nothing was trained."""
        return self.epoch - 1 if self.images_in_epoch == 0 and self.total_images > 0 else 0

    def first_batch(self, batch_size: int, images_per_epoch: int) -> int:
        """Number of the batch to continue with; begins the epoch again if it is no longer made of the same batches."""
        same_length = self.images_per_epoch in (0, images_per_epoch)
        ended = self.images_in_epoch == images_per_epoch
        if not (same_length and (ended or self.images_in_epoch % batch_size == 0)):
            logger.warning("data or --batch_size have changed: epoch %d begins anew", self.epoch)
            self.restart_epoch()
        self.images_per_epoch = images_per_epoch
        return -(-self.images_in_epoch // batch_size)


@dataclass
class TrainingState:
    """Everything that a resumed run needs; one more thing is one more field, here and in the two methods.

    ``tags`` are the names under which the networks of this very moment are kept as files. ``options`` is the text of
    the run's options, for a reader who has only this file. Random generators are not among it: every step draws from a
    seed of its own and every sample from a generator of its own (``Stepper.step``, ``SampleKey``), so that no state of
    a generator outlives a step.
    """

    stepper: Stepper
    total_epochs: int
    position: Position = field(default_factory=Position)
    records: Records = field(default_factory=Records)
    tags: tuple[str, ...] = ()
    options: str = ""

    @contextlib.contextmanager
    def tested_nets(self) -> Iterator[Mapping[str, nn.Module]]:
        """The networks by name as testing uses them: averaged, where averages are kept, within this context."""
        with self.stepper.ema_scope():
            yield self.stepper.model.nets

    def state_dict(self) -> dict[str, Any]:
        """All of it as tensors and plain values, which :func:`util.engine.weights.load_file` reads."""
        return {
            "format": FORMAT,
            "position": dataclasses.asdict(self.position),
            **self.stepper.state_dict(),
            "validation": self.records.state_dict(),
            "tags": list(self.tags),
            "options": self.options,
            "versions": {"python": platform.python_version(), "torch": str(torch.__version__), "numpy": np.__version__},
        }

    def load_state_dict(self, state: Any, file: Path, describe: Describe) -> None:
        """Put back what :meth:`state_dict` gave; ``file`` is named where that fails.

        Raises:
            UserError: it is of another version or belongs to other options.
        """
        _check_format(state, file)
        model = self.stepper.model
        if model.nets.keys() != state["nets"].keys():
            raise UserError(
                f"{file} has networks {', '.join(state['nets'])}, but these options make "
                f"{', '.join(model.nets)}; continue with the model and the losses of the run."
            )
        if self.stepper.optimizers.keys() != state["optimizers"].keys():
            raise UserError(
                f"{file} has phases {', '.join(state['optimizers'])}, but these options make "
                f"{', '.join(self.stepper.optimizers)}; continue with the model and the losses of the run."
            )
        found = {"stepper": {}, "schedules": dict.fromkeys(self.stepper.schedules, state.get("schedule", {})), **state}
        self.stepper.load_state_dict(found, lambda network, stored: put_into(network, stored, file, describe))
        self.position = Position(**state["position"])
        if state["format"] == _WITHOUT_VALIDATION:
            logger.info("%s is from before validations: the best checkpoints are chosen from here on", file)
        else:
            self.records.load_state_dict(state["validation"])
        self.tags = tuple(state.get("tags", ()))


def _check_format(state: Any, file: Path) -> None:
    found = state.get("format") if isinstance(state, Mapping) else None
    if found in (_WITHOUT_VALIDATION, _WITHOUT_TAGS, _ONE_SCHEDULE, FORMAT):
        return
    if isinstance(found, int) and found > FORMAT:
        raise UserError(f"{file} was written by a newer version of this program (format {found}); update this one.")
    raise UserError(f"{file} is not a training state of this version; start another --name.")
