"""The folder of a training run, and its training state: one file from which a run goes on."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from util.engine.checkpoint import Describe, load_file, put_into, save_atomically, save_nets
from util.engine.schedule import Schedule
from util.engine.stepper import Stepper
from util.errors import UserError

logger = logging.getLogger(__name__)

OPTIONS_FILE = "options.yaml"
STATE_FILE = "training_state.pth"
LATEST = "latest"
_FORMAT = 2


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

    def first_batch(self, batch_size: int, images_per_epoch: int) -> int:
        """Number of the batch to go on with; begins the epoch anew if it is no longer made of the same batches."""
        same_length = self.images_per_epoch in (0, images_per_epoch)
        ended = self.images_in_epoch == images_per_epoch
        if not (same_length and (ended or self.images_in_epoch % batch_size == 0)):
            logger.warning("data or --batch_size have changed: epoch %d begins anew", self.epoch)
            self.restart_epoch()
        self.images_per_epoch = images_per_epoch
        return -(-self.images_in_epoch // batch_size)


class RunFolder:
    """``checkpoints/<name>``: options, network files, training state."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def options_file(self) -> Path:
        """The run's resolved options."""
        return self.path / OPTIONS_FILE

    @property
    def state_file(self) -> Path:
        """The one file that a run goes on from."""
        return self.path / STATE_FILE

    def create(self, *, fresh: bool) -> None:
        """Make the folder; a ``fresh`` run moves an earlier run of the same name aside instead of overwriting it.

        Raises:
            UserError: the folder cannot be made or written to.
        """
        try:
            if fresh and (self.state_file.is_file() or any(self.path.glob("*_net_*.pth"))):
                aside = self._free_name()
                self.path.rename(aside)
                logger.warning("%s held earlier weights; it is now %s", self.path, aside)
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as reason:
            raise UserError(
                f"--checkpoints_dir: {self.path} cannot be written ({reason.strerror}); choose another folder."
            ) from reason

    def _free_name(self) -> Path:
        number = 1
        while (candidate := self.path.with_name(f"{self.path.name}.{number}")).exists():
            number += 1
        return candidate

    def save(self, tag: str, stepper: Stepper, schedule: Schedule, position: Position) -> None:
        """Write the training state, then the networks under ``latest`` and, if it is another one, ``tag``.

        The state holds the networks too, so that whatever instant the process dies at, it is complete in itself.
        """
        model = stepper.model
        save_atomically(
            {
                "format": _FORMAT,
                "position": dataclasses.asdict(position),
                "nets": {name: network.state_dict() for name, network in model.nets.items()},
                "optimizers": {name: optimizer.state_dict() for name, optimizer in stepper.optimizers.items()},
                "schedule": schedule.state_dict(),
                "model": {name: part.state_dict() for name, part in model.state.items()},
                "torch": str(torch.__version__),
            },
            self.state_file,
        )
        for each in {LATEST, tag}:
            save_nets(model.nets, self.path, each)

    def load_state(self, stepper: Stepper, schedule: Schedule, describe: Describe) -> Position:
        """Put everything back that :meth:`save` wrote, and return where the run stood.

        Raises:
            UserError: the file is damaged or belongs to other options.
        """
        state: Any = load_file(self.state_file, stepper.device)
        if not isinstance(state, dict) or state.get("format") != _FORMAT:
            raise UserError(f"{self.state_file} is not a training state of this version; start another --name.")
        model = stepper.model
        if model.nets.keys() != state["nets"].keys():
            raise UserError(
                f"{self.state_file} has networks {', '.join(state['nets'])}, but these options make "
                f"{', '.join(model.nets)}; continue with the model and the losses of the run."
            )
        for name, network in model.nets.items():
            put_into(network, state["nets"][name], self.state_file, describe)
        stepper.load_optimizers(state["optimizers"])
        for name, part in model.state.items():
            if name in state["model"]:
                part.load_state_dict(state["model"][name])
        schedule.load_state_dict(state["schedule"])
        return Position(**state["position"])
