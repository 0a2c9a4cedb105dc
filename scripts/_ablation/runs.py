"""The runs of a grid: their commands, what of them is done already, and running the rest, some at a time.

A run is done when its results folder holds metrics and a record of the settings that the run was trained with. Settings
are all options that results can depend on; where pictures go and how often something is printed is none of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from options import Options, parse_train, read_options
from options.flags import TRAIN, options_of
from scripts._ablation.grids import Grid, GridRow
from util.engine.checkpoint import STATE_FILE
from util.errors import EXIT_INTERRUPTED, EXIT_TERMINATED, EXIT_TIME_LIMIT, UserError
from util.files import write_atomically
from util.names import LATEST_TEST, OPTIONS_FILE
from util.option import Scope

ROOT = Path(__file__).resolve().parents[2]
RECORD = "ablation.json"
FOR_TESTING_TOO = ("gpu_ids", "plugin")
ALLOWED = ("config", "plugin")
SET_BY_THE_GRID = frozenset(
    {"model", "dataroot", "seed", "phase"}
    | {option.name for option in TRAIN.options if option.scope in (Scope.CALL, Scope.RUN)} - {*ALLOWED}
)
WITHOUT_INFLUENCE = frozenset(
    {"phase"} | {option.name for option in TRAIN.options if not option.influences_results}
)  # phase is the same in all runs
POLL_SECONDS = 0.2

Commands = Generator[list[str], int, None]
"""Yields the next command of a run and is sent its exit code."""


@dataclass(frozen=True)
class Places:
    """Where data, checkpoints and results are; and the protocol of the numbers."""

    dataroot: str
    checkpoints: Path
    results: Path
    protocol: str


@dataclass(frozen=True)
class Run:
    """One training and test: a row with a seed."""

    name: str
    row: GridRow
    seed: int
    opt: Options
    train_flags: tuple[str, ...]
    test_flags: tuple[str, ...]
    places: Places

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the numbers, as plain values."""
        return settings_of(vars(self.opt))

    def train_command(self) -> list[str]:
        """Arguments for :mod:`subprocess`; continues a training of the same settings."""
        resume = ["--continue_train"] if self.is_begun() else []
        return [sys.executable, str(ROOT / "train.py"), *self.train_flags, *resume]

    def test_command(self) -> list[str]:
        """Arguments for :mod:`subprocess`."""
        return [sys.executable, str(ROOT / "test.py"), *self.test_flags]

    def is_begun(self) -> bool:
        """Whether a training with these very settings has left a state to continue from."""
        folder = self.places.checkpoints / self.name
        if not (folder / STATE_FILE).is_file():
            return False
        try:
            return settings_of(read_options(folder / OPTIONS_FILE)) == self.settings
        except UserError:
            return False

    def metrics_file(self) -> Path:
        """Where ``test.py`` leaves the numbers."""
        return self.places.results / self.name / LATEST_TEST / "metrics.json"

    def record_as_done(self) -> None:
        """Write next to the metrics what they belong to; raises :class:`UserError` if that cannot be written."""
        record = {"settings": self.settings, "metrics_sha256": _digest(self.metrics_file())}
        write_atomically(
            self.places.results / self.name / RECORD, (json.dumps(record, indent=1) + "\n").encode("utf-8")
        )


def settings_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``options`` that can change a number, as they come back from JSON."""
    kept = {
        name: value for name, value in sorted(options.items()) if name not in WITHOUT_INFLUENCE and value is not None
    }
    kept["dataroot"] = Path(str(kept.get("dataroot"))).expanduser().resolve().as_posix()
    return json.loads(json.dumps(kept, default=str))


def plan(grid_name: str, grid: Grid, seeds: Sequence[int], places: Places, extra: Sequence[str]) -> list[Run]:
    """All runs of a grid, seed by seed, so that a whole table of one seed is there early.

    Raises:
        UserError: a flag in ``extra`` that the grid sets, that does not exist, or with a value that is not valid.
    """
    groups = grouped(extra)
    for name in groups:
        if name in SET_BY_THE_GRID:
            raise UserError(f"--{name}: is set by the grid for each run; leave it out behind the '--'.")
    models = {row.key: row.flags[row.flags.index("--model") + 1] for row in grid.rows}
    known = {model: {o.name for o in (*TRAIN.options, *options_of("model", model))} for model in models.values()}
    runs = []
    for seed in seeds:
        for row in grid.rows:
            mine = known[models[row.key]]
            others = set().union(*known.values()) - mine
            flags = [word for name, words in groups.items() if name not in others for word in words]
            name = f"{grid_name}_{row.key}_seed{seed}"
            runs.append(_run(name, row, seed, places, flags, groups))
    return runs


def _run(name: str, row: GridRow, seed: int, places: Places, flags: list[str], groups: Mapping[str, list[str]]) -> Run:
    where = ["--dataroot", places.dataroot, "--name", name, "--checkpoints_dir", str(places.checkpoints)]
    train = (*where, *flags, *row.flags, "--seed", str(seed))
    too = [word for flag in FOR_TESTING_TOO for word in groups.get(flag, ())]
    measure = ["--results_dir", str(places.results), "--protocol", places.protocol, "--eval_pairs", "yes"]
    return Run(name, row, seed, parse_train(train), train, (*where, *measure, *too), places)


def grouped(extra: Sequence[str]) -> dict[str, list[str]]:
    """Words of a command line by flag: ``--ngf 8 --residual`` → ``{"ngf": ["--ngf", "8"], "residual": [...]}``."""
    groups: dict[str, list[str]] = {}
    words: list[str] | None = None
    for word in extra:
        if word.startswith("--"):
            words = groups.setdefault(word[2:].partition("=")[0], [])
        if words is None:
            raise UserError(f"'{word}' follows no flag; behind the '--' stand flags of train.py.")
        words.append(word)
    return groups


def finished(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """The metrics of the runs that are done, by the run's name; ``source`` is the run that has them.

    A run of the same settings under another name counts too: the full model stands in every table.
    """
    if not runs:
        return {}
    places = runs[0].places
    by_settings: dict[str, tuple[str, dict[str, Any]]] = {}
    for record in sorted(places.results.glob(f"*/{RECORD}")):
        settings, metrics = _read_done(record, places.protocol)
        if metrics is not None:
            by_settings.setdefault(json.dumps(settings, sort_keys=True), (record.parent.name, metrics))
    found = {}
    for run in runs:
        key = json.dumps(run.settings, sort_keys=True)
        own, metrics = _read_done(places.results / run.name / RECORD, places.protocol)
        if metrics is not None and json.dumps(own, sort_keys=True) == key:
            found[run.name] = {**metrics, "source": run.name}
        elif key in by_settings:
            source, metrics = by_settings[key]
            found[run.name] = {**metrics, "source": source}
    return found


def _read_done(record: Path, protocol: str) -> tuple[Any, dict[str, Any] | None]:
    """(settings, metrics) of a record whose metrics are still those it was written for, else (None, None)."""
    metrics_file = record.parent / LATEST_TEST / "metrics.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(record.read_text(encoding="utf-8"))
        metrics = json.loads(metrics_file.read_text(encoding="utf-8"))
        if content["metrics_sha256"] == _digest(metrics_file) and metrics["protocol"] == protocol:
            return settings_of(content["settings"]), metrics
    return None, None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class RunFailed(Exception):
    """One run could not be finished; the others continue."""


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
    """Train (or continue), test, and record that the numbers are there; raises :class:`RunFailed`."""
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
