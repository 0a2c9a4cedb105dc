"""A place to call programs in with whatever a stranger may give them, and what has to hold then."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PATIENCE = 60.0
"""Seconds after which whoever waits at a pipe is woken up, and the test fails."""

Main = Callable[[Sequence[str]], int]


@dataclass
class Said:
    """What a program answered."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The sentences of refusals."""
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


@dataclass
class World:
    """A place to call programs in: all but ``out`` must stay as it is."""

    root: Path
    calls: int = 0
    before: dict[str, tuple] = field(default_factory=dict)
    pipes: list[Path] = field(default_factory=list)

    @property
    def out(self) -> Path:
        return self.root / "out"

    def snapshot(self) -> dict[str, tuple]:
        """Everything around the output, with what changes when somebody writes."""
        found = {}
        for folder, folders, files in os.walk(self.root):
            if Path(folder) == self.root:
                folders.remove("out")
            for name in [*folders, *files]:
                facts = os.lstat(os.path.join(folder, name))  # noqa: PTH118 (in a tenth of pathlib's time)
                found[f"{folder}/{name}"] = (facts.st_mode, facts.st_size, facts.st_mtime_ns)
        return found

    def call(self, main: Main, *argv: object, codes: Collection[int] = (0, 2)) -> Said:
        """Call a program as a shell does, and check what holds for every call; it may end with one of ``codes``."""
        self.calls += 1
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", errors) for errors in ("strict", "backslashreplace"))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), woken(self.pipes) as late:
            try:
                code = main([str(part) for part in argv])
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else 1
        both = (stream.buffer.getvalue() for stream in self._flushed(out, err))  # type: ignore[attr-defined]
        said = Said(code, *(text.decode("utf-8") for text in both))
        assert not late, f"hangs: {argv}"
        assert said.code in codes, said
        assert "Traceback" not in said.err and "Traceback" not in said.out, said.err
        assert len(said.errors) == (said.code == 2), said.err
        assert all(line.isprintable() for line in said.err.splitlines()), said.err
        return said

    def remember(self) -> World:
        """From here on nothing may change."""
        self.check()
        self.before = self.snapshot()
        self.pipes = [path for path in self.root.rglob("pipe*") if path.is_fifo()]
        return self

    def check(self) -> None:
        """Nothing was written outside of the output folder."""
        if self.before:
            now = self.snapshot()
            changed = [name for name in {**self.before, **now} if self.before.get(name) != now.get(name)]
            assert not changed, changed

    def empty(self) -> Path:
        """The output folder, empty again."""
        shutil.rmtree(self.out)
        self.out.mkdir()
        return self.out

    @staticmethod
    def _flushed(*streams: io.TextIOWrapper) -> tuple[io.TextIOWrapper, ...]:
        for stream in streams:
            stream.flush()
        return streams  # type: ignore[return-value]


@contextlib.contextmanager
def woken(pipes: list[Path]) -> Iterator[list[Path]]:
    """Let whoever waits at one of these pipes go on after a while; the list then is not empty."""
    late: list[Path] = []

    def wake() -> None:
        for pipe in pipes:
            late.append(pipe)
            os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))

    timer = threading.Timer(PATIENCE, wake)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """An empty one, with the working folder in it; at the end, nothing but the output folder has changed."""
    root = tmp_path / "world"
    for part in ("out", "work"):
        (root / part).mkdir(parents=True)
    monkeypatch.chdir(root / "work")
    world = World(root)
    yield world
    world.check()
