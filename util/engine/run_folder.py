"""The folder of a training run, and its training state: one file from which a run goes on."""

from __future__ import annotations

import logging
from pathlib import Path

from util.engine.checkpoint import Describe, load_file, load_nets, save_atomically, save_nets
from util.engine.records import best_tag
from util.engine.state import TrainingState
from util.errors import UserError
from util.files import cannot_write
from util.trackers.loss_files import METRICS_NAME, PREVIOUS_METRICS_NAME

logger = logging.getLogger(__name__)

OPTIONS_FILE = "options.yaml"
STATE_FILE = "training_state.pth"
LATEST = "latest"


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

    def save(self, tag: str, state: TrainingState) -> None:
        """Write the training state, then the networks under ``latest`` and, if it is another one, ``tag``."""
        self.save_state(state)
        for each in {LATEST, tag}:
            save_nets(state.stepper.model.nets, self.path, each)

    def save_state(self, state: TrainingState) -> None:
        """Write the training state alone.

        It holds the networks too, so that whatever instant the process dies at, it is complete in itself.
        """
        save_atomically(state.state_dict(), self.state_file)

    def save_best(self, state: TrainingState) -> None:
        """Keep the networks of this moment under the name of every metric that they are the best by, and the records.

        To be called after :meth:`save_state`: a run that dies in between makes up for it by calling this again.
        """
        for metric in state.records.best_at(state.position.total_images):
            save_nets(state.stepper.model.nets, self.path, best_tag(metric))
        state.records.write(self.path)

    def put_metrics_aside(self) -> None:
        """Keep the table of validations that were measured otherwise under another name, so that it is not mixed.

        Raises:
            UserError: it cannot be renamed.
        """
        table = self.path / METRICS_NAME
        try:
            if table.is_file():
                table.replace(self.path / PREVIOUS_METRICS_NAME)
        except OSError as reason:
            raise cannot_write(self.path / PREVIOUS_METRICS_NAME, reason) from reason

    def resume(self, state: TrainingState, tag: str, describe: Describe) -> bool:
        """Bring ``state`` to where the run stood: from its training state (True), which ``latest`` names.

        Where there is none, as with other projects' weights, load the networks of ``tag`` alone (False).

        Raises:
            UserError: a file is missing, damaged or of other options; another tag although there is a training state.
        """
        if not self.state_file.is_file():
            load_nets(state.stepper.model.nets, self.path, tag, describe)
            logger.warning(
                "%s: only the networks of '%s' are loaded; optimizers start fresh at epoch %d",
                *(self.path, tag, state.position.epoch),
            )
            return False
        if tag != LATEST:
            raise UserError(
                f"--epoch {tag}: {self.path} goes on from its training state only; to start from epoch {tag}, "
                f"copy {tag}_net_*.pth to the folder of another --name."
            )
        state.load_state_dict(load_file(self.state_file, state.stepper.device), self.state_file, describe)
        position = state.position
        logger.info("continuing %s: epoch %d, after %d images in all", self.path, position.epoch, position.total_images)
        return True
