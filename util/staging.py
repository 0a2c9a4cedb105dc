"""Writing a folder next to its place, and moving it there when it is complete."""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
from pathlib import Path
from types import TracebackType

from util.errors import UserError
from util.files import CannotWrite, cannot_write, real_path, replace
from util.lock import Lock


class Staging:
    """A hidden folder that becomes the folder ``place``, whole or not at all.

    Used as a context manager: :meth:`publish` puts ``folder`` in its place, and what was there before goes; leaving
    without that leaves it untouched. One process at a time works for a place, each in a folder of its own. What a
    killed process left is put back or removed by the next one.
    """

    def __init__(self, place: Path, flag: str, *, resume: bool = False) -> None:
        """``flag`` names the place in the command line. With ``resume`` unfinished work stays for the next process.

        Nothing is made before the context is entered.
        """
        self.place, self._given, self._flag, self._resume = real_path(place), place, flag, resume
        self.folder = self._hidden("partial" if resume else f"{secrets.token_hex(4)}.partial")
        self._previous = self._hidden("previous")
        refusal = f"{flag} {place}: {{owner}} is writing there; wait for it, or choose another folder."
        self._lock = Lock(self._hidden("lock"), refusal)

    def _hidden(self, ending: str) -> Path:
        return self.place.with_name(f".{self.place.name}.{ending}")

    def __enter__(self) -> Staging:
        """Raises :class:`UserError` where the place is a file, cannot be written, or another process works for it."""
        if self.place.exists() and not self.place.is_dir():
            raise UserError(f"{self._flag} {self._given}: is not a folder; remove it or choose another place.")
        try:
            self.place.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            try:
                self._clean_up()
                self.folder.mkdir(exist_ok=self._resume)
            except BaseException:
                self._lock.release()
                raise
        except OSError as error:
            raise cannot_write(f"{self._flag} {self._given}", error) from error
        return self

    def _clean_up(self) -> None:
        """Deal with what killed processes left."""
        if self._previous.exists() and not self.place.exists():  # killed between the two renames of publish
            replace(self._previous, self.place)
        shutil.rmtree(self._previous, ignore_errors=True)
        leftover = re.compile(rf"\.{re.escape(self.place.name)}\.[0-9a-f]{{8}}\.partial")
        for entry in self.place.parent.iterdir():
            if leftover.fullmatch(entry.name):
                shutil.rmtree(entry, ignore_errors=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """An :class:`OSError` becomes a :class:`CannotWrite`."""
        if not self._resume:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()
        if isinstance(error, OSError):
            raise cannot_write(self._given, error) from error

    def publish(self) -> None:
        """Put the folder in its place.

        Raises:
            CannotWrite: the system refuses, also after further tries; what was there is there again, and the finished
                folder stays under the name that the sentence tells.
        """
        try:
            if self.place.exists():
                replace(self.place, self._previous)
            replace(self.folder, self.place)
        except OSError as error:
            if not self.place.exists():
                with contextlib.suppress(OSError):
                    replace(self._previous, self.place)
            kept = self.place.with_name(f"{self.place.name}.finished-{secrets.token_hex(2)}")
            with contextlib.suppress(OSError):
                replace(self.folder, kept)
            raise CannotWrite(
                f"{self._flag} {self._given}: cannot be replaced ({error.strerror or error}); close what has files "
                f"there open and move '{kept if kept.exists() else self.folder}' there, which is finished."
            ) from error
        shutil.rmtree(self._previous, ignore_errors=True)

    def discard(self) -> None:
        """Leave nothing for the next process."""
        shutil.rmtree(self.folder, ignore_errors=True)
