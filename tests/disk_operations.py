"""Everything that changes a disk, one operation after the other, so that a test can let anything happen at each."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BUFFER = 2048  # bytes, so that even these small files are several writes
SYSTEM_CALLS = ("fsync", "replace", "link", "rename")


class Raw(io.FileIO):
    """A file of which every write is an operation, in the middle of which a disk is full or a process dies."""

    def __init__(self, path: Path, mode: str, tick: Callable[[str], None]) -> None:
        super().__init__(path, mode)
        self._tick = tick

    def write(self, data: Any) -> int:
        data = data[:BUFFER]  # the rest is for another call, as a disk may do
        begun = super().write(data[: len(data) // 2])
        self._tick("write")
        return begun + super().write(data[begun:])


@contextmanager
def operations(happen: Callable[[str, int], None], *further: str) -> Iterator[list[str]]:
    """Call ``happen(name, number)`` before each operation that changes a disk; gives the list of them.

    ``further`` are functions of ``os`` that count beside :data:`SYSTEM_CALLS`.
    """
    done: list[str] = []
    happening = False

    def tick(name: str) -> None:
        nonlocal happening
        if happening:  # what ``happen`` does itself
            return
        done.append(name)
        happening = True
        try:
            happen(name, len(done))
        finally:
            happening = False

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            tick(name)
            return function(*args, **kwargs)

        return call

    real_open = Path.open

    def open_counted(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if set(mode) & set("wax"):
            tick("open")
            raw = io.BufferedWriter(Raw(self, mode.replace("b", "").replace("t", ""), tick), BUFFER)
            return raw if "b" in mode else io.TextIOWrapper(raw, encoding="utf-8")
        return real_open(self, mode, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", open_counted)
        for name in (*SYSTEM_CALLS, *further):
            patch.setattr(os, name, counted(name, getattr(os, name)))
        yield done
