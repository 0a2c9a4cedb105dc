"""What the doctor finds: one line for each finding, and what a check is. Standard library only."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

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
