"""One process at a time in a folder: a lock of the operating system on a file there, which ends with the process."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import sys
import time
import weakref
from pathlib import Path
from typing import BinaryIO

from util.files import CannotWrite, cannot_write

logger = logging.getLogger(__name__)

_WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)  # some network file systems

if sys.platform == "win32":
    import msvcrt

    _BEHIND_THE_TEXT = 1 << 20  # what is locked there cannot be read

    def _lock(file: BinaryIO) -> None:
        file.seek(_BEHIND_THE_TEXT)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Locked(CannotWrite):
    """Another process holds the lock."""


class Lock:
    """The right to write in a folder. ``refusal`` is the sentence for a second process, with ``{owner}`` in it.

    The file says who holds it; without a process that holds it, it means nothing. Network drives have such locks too
    (NFS 4, SMB), and free those of a machine that is gone after a while.
    """

    def __init__(self, path: Path, refusal: str) -> None:
        self.path, self._refusal = path, refusal
        self._file: BinaryIO | None = None

    @property
    def held(self) -> bool:
        """Whether this object, in this process, holds it."""
        return self._file is not None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            Locked: another process has it.
            CannotWrite: the file cannot be written.
        """
        file = None
        try:
            while file is None or not self._names(file):  # the owner before may have removed what was opened
                file = self.path.open("a+b", buffering=0)
                if not _take(file):
                    raise Locked(self._refusal.format(owner=_read(self.path)))
            file.truncate(0)
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            file.write(f"process {os.getpid()} on {socket.gethostname()}, since {since}\n".encode())
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self._file = file
        _held.add(self)

    def _names(self, file: BinaryIO) -> bool:
        """Whether the path still leads to this open file."""
        try:
            return os.path.samestat(os.fstat(file.fileno()), self.path.stat())
        except FileNotFoundError:
            return False

    def check(self) -> None:
        """Before something is overwritten: take the lock again if its file was deleted, as with the whole folder.

        Raises:
            Locked: another process has taken it since.
            CannotWrite: the file cannot be written.
        """
        if self._file is not None and not self._names(self._file):
            self.forget()
            self.acquire()

    def release(self) -> None:
        """Give it back; nothing if it is not held."""
        if self._file is None:
            return
        if sys.platform == "win32":  # where an open file cannot be removed
            self._file.close()
        with contextlib.suppress(OSError):
            if sys.platform == "win32" or self._names(self._file):
                self.path.unlink()
        self.forget()

    def forget(self) -> None:
        """Close the file and leave it; in a forked process the lock stays the parent's."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        self._file = None


_held: weakref.WeakSet[Lock] = weakref.WeakSet()


def _forget_all() -> None:
    for lock in _held:
        lock.forget()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget_all)  # or workers would hold the lock of a parent that was killed


def owner_of(path: Path) -> str:
    """Who holds the lock at ``path``; empty if no process does, or there is no such file."""
    with contextlib.suppress(OSError), path.open("r+b") as file:
        return "" if _take(file) else _read(path)
    return ""


def _take(file: BinaryIO) -> bool:
    """Lock an open file until it is closed; False if another process has it."""
    try:
        _lock(file)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        logger.warning("%s: this file system has no locks, so a second process would not be noticed", file.name)
    return True


def _read(path: Path) -> str:
    """What the owner of a lock wrote."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8").strip() or "another process"
    return "another process"
