"""What the doctor finds, and how it looks: each check in a process of its own, so that none takes the report along.

A broken installation does more than raise: importing it may end the process or never return. Then that is the finding,
and the other checks continue in a new process. Standard library only.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import multiprocessing
import os
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from util.errors import UserError

OK, WARNING, PROBLEM = "ok", "warning", "problem"
"""Fine; works, but worth knowing; broken, so that something a user wants to do would fail."""

PATIENCE = 120.0


@dataclass(frozen=True)
class Finding:
    """One line: how things stand (``status``) with what, what was found, and what to do about it."""

    status: str
    subject: str
    found: str
    todo: str = ""

    def line(self) -> str:
        """For people; in one line, whatever a file's name holds."""
        todo = f" -> {self.todo}" if self.todo else ""
        return printable(f"{self.status:<8} {self.subject}: {self.found}{todo}")


@dataclass(frozen=True)
class Check:
    """Something to look at: ``run`` is called in another process, where it imports what it uses.

    ``needs`` names modules without which there is nothing to look at. Where one cannot be imported, that is a warning;
    the last one is what the check is about, so that its want is a finding of the status ``without``. A check that has
    not ended after ``seconds`` is given up.
    """

    name: str
    run: Callable[[], Iterable[Finding]]
    needs: tuple[str, ...] = ()
    without: str = WARNING
    seconds: float = PATIENCE


def printable(text: str) -> str:
    """``text`` in one line; control characters and what no console can show are escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def summary(findings: Sequence[Finding]) -> str:
    """How many findings of each kind."""
    count = Counter(finding.status for finding in findings)
    broken = f"{count[PROBLEM]} problem{'' if count[PROBLEM] == 1 else 's'}"
    return f"{broken}, {count[WARNING]} warning{'' if count[WARNING] == 1 else 's'}, {count[OK]} ok"


def as_json(findings: Sequence[Finding]) -> str:
    """All findings for programs, in ASCII."""
    count = Counter(finding.status for finding in findings)
    content = {
        "healthy": not count[PROBLEM],
        "count": {status: count[status] for status in (OK, WARNING, PROBLEM)},
        "findings": [asdict(finding) for finding in findings],
    }
    return json.dumps(content, indent=1)


OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
"""Nothing is downloaded: the model hub's client looks at its cache alone."""

OURS = frozenset({"data", "models", "options", "scripts", "util"})
"""Where an import that fails is no package that is missing."""

FIX_FIRST = "fix that first"
ENDING_SECONDS = 5.0


def examine(check: Check, broken: dict[str, str]) -> list[Finding]:
    """What a check finds; whatever it raises is a finding too.

    ``broken`` maps modules that cannot be imported to why; further ones are added.
    """
    for module in check.needs:
        if module not in broken:
            try:
                importlib.import_module(module)
            except (Exception, SystemExit) as error:  # a broken package fails in whatever way it likes
                broken[module] = f"{type(error).__name__}: {error}"
        if module in broken:
            return [_not_importable(check, module, broken[module])]
    findings: list[Finding] = []
    try:
        for finding in check.run():
            findings.append(finding)  # what came before an exception counts
    except (Exception, SystemExit) as error:
        findings.append(_from_exception(check.name, error))
    return findings


def _from_exception(name: str, error: BaseException) -> Finding:
    if isinstance(error, UserError):
        return Finding(PROBLEM, name, str(error))
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] not in OURS:
        return Finding(WARNING, name, f"not checked, because {error.name or error} cannot be imported", FIX_FIRST)
    place = traceback.extract_tb(error.__traceback__)[-1]
    found = f"the check itself failed ({type(error).__name__}: {error}; {Path(place.filename).name}:{place.lineno})"
    return Finding(PROBLEM, name, found, "if this checkout is complete and unchanged, please report this line")


def _not_importable(check: Check, module: str, reason: str) -> Finding:
    if check.without == PROBLEM and module == check.needs[-1]:
        return Finding(PROBLEM, check.name, f"cannot be imported ({reason})", "install requirements.txt again")
    return Finding(WARNING, check.name, f"not checked, because {module} cannot be imported", FIX_FIRST)


def run_checks(checks: Sequence[Check]) -> Generator[Finding, None, None]:
    """The findings of all checks, in their order and as they come; none of them can end this process."""
    waiting, broken, sound = list(checks), dict[str, str](), set[str]()
    while waiting:
        with _worker(waiting, broken) as (process, connection):
            while waiting:
                check = waiting.pop(0)
                try:
                    if not connection.poll(check.seconds):
                        end = f"did not end within {check.seconds:.0f} s"
                        break
                    findings, broken = connection.recv()
                except (EOFError, OSError):
                    process.join(ENDING_SECONDS)
                    end = f"ended its process ({_how(process.exitcode)})"
                    break
                yield from findings
                sound |= set(check.needs) - broken.keys()
            else:
                return
        broken |= dict.fromkeys(set(check.needs) - sound, end)
        yield Finding(PROBLEM, check.name, f"the check {end}", _advice(check, broken))


def _advice(check: Check, broken: dict[str, str]) -> str:
    suspects = [module for module in check.needs if module in broken]
    if suspects:
        return f"the installation of {suspects[0]} does not fit this machine; install requirements.txt again"
    return "if it happens again, please report this line"


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"


@contextlib.contextmanager
def _worker(checks: Sequence[Check], broken: dict[str, str]) -> Iterator[tuple[SpawnProcess, Connection]]:
    """A process that makes the checks, and where it sends their findings; it does not outlive the context."""
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sending, list(checks), broken), daemon=True)
    process.start()
    sending.close()  # so that the end of the process is the end of the pipe
    try:
        yield process, receiving
    finally:
        receiving.close()
        process.terminate()
        process.join(ENDING_SECONDS)
        if process.is_alive():
            process.kill()


def _work(sending: Connection, checks: Sequence[Check], broken: dict[str, str]) -> None:
    """In the process: make the checks one by one."""
    os.environ.update(OFFLINE)
    _silence()
    for check in checks:
        sys.modules.update(dict.fromkeys(broken))  # type: ignore[arg-type] # None: not to be imported by anybody else
        findings = examine(check, broken)
        sending.send((findings, broken))


def _silence() -> None:
    """What packages print would stand between the findings."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)
