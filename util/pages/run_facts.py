"""What a training page tells about a run that does not change while it runs: its options and where it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

DEFAULT_PROTOCOL = "y"


@dataclass(frozen=True)
class OptionFact:
    """One option of a run: its ``value`` and ``default`` as a user would type them, its heading and its help."""

    name: str
    value: str
    default: str
    group: str
    help: str = ""

    @property
    def changed(self) -> bool:
        """Whether the run has another value than it would have had by itself."""
        return self.value != self.default


@dataclass(frozen=True)
class RunFacts:
    """The command line, the options in the order of their headings, the environment (name -> value) and the protocol
    of the validations."""

    command: str = ""
    options: tuple[OptionFact, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    protocol: str = DEFAULT_PROTOCOL
