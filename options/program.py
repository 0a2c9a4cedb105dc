"""What ``train.py`` and ``test.py`` each declare, and what they take from a run's saved options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from options.base_options import BASE_GROUPS, BASE_OPTIONS, Groups
from options.test_options import TEST_DEFAULTS, TEST_GROUPS
from options.train_options import TRAIN_GROUPS
from util.option import Option

OF_THE_CALL = frozenset(
    {"name", "suffix", "checkpoints_dir", "config", "plugin", "epoch", "epoch_count", "continue_train"}
)
"""Options of one call, which the next call does not inherit. Plugins above all: a run's folder may come from
somebody else, and its options file must not decide which code is executed."""

NEEDED_TO_FIND_IMAGES = frozenset({"dataroot", "dataset_mode"})

FROM_ANY_FILE = frozenset({"name", "suffix", "checkpoints_dir", "plugin", "norm", "gpu_ids", "verbose"})
"""What ``test.py`` takes from a training's file beside what it takes from a run: where the run is, how to say
its architecture in short, and the machine."""


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

    def foreign_settings(self, names: Iterable[str]) -> frozenset[str]:
        """Names in an options file that this program must not take from it, although it has such options.

        A file with any option of ``train.py`` alone is a training's. How it treats images is not how they are
        tested, so of the shared options ``test.py`` takes from it what it would take from a run's folder (see
        :meth:`inherits`), and :data:`FROM_ANY_FILE`; its own options it takes always.
        """
        if self.trains:
            return frozenset()
        shared = {option.name: option for option in BASE_OPTIONS}
        trainings = {option.name for option in TRAIN.options} - {option.name for option in self.options}
        if trainings.isdisjoint(names):
            return frozenset()
        taken = {name for name, option in shared.items() if name in FROM_ANY_FILE or self.inherits(option)}
        return frozenset({"phase", *shared}.intersection(names) - taken)


TRAIN = Program("train.py", (*BASE_GROUPS, *TRAIN_GROUPS), trains=True)
TEST = Program("test.py", (*BASE_GROUPS, *TEST_GROUPS), trains=False, defaults=TEST_DEFAULTS)
PROGRAMS = (TRAIN, TEST)
