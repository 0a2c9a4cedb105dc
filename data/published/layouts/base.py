"""What each data set's layout tells: how it is recognized, read and split."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from data.published.members import Found, Member
from data.published.splitting import SplitRule

ReadText = Callable[[Member], str]
"""Reads a small text file of a source."""


@dataclass(frozen=True)
class Expected:
    """How many pairs a complete set has; several numbers where several complete releases exist. Empty: any."""

    train: Collection[int] = ()
    test: Collection[int] = ()

    def check(self, found: Found, hint: Callable[[int, int], str] = lambda train, test: "") -> None:
        """Add a problem for each count that is none of the expected; ``hint`` may say what such counts mean."""
        for phase, expected, pairs in (("training", self.train, found.train), ("test", self.test, found.test)):
            if expected and len(pairs) not in expected:
                wanted = " or ".join(str(count) for count in expected)
                note = hint(len(found.train), len(found.test))
                found.problems.append(f"it has {len(pairs)} {phase} pairs instead of {wanted}{note}")


@dataclass(frozen=True)
class Layout(ABC):
    """One data set as it is published. ``expected`` are the counts that a complete one has."""

    title: ClassVar[str]
    rule_text: ClassVar[str]
    compare_content: ClassVar[bool] = False
    """Whether names do not tell scenes apart, so that the clean images have to be looked at."""

    expected: Expected = field(default_factory=Expected)
    rule: SplitRule = field(default_factory=SplitRule)

    @abstractmethod
    def recognizes(self, members: Sequence[Member]) -> bool:
        """Whether these files look like this data set, complete or not."""

    @abstractmethod
    def find(self, members: Sequence[Member], read_text: ReadText) -> Found:
        """The pairs among the files, and what is wrong with them."""
