"""The host of a benchmark: processes that take turns, so that whatever else the machine does meets all of them."""

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
_TOLD_LINES = 3  # of what a process said before it died


class Guest:
    """One process that does what it is told; see ``guest.py``.

    Raises:
        UserError: it cannot start or cannot do what it is told; the message has its own last words.
    """

    has_ceiling = False
    """Whether it can say what the machine can do at most."""

    def __init__(self, name: str, script: str, arguments: Sequence[str], *, threads: int | None, cwd: Path) -> None:
        self.name = name
        environment = dict(os.environ)
        if threads:
            environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            encoding="utf-8",
            env=environment,
            cwd=cwd,
        )

    def __enter__(self) -> Guest:
        self._answer()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        if error is not None:
            self._process.kill()
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._said.close()

    def ask(self, do: str, **arguments: Any) -> Any:
        """The answer to one command."""
        assert self._process.stdin is not None
        try:
            print(json.dumps({"do": do, "with": arguments}), file=self._process.stdin, flush=True)
        except OSError as error:  # it is gone
            raise UserError(f"{self.name}: {self._last_words()}") from error
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise UserError(f"{self.name}: {self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise UserError(f"{self.name}: {answer['error']}")
        return answer["value"]

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = [line.strip() for line in self._said.read().splitlines() if line.strip()]
        if lines and lines[-1].startswith("error: "):
            return lines[-1].removeprefix("error: ")
        return " / ".join(lines[-_TOLD_LINES:]) or f"ended with exit code {self._process.returncode}, without a word"


@dataclass
class Turns:
    """What one guest needed: seconds per step and ceilings, one of each per round, and most memory held at once."""

    seconds: list[float] = field(default_factory=list)
    ceilings: list[Mapping[str, float]] = field(default_factory=list)
    peak: int = 0


def take_turns(guests: Sequence[Guest], *, rounds: int, warm_up: int, repeat: int = 1) -> dict[str, Turns]:
    """Let each guest step in turn, every second round in the opposite order; by the guests' names.

    The peak is that of the steps for warming up, of which the second and later ones have all that a step needs.
    """
    turns = {guest.name: Turns() for guest in guests}
    for guest in guests:
        for _ in range(warm_up):
            guest.ask("step")
        turns[guest.name].peak = guest.ask("peak")
    for number in range(rounds):
        for guest in guests if number % 2 == 0 else reversed(guests):
            turns[guest.name].seconds.append(guest.ask("step", repeat=repeat))
            if guest.has_ceiling:
                turns[guest.name].ceilings.append(guest.ask("ceiling"))
    return turns


class OurGuest(Guest):
    """A process with our own code in the role ``train``, ``usual``, ``infer`` or ``load``."""

    def __init__(self, name: str, role: str, flags: Sequence[str], *, threads: int | None) -> None:
        self.has_ceiling = role == "train"
        super().__init__(name, "ours.py", [role, *flags], threads=threads, cwd=ROOT)


class OriginalGuest(Guest):
    """A process with the code of somebody else's checkout.

    Raises:
        UserError: this is no checkout of theirs.
    """

    def __init__(
        self, name: str, flag: str, checkout: Path, flags: Sequence[str], shape: Mapping[str, int], threads: int | None
    ) -> None:
        check_checkout(flag, checkout)
        arguments = [str(checkout.resolve()), json.dumps(shape), *flags]
        super().__init__(name, "guest.py", arguments, threads=threads, cwd=checkout)


def check_checkout(flag: str, checkout: Path) -> None:
    """Raise :class:`UserError` if this is no checkout of CUT's or CycleGAN's repository."""
    if not (checkout / "options" / "train_options.py").is_file():
        raise UserError(
            f"--{flag} {checkout}: no options/train_options.py there; give the folder of a checkout of "
            "CUT's or CycleGAN's repository."
        )


def all_of(guests: Sequence[Guest], stack: ExitStack) -> list[Guest]:
    """Start them all; ``stack`` ends them."""
    return [stack.enter_context(guest) for guest in guests]
