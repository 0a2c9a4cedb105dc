"""Runs trainings and tests as processes of their own, some at a time, and stops them without losing work."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

from scripts._ablation.runs import Run
from util.errors import EXIT_INTERRUPTED, EXIT_TERMINATED, EXIT_TIME_LIMIT, UserError

POLL_SECONDS = 0.2
Commands = Generator[list[str], int, None]
"""Yields the next command of a run and is sent its exit code."""


class RunFailed(Exception):
    """One run could not be finished; the others go on."""


@dataclass
class _Active:
    run: Run
    commands: Commands
    process: subprocess.Popen[bytes]


class Runner:
    """Works off runs; ``failures`` says by name why a run has no numbers."""

    def __init__(self, jobs: int, logs: Path, done: Callable[[Run], object]) -> None:
        """``logs`` takes the output of runs at a time; a single one writes to the console. ``done`` hears of each."""
        self.failures: dict[str, str] = {}
        self._jobs, self._logs, self._done = jobs, logs, done
        self._active: list[_Active] = []

    def run_all(self, runs: Sequence[Run]) -> None:
        """Work off all runs. Ctrl-C and SIGTERM: running ones finish their step and save, then KeyboardInterrupt."""
        pending = deque(runs)
        with self._stoppable():
            try:
                while pending or self._active:
                    while pending and len(self._active) < self._jobs:
                        run = pending.popleft()
                        print(f"{run.name}: {len(runs) - len(pending)} of {len(runs)}", flush=True)
                        self._go_on(run, commands_of(run), None)
                    self._collect()
                    if self._active:
                        time.sleep(POLL_SECONDS)
            except KeyboardInterrupt:
                self._stop()
                raise

    def _collect(self) -> None:
        for active in list(self._active):
            code = active.process.poll()
            if code is not None:
                self._active.remove(active)
                self._go_on(active.run, active.commands, code)

    def _go_on(self, run: Run, commands: Commands, code: int | None) -> None:
        """Give a run the exit code of its last command, if there was one, and start the next."""
        try:
            command = next(commands) if code is None else commands.send(code)
            self._active.append(_Active(run, commands, self._start(run, command)))
        except StopIteration:
            self._done(run)
        except (RunFailed, UserError, OSError) as reason:
            self._fail(run, str(reason))

    def _fail(self, run: Run, reason: str) -> None:
        self.failures[run.name] = reason
        log = f"; see {self._log(run)}" if self._jobs > 1 else ""
        print(f"{run.name}: failed: {reason}{log}", file=sys.stderr, flush=True)

    def _start(self, run: Run, command: list[str]) -> subprocess.Popen[bytes]:
        if self._jobs == 1:
            return subprocess.Popen(command)
        self._logs.mkdir(parents=True, exist_ok=True)
        output: IO[bytes]
        with self._log(run).open("ab") as output:
            return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

    def _log(self, run: Run) -> Path:
        return self._logs / f"{run.name}.log"

    def _stop(self) -> None:
        """Wait for the running processes, which Ctrl-C has reached too; a second one ends them at once."""
        if self._active:
            print("stopping: runs finish their step and save; once more to end them at once", file=sys.stderr)
        try:
            for active in self._active:
                active.process.wait()
        except KeyboardInterrupt:
            for active in self._active:
                active.process.kill()
                active.process.wait()
        for active in self._active:
            self.failures[active.run.name] = "interrupted"
        self._active.clear()

    @contextlib.contextmanager
    def _stoppable(self) -> Iterator[None]:
        """Ctrl-C as usual, also where a shell started this in the background and told it to ignore it.

        SIGTERM, unlike Ctrl-C, reaches this process alone: hand it on, then stop in the same way.
        """

        def hand_on(number: int, frame: FrameType | None) -> None:
            del number, frame
            for active in self._active:
                active.process.terminate()
            raise KeyboardInterrupt

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: hand_on}
        previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def commands_of(run: Run) -> Commands:
    """Train (or go on), test, and record that the numbers are there; raises :class:`RunFailed`."""
    _check("train.py", (yield run.train_command()))
    _check("test.py", (yield run.test_command()))
    if not run.metrics_file().is_file():
        raise RunFailed("test.py left no metrics")
    run.record_as_done()


def _check(program: str, code: int) -> None:
    if code in (EXIT_INTERRUPTED, EXIT_TERMINATED, EXIT_TIME_LIMIT):
        raise RunFailed(f"{program} was interrupted")
    if code:
        raise RunFailed(f"{program} ended with exit code {code}")
