"""What ``train.py`` and ``test.py`` each declare, and what they take from a run's saved options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from options.base_options import BASE_GROUPS, Groups
from options.test_options import TEST_DEFAULTS, TEST_GROUPS
from options.train_options import TRAIN_GROUPS
from util.option import Option

OF_THE_CALL = frozenset(
    {"name", "suffix", "checkpoints_dir", "config", "plugin", "epoch", "epoch_count", "continue_train"}
)
"""Options of one call, which the next call does not inherit. Plugins above all: a run's folder may come from
somebody else, and its options file must not decide which code is executed."""

NEEDED_TO_FIND_IMAGES = frozenset({"dataroot", "dataset_mode"})


@dataclass(frozen=True)
class Program:
    """An entry point's name, options and defaults; ``defaults`` win over those of a model or dataset."""

    name: str
    groups: Groups
    trains: bool
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def options(self) -> tuple[Option, ...]:
        """All options but the model's and the dataset's."""
        return tuple(option for _, options in self.groups for option in options)

    def inherits(self, option: Option) -> bool:
        """Whether the value in a run's options file is the default for this program."""
        if option.name in OF_THE_CALL:
            return False
        return self.trains or option.architecture or option.name in NEEDED_TO_FIND_IMAGES


TRAIN = Program("train.py", (*BASE_GROUPS, *TRAIN_GROUPS), trains=True)
TEST = Program("test.py", (*BASE_GROUPS, *TEST_GROUPS), trains=False, defaults=TEST_DEFAULTS)
PROGRAMS = (TRAIN, TEST)
