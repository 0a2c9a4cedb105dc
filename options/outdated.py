"""Values of a file that were only the defaults of a choice which is now another.

A run's options file holds the value of every option. With ``--config run/options.yaml --CUT_mode FastCUT`` its
values would hide what FastCUT stands for, so those that were no more than the old mode's defaults are left out.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial
from typing import Any

from options.choice import Values, choose
from options.files import OptionsFile
from options.program import Program
from options.values import shown
from util.errors import UserError
from util.option import Option

logger = logging.getLogger(__name__)


def up_to_date(file: OptionsFile, newer: Values, program: Program, *, keep_architecture: bool = False) -> OptionsFile:
    """``file`` without the defaults of choices that ``newer`` changes, which one logged line tells.

    A choice is a model, a dataset, or an option of theirs on which defaults depend; it must stand in the file
    and differ there. Values that are no defaults stay.

    Args:
        newer: values that win over the file's, such as the command line's.
        keep_architecture: for a run that goes on, whose weights fit its own architecture only.
    """

    def older(options: Iterable[Option]) -> dict[str, Any]:
        return {option.name: value for option in options for value in _value(file, option)}

    def with_newer(options: Iterable[Option], only: str | None = None) -> dict[str, Any]:
        options = tuple(options)
        given = {name: value for name, value in newer(options).items() if only in (None, name)}
        return {**older(options), **given}

    try:
        before = choose(program, older)
        after = choose(program, with_newer)
    except (UserError, ImportError):  # a model that is not known here; whoever needs it tells
        return file
    base, own = program.options, tuple(option for _, members in before.groups for option in members)
    deciding = {}
    for option in (*base, *own):
        old, new = older((option,)), with_newer((option,))
        if old and old != new and choose(program, partial(with_newer, only=option.name)).defaults != before.defaults:
            deciding[option.name] = f"--{option.name} {shown(new[option.name])}"
    if not deciding:
        return file
    defaults = {
        option.name: after.defaults[option.name]
        for option in (*base, *own)
        if older((option,)) == {option.name: before.defaults[option.name]}
        and option.name in after.defaults
        and after.defaults[option.name] != before.defaults[option.name]
        and not (keep_architecture and option.architecture)
    }
    told = defaults.keys() - newer((*base, *(option for _, members in after.groups for option in members))).keys()
    if told:
        now = ", ".join(f"{name} {shown(defaults[name])}" for name in sorted(told))
        logger.info("%s overrides %s, so its defaults hold: %s", " ".join(deciding.values()), file.path, now)
    return file.without(defaults)


def _value(file: OptionsFile, option: Option) -> list[Any]:
    """The file's value in a list; none if it is missing, or not valid, which others tell."""
    try:
        return [file.value(option)] if option.name in file.saved else []
    except UserError:
        return []
