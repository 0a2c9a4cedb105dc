"""The folder of a training run: its training state, one file from which it continues, and its networks' files."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from util.engine.records import best_tag
from util.engine.state import TrainingState
from util.engine.weights import Describe, load_file, load_nets, net_file, save_atomically, save_nets
from util.errors import UserError
from util.files import cannot_write, remove_temporaries, replace, sync_file, write_text_atomically
from util.lock import Lock
from util.names import OPTIONS_FILE
from util.trackers.csv_files import CSV_NAME, LOG_NAME, METRICS_NAME, PREVIOUS_METRICS_NAME

logger = logging.getLogger(__name__)

LOCK_FILE = "run.lock"
STATE_FILE = "training_state.pth"
PREVIOUS_STATE_FILE = "training_state.previous.pth"
DAMAGED_STATE_FILE = "training_state.damaged.pth"
LATEST = "latest"
KEEP_ALL = 0
_TABLES = (CSV_NAME, METRICS_NAME, LOG_NAME)
_NUMBERED = re.compile(r"(iter_)?(\d+)_net_.+\.pth")


class NullCheckpointer:
    """What every process but the main one has in distributed training: it keeps nothing."""

    def remember_options(self) -> None:
        """Nothing."""

    def save(self, tag: str, state: TrainingState) -> None:
        """Nothing."""

    def save_state(self, state: TrainingState) -> None:
        """Nothing."""

    def save_best(self, state: TrainingState) -> None:
        """Nothing."""


class Checkpointer:
    """``checkpoints/<name>``: options, network files, training state, and the lock of the process that trains there.

    A context that gives back the lock, if it was taken. ``keep`` is how many numbered checkpoints stay; 0 = all.
    """

    def __init__(self, path: Path, *, keep: int = KEEP_ALL) -> None:
        self.path, self._keep = path, keep
        self._lock = Lock(
            path / LOCK_FILE,
            f"{path} is being trained by {{owner}}; wait for it, stop it, or use another --name.",
        )
        self._options: str | None = None

    def __enter__(self) -> Checkpointer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    @property
    def options_file(self) -> Path:
        """The run's resolved options."""
        return self.path / OPTIONS_FILE

    @property
    def state_file(self) -> Path:
        """The one file that a run is resumed from."""
        return self.path / STATE_FILE

    @property
    def previous_state_file(self) -> Path:
        """The state before it, in case a disk damages the newest."""
        return self.path / PREVIOUS_STATE_FILE

    def claim(self) -> None:
        """Make sure that no other process trains here, until the end of the context; sweep up what one has left.

        Raises:
            UserError: one does, or the folder cannot be written to.
        """
        if not self._lock.held:
            self._lock.acquire()
            remove_temporaries(self.path)

    def create(self, *, fresh: bool) -> None:
        """Make the folder and claim it; a ``fresh`` run moves an earlier run of the same name aside.

        Raises:
            UserError: the folder cannot be made or written to, or another process trains there.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if fresh and self._holds_weights():
                self.claim()
                aside = self._free_name()
                self._lock.release()  # otherwise it would move along
                replace(self.path, aside)
                logger.warning("%s held earlier weights; it is now %s", self.path, aside)
                self.path.mkdir()
        except OSError as reason:
            raise UserError(
                f"--checkpoints_dir: {self.path} cannot be written ({reason.strerror}); choose another folder."
            ) from reason
        self.claim()

    @property
    def has_state(self) -> bool:
        """Whether there is a training state to continue from."""
        return self.state_file.is_file() or self.previous_state_file.is_file()

    def _holds_weights(self) -> bool:
        return self.has_state or any(self.path.glob("*_net_*.pth"))

    def _free_name(self) -> Path:
        number = 1
        while (candidate := self.path.with_name(f"{self.path.name}.{number}")).exists():
            number += 1
        return candidate

    def save(self, tag: str, state: TrainingState) -> None:
        """Write the training state, then the networks under ``latest`` and, if it is another one, ``tag``.

        Raises:
            UserError: a file cannot be written, or another process has taken over; the state is the old or the new one.
        """
        state.tags = tuple(dict.fromkeys((LATEST, tag)))
        self.save_state(state)
        self._save_nets(state, state.tags)
        self._remove_numbered_before(tag)

    def _save_nets(self, state: TrainingState, tags: Iterable[str]) -> None:
        with state.tested_nets() as nets:
            for tag in tags:
                save_nets(nets, self.path, tag)

    def save_state(self, state: TrainingState) -> None:
        """Write the training state alone; the one before it stays as ``training_state.previous.pth``.

        It holds the networks too, so that whatever instant the process dies at, it is complete in itself. What the
        tables say of the time before it is on the disk first.
        """
        self._be_there()
        state.options = self._options or ""
        for name in _TABLES:
            sync_file(self.path / name)
        save_atomically(state.state_dict(), self.state_file, previous=self.previous_state_file)

    def _be_there(self) -> None:
        """Make sure that the folder is ours and exists; one that was deleted since is made again."""
        if not self.path.is_dir():
            logger.warning("%s was deleted; it is made again, without what was in it", self.path)
            try:
                self.path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise cannot_write(self.path, error) from error
        self._lock.check()
        if self.options_file.is_file():
            if self._options is None:
                with contextlib.suppress(OSError, UnicodeDecodeError):
                    self._options = self.options_file.read_text(encoding="utf-8")
        elif self._options is not None:
            write_text_atomically(self.options_file, self._options)

    def remember_options(self) -> None:
        """Read the options that the run was started with, which become part of its state."""
        self._be_there()

    def _remove_numbered_before(self, tag: str) -> None:
        """Remove all but the last few numbered checkpoints, now that those of ``tag`` are complete."""
        newest = _NUMBERED.fullmatch(net_file(self.path, tag, "any").name)
        if newest is None or self._keep == KEEP_ALL:
            return
        files: dict[int, list[Path]] = {}
        for path in self.path.glob("*_net_*.pth"):
            match = _NUMBERED.fullmatch(path.name)
            if match and match[1] == newest[1] and int(match[2]) <= int(newest[2]):
                files.setdefault(int(match[2]), []).append(path)
        for number in sorted(files)[: -self._keep]:
            for path in files[number]:
                with contextlib.suppress(OSError):
                    path.unlink()

    def save_best(self, state: TrainingState) -> None:
        """Keep the networks of this moment under the name of every metric that they are the best by, and the records.

        To be called after :meth:`save_state`: for a run that dies in between, :meth:`resume` makes up for it.
        """
        self._save_nets(state, map(best_tag, state.records.best_at(state.position.total_images)))
        state.records.write(self.path)

    def put_metrics_aside(self) -> None:
        """Keep the table of validations that were measured otherwise under another name, so that it is not mixed.

        Raises:
            UserError: it cannot be renamed.
        """
        table = self.path / METRICS_NAME
        try:
            if table.is_file():
                replace(table, self.path / PREVIOUS_METRICS_NAME)
        except OSError as reason:
            raise cannot_write(self.path / PREVIOUS_METRICS_NAME, reason) from reason

    def resume(self, state: TrainingState, tag: str, describe: Describe) -> bool:
        """Bring ``state`` to where the run stood: from its training state (True), which ``latest`` names.

        Where there is none, as with other projects' weights, load the networks of ``tag`` alone (False).

        Raises:
            UserError: a file is missing, damaged or of other options; another tag although there is a training state.
        """
        if not self.has_state:
            load_nets(state.stepper.model.nets, self.path, tag, describe)
            logger.warning(
                "%s: only the networks of '%s' are loaded; optimizers start fresh at epoch %d",
                *(self.path, tag, state.position.epoch),
            )
            return False
        if tag != LATEST:
            raise UserError(
                f"--epoch {tag}: {self.path} continues from its training state only; to start from epoch {tag}, use "
                f"--init_from {self.path.name} with another --name."
            )
        content, file = self._load_newest(state)
        state.load_state_dict(content, file, describe)
        position = state.position
        logger.info("continuing %s: epoch %d, after %d images in all", self.path, position.epoch, position.total_images)
        self._finish_save(state)
        return True

    def _load_newest(self, state: TrainingState) -> tuple[Any, Path]:
        """The newest training state that is whole, and its file; a damaged one makes way for the one before it."""
        device = state.stepper.device
        if not self.previous_state_file.is_file():
            return load_file(self.state_file, device), self.state_file
        try:
            return load_file(self.state_file, device), self.state_file
        except UserError as damage:
            content = load_file(self.previous_state_file, device)
            reason = damage if self.state_file.is_file() else f"{self.state_file} is missing."
            logger.warning("going on from the state before the last, because %s", reason)
        try:
            if self.state_file.is_file():
                replace(self.state_file, self.path / DAMAGED_STATE_FILE)
            replace(self.previous_state_file, self.state_file)
        except OSError as error:
            raise cannot_write(self.state_file, error) from error
        return content, self.state_file

    def _finish_save(self, state: TrainingState) -> None:
        """Do again all that :meth:`save` and :meth:`save_best` do after the state: the process may have died in it.

        The run may be finished, so that no later save would do it.
        """
        self._save_nets(state, state.tags)
        if state.records.last_epoch:
            self.save_best(state)
        for tag in state.tags:
            self._remove_numbered_before(tag)
