"""The options of a training as its page shows them: beside what they would have been by themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from options.choice import choose
from options.files import NOT_SAVED
from options.namespace import Options
from options.program import TRAIN
from options.values import shown
from util.option import Option
from util.pages.run_facts import OptionFact

NOT_SET = "not set"


def option_facts(opt: Options) -> tuple[OptionFact, ...]:
    """Every option of a training, by heading; its default is the one under the chosen model and dataset."""

    def changed(options: Iterable[Option]) -> dict[str, Any]:
        return {option.name: getattr(opt, option.name) for option in options if _differs(opt, option)}

    choice = choose(TRAIN, changed)
    return tuple(
        OptionFact(
            option.name, _text(getattr(opt, option.name)), _text(choice.defaults[option.name]), heading, option.help
        )
        for heading, options in (*TRAIN.groups, *choice.groups)
        for option in options
        if option.name not in NOT_SAVED
    )


def _differs(opt: Options, option: Option) -> bool:
    return bool(getattr(opt, option.name) != option.default)


def _text(value: Any) -> str:
    return NOT_SET if value in (None, "", ()) else shown(value)
