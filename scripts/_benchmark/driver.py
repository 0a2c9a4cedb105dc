"""The driver of a benchmark: worker processes that run in turn, so that other load on the machine hits all of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from util.errors import UserError

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
_LAST_LINES = 3  # of what a worker printed before it died


class Worker:
    """A process that carries out commands; see ``original.py``.

    Raises:
        UserError: it cannot start or a command fails; the message has the last lines that it printed.
    """

    has_ceiling = False
    """Whether it can measure what the machine can do at most."""

    def __init__(self, name: str, script: str, arguments: Sequence[str], *, threads: int | None, cwd: Path) -> None:
        self.name = name
        environment = dict(os.environ)
        if threads:
            environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        self._output = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._output,
            encoding="utf-8",
            env=environment,
            cwd=cwd,
        )

    def __enter__(self) -> Worker:
        self._answer()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        if error is not None:
            self._process.kill()
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._output.close()

    def ask(self, do: str, **arguments: Any) -> Any:
        """The answer to one command."""
        assert self._process.stdin is not None
        try:
            print(json.dumps({"do": do, "with": arguments}), file=self._process.stdin, flush=True)
        except OSError as error:  # it is gone
            raise UserError(f"{self.name}: {self._last_lines()}") from error
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise UserError(f"{self.name}: {self._last_lines()}")
        answer = json.loads(line)
        if "error" in answer:
            raise UserError(f"{self.name}: {answer['error']}")
        return answer["value"]

    def _last_lines(self) -> str:
        self._output.seek(0)
        lines = [line.strip() for line in self._output.read().splitlines() if line.strip()]
        if lines and lines[-1].startswith("error: "):
            return lines[-1].removeprefix("error: ")
        return " / ".join(lines[-_LAST_LINES:]) or f"ended with exit code {self._process.returncode}, no output"


@dataclass
class Samples:
    """What one worker needed: seconds per step and ceilings, one of each per round, and most memory held at once."""

    seconds: list[float] = field(default_factory=list)
    ceilings: list[Mapping[str, float]] = field(default_factory=list)
    peak: int = 0


def run_in_turn(workers: Sequence[Worker], *, rounds: int, warm_up: int, repeat: int = 1) -> dict[str, Samples]:
    """Let each worker step in turn, every second round in the opposite order; by the workers' names.

    The peak is that of the steps for warming up, of which the second and later ones have all that a step needs.
    """
    samples = {worker.name: Samples() for worker in workers}
    for worker in workers:
        for _ in range(warm_up):
            worker.ask("step")
        samples[worker.name].peak = worker.ask("peak")
    for number in range(rounds):
        for worker in workers if number % 2 == 0 else reversed(workers):
            samples[worker.name].seconds.append(worker.ask("step", repeat=repeat))
            if worker.has_ceiling:
                samples[worker.name].ceilings.append(worker.ask("ceiling"))
    return samples


class OurWorker(Worker):
    """A process with our own code in the role ``train``, ``naive``, ``infer`` or ``load``."""

    def __init__(self, name: str, role: str, flags: Sequence[str], *, threads: int | None) -> None:
        self.has_ceiling = role == "train"
        super().__init__(name, "worker.py", [role, *flags], threads=threads, cwd=ROOT)


class OriginalWorker(Worker):
    """A process with the code of another project's checkout.

    Raises:
        UserError: this is no checkout of CUT's or CycleGAN's repository.
    """

    def __init__(
        self, name: str, flag: str, checkout: Path, flags: Sequence[str], shape: Mapping[str, int], threads: int | None
    ) -> None:
        check_checkout(flag, checkout)
        arguments = [str(checkout.resolve()), json.dumps(shape), *flags]
        super().__init__(name, "original.py", arguments, threads=threads, cwd=checkout)


def check_checkout(flag: str, checkout: Path) -> None:
    """Raise :class:`UserError` if this is no checkout of CUT's or CycleGAN's repository."""
    if not (checkout / "options" / "train_options.py").is_file():
        raise UserError(
            f"--{flag} {checkout}: no options/train_options.py there; give the folder of a checkout of "
            "CUT's or CycleGAN's repository."
        )


def start_all(workers: Sequence[Worker], stack: ExitStack) -> list[Worker]:
    """Start them; ``stack`` ends them."""
    return [stack.enter_context(worker) for worker in workers]
