"""Writing files so that a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

from util.errors import UserError

_TEMPORARY = ".tmp"
_LONGEST_NAME = 255  # bytes
_HASH_DIGITS = 8
_NO_ROOM = (errno.ENOSPC, errno.EROFS, errno.EDQUOT) if hasattr(errno, "EDQUOT") else (errno.ENOSPC, errno.EROFS)


# What a network drive says for a moment, and how long to wait before each further try, in seconds.
_PASSING = frozenset({errno.EIO, errno.EBUSY, getattr(errno, "ESTALE", errno.EIO)})
_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)

T = TypeVar("T")


def attempts(*, replacing: bool = False) -> Iterator[contextlib.AbstractContextManager[None]]:
    """Contexts to try something in until it succeeds: a passing error of a network drive is waited for, but the last.

    ``replacing`` is for renames, which Windows refuses while a virus scanner or an indexer looks at the file.
    """

    @contextlib.contextmanager
    def attempt(pause: float) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _PASSING and not (replacing and isinstance(error, PermissionError)):
                raise
            time.sleep(pause)

    yield from map(attempt, _PAUSES)
    yield contextlib.nullcontext()


def patiently(action: Callable[[], T], *, replacing: bool = False) -> T:
    """Return ``action()``, tried again for a second or two in :func:`attempts`."""
    for attempt in attempts(replacing=replacing):
        with attempt:
            return action()
    raise AssertionError("the last attempt returns or raises")


def replace(path: Path, target: Path) -> None:
    """Give ``path`` the name ``target``, whose old content goes; :func:`patiently`."""
    patiently(lambda: path.replace(target), replacing=True)


def real_path(path: Path) -> Path:
    """The absolute path without links and without ``..``; a link in a circle stays what it is and is no error."""
    return Path(os.path.realpath(path))


def safe_child(folder: Path, relative_name: str) -> Path:
    """Return ``folder / relative_name``, sure to lie inside the folder; quotes, spaces, #, % and Unicode are fine.

    Symbolic links are followed for the check. Nothing is created.

    Raises:
        UserError: the name is empty, absolute, or leads out of the folder.
    """
    refusal = f"{relative_name!r}: does not name a file inside {folder}; use a relative name without '..'."
    root = real_path(folder)
    try:
        child = real_path(folder / relative_name)
    except ValueError as error:  # an embedded null byte
        raise UserError(refusal) from error
    if child == root or not child.is_relative_to(root):
        raise UserError(refusal)
    return folder / child.relative_to(root)


def fitting_name(path: Path) -> Path:
    """``path``, whose name is shortened if no file system would take it; a hash keeps shortened names apart."""
    whole = path.name.encode("utf-8", errors="surrogateescape")
    if len(whole) <= _LONGEST_NAME:
        return path
    end = f"~{hashlib.sha256(whole).hexdigest()[:_HASH_DIGITS]}{path.suffix}"
    return path.with_name(whole[: _LONGEST_NAME - len(end.encode())].decode("utf-8", errors="ignore") + end)


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` by way of a temporary file next to it.

    Missing parent folders are created; a failed write leaves the old file as it was and no temporary file behind.

    Raises:
        UserError: the file cannot be written there.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_text_atomically(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, as :func:`write_atomically` does.

    Characters that UTF-8 cannot hold (lone surrogates from undecodable file names) are escaped: ``\\udcff``.

    Raises:
        UserError: the file cannot be written there.
    """
    write_atomically(path, text.encode("utf-8", errors="backslashreplace"))


def write_durably(
    path: Path,
    write: Callable[[BinaryIO], object],
    *,
    check: Callable[[Path], None] | None = None,
    previous: Path | None = None,
) -> None:
    """Let ``write`` fill a file that takes the place of ``path`` once it is on the disk for good.

    Whatever instant the process or the machine dies at, ``path`` is the old file or the whole new one. ``check`` looks
    at the new file before that and raises if it is not what it should be. The old file stays as ``previous``.

    Raises:
        CannotWrite: the system refuses; ``path`` is as it was.
    """

    def attempt() -> None:
        temporary = temporary_beside(path)
        try:
            with temporary.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            if check is not None:
                check(temporary)
            if previous is not None and path.is_file():
                _keep_as(path, previous)
            replace(temporary, path)
            sync_folder(path.parent)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()

    try:
        patiently(attempt)  # from the start: what a disk failed to write once it may have forgotten
    except OSError as error:
        raise cannot_write(path, error) from error


def temporary_beside(path: Path) -> Path:
    """A new name in the same folder, for what becomes ``path``; :func:`remove_temporaries` finds what a kill left."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{_TEMPORARY}")


def remove_temporaries(folder: Path) -> None:
    """Remove the unfinished files of killed processes, in sub-folders too; no process may be writing there."""
    for path in folder.rglob(f".*{_TEMPORARY}"):
        with contextlib.suppress(OSError):
            path.unlink()


def sync_folder(folder: Path) -> None:
    """Put a folder's list of names on the disk, where the system can (Windows does so by itself)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that knows no such thing
            raise
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Put what was written to a file, by whomever, on the disk; nothing if there is no such file or it cannot be."""
    with contextlib.suppress(OSError), path.open("r+b") as file:
        os.fsync(file.fileno())


def _keep_as(path: Path, previous: Path) -> None:
    """Make ``previous`` another name of ``path``, which stays; where there are no such links, rename it."""
    link = temporary_beside(previous)
    try:
        os.link(path, link)
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise
        replace(path, previous)
        return
    try:
        replace(link, previous)
    finally:
        with contextlib.suppress(OSError):
            link.unlink()


class CannotWrite(UserError):
    """The system refuses to write a file or folder."""


def cannot_write(path: Path | str, error: OSError) -> CannotWrite:
    """The one sentence for a file or folder that the system refuses to write."""
    return CannotWrite(
        f"{path}: cannot be written ({error.strerror or error}); free the place or choose another folder."
    )
