"""One process per run: a file in the run's folder that says who is training there."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import socket
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from util.engine.process import is_alive, machine_of_this_process, start_of
from util.errors import UserError
from util.files import CannotWrite, cannot_write

logger = logging.getLogger(__name__)

LOCK_FILE = "run.lock"
SIGN_OF_LIFE_SECONDS = 15.0  # between two touches of the file
SILENCE_SECONDS = 120.0  # after which a process on another machine counts as gone; above what network drives cache
_BEING_WRITTEN_SECONDS = 2.0  # how old an unreadable file has to be to count as left over
_RACE_SECONDS = 0.2  # for another process that takes over the same leftover


@dataclass(frozen=True)
class Owner:
    """A process, told apart from every other: ``machine`` also tells containers and boots apart where it can."""

    host: str
    machine: str
    pid: int
    process_start: str
    since: str
    token: str

    @classmethod
    def this_process(cls) -> Owner:
        """Who asks."""
        pid = os.getpid()
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        return cls(socket.gethostname(), machine_of_this_process(), pid, start_of(pid), since, secrets.token_hex(8))

    @property
    def words(self) -> str:
        """For messages."""
        return f"process {self.pid} on {self.host}, since {self.since}"


class RunLock:
    """The right to train in a folder. It shows signs of life from a thread of its own while it is held."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK_FILE
        self._owner: Owner | None = None
        self._released = threading.Event()

    @property
    def held(self) -> bool:
        """Whether this object, in this process, holds the right."""
        return self._owner is not None and self._owner.pid == os.getpid()

    def acquire(self) -> None:
        """Take the right.

        Raises:
            UserError: another process has it, or the file cannot be written.
        """
        owner, patience = Owner.this_process(), time.monotonic() + _BEING_WRITTEN_SECONDS
        try:
            while not self._create(owner):
                self._make_way(patient=time.monotonic() < patience)
            found = _read(self.path)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        if found != owner:
            raise UserError(f"{self.path.parent} was taken by another process at the same moment; try again.")
        self._owner = owner
        self._released = threading.Event()
        threading.Thread(target=self._show_signs_of_life, args=(self._released,), daemon=True).start()

    def check(self) -> None:
        """Make sure of the right before something is overwritten; a file that was deleted is made again.

        Raises:
            CannotWrite: another process has taken over, or the system refuses.
        """
        if self._owner is None:
            return
        try:
            found = _read(self.path)
            if found is None and not self.path.exists() and self._create(self._owner):
                return
        except OSError as error:
            raise cannot_write(self.path, error) from error
        if found != self._owner:
            who = found.words if found else "another process"
            raise CannotWrite(f"{self.path.parent} is now trained by {who}; this one stops and leaves it alone.")

    def release(self) -> None:
        """Give it back; nothing if it is not held."""
        if not self.held:
            return
        self._released.set()
        with contextlib.suppress(OSError):
            if _read(self.path) == self._owner:
                self.path.unlink()
        self._owner = None

    def _create(self, owner: Owner) -> bool:
        try:
            file = self.path.open("x", encoding="utf-8")
        except FileExistsError:
            return False
        try:
            with file:
                json.dump(asdict(owner), file)
        except OSError:
            with contextlib.suppress(OSError):
                self.path.unlink()
            raise
        return True

    def _make_way(self, *, patient: bool) -> None:
        """Remove a file that was left over; one that says nothing yet only if it is old, or the time for it is over.

        The time is needed as well: a clock that was set back makes a file look as if it were from the future.

        Raises:
            UserError: its process lives.
        """
        found, silence = _read(self.path), _silence(self.path)
        if found is None:
            if patient and silence < _BEING_WRITTEN_SECONDS:
                time.sleep(_RACE_SECONDS)
                return
        elif found.machine == machine_of_this_process():
            if is_alive(found.pid) and start_of(found.pid) == found.process_start:
                raise UserError(
                    f"{self.path.parent} is being trained by {found.words}; wait for it, stop it, or use another "
                    "--name."
                )
        elif silence < SILENCE_SECONDS:
            raise UserError(
                f"{self.path.parent} is being trained by {found.words}, which showed a sign of life "
                f"{max(0.0, silence):.0f} s ago; stop it there, use another --name, or, if it is gone, try again in "
                f"{SILENCE_SECONDS:.0f} s."
            )
        leftover = self.path.with_name(f".{LOCK_FILE}.{secrets.token_hex(4)}.tmp")
        with contextlib.suppress(FileNotFoundError):  # another one was faster
            self.path.replace(leftover)
            if _read(leftover) != found:  # another one was faster, and this is its own
                leftover.replace(self.path)
                return
            leftover.unlink()
            if found is not None:
                logger.info("%s: %s is gone and left its lock behind", self.path.parent, found.words)

    def _show_signs_of_life(self, released: threading.Event) -> None:
        while not released.wait(SIGN_OF_LIFE_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(self.path)


def _read(path: Path) -> Owner | None:
    """Whose file it is; None if there is none, or one that says nothing."""
    try:
        return Owner(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _silence(path: Path) -> float:
    """Seconds since the file was touched, by the clock of whoever keeps the folder; endless if it is gone."""
    probe = path.with_name(f".{LOCK_FILE}.{secrets.token_hex(4)}.tmp")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
