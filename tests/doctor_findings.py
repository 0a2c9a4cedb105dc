"""Shared by the tests of scripts/doctor.py: reading findings, and a stand-in for a disk."""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import Any

from scripts._doctor.checks import OK, Finding

FINE = Finding(OK, "next", "was looked at too")


def only(findings: Iterable[Finding]) -> Finding:
    """The one finding there is."""
    (finding,) = findings
    return finding


def of(findings: Iterable[Finding], subject: str) -> Finding:
    """The one finding on a subject."""
    return only(finding for finding in findings if finding.subject == subject)


def statuses(findings: Iterable[Finding]) -> set[str]:
    """Of which kinds they are."""
    return {finding.status for finding in findings}


def room(free: float) -> Any:
    """A stand-in for shutil.disk_usage."""
    return lambda folder: types.SimpleNamespace(free=free)
