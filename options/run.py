"""The options that an earlier run left in its folder, as defaults for testing it and for going on."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from options.declared import options_of
from options.files import OptionsFile, read_options
from options.program import PROGRAMS, Program
from options.values import shown
from util.engine.run_folder import OPTIONS_FILE
from util.errors import UserError
from util.option import Option
from util.suggest import did_you_mean

logger = logging.getLogger(__name__)


def find_run(folder: Path, *, required: bool) -> OptionsFile | None:
    """The run in ``folder``, or None if it left no options, like runs of other projects.

    Raises:
        UserError: the folder is missing although ``required``, or its options cannot be read.
    """
    if required and not folder.is_dir():
        others = [path.name for path in folder.parent.iterdir()] if folder.parent.is_dir() else []
        hint = did_you_mean(folder.name, others)
        raise UserError(f"--continue_train: there is no run in {folder}{hint}; check --name and --checkpoints_dir.")
    file = folder / OPTIONS_FILE
    if file.is_file():
        return OptionsFile(file, read_options(file))
    if required:
        logger.warning("%s is missing; the command line alone says how the run goes on", file)
    return None


def inherited(
    run: OptionsFile, program: Program, options: Iterable[Option], given: Mapping[str, Any]
) -> dict[str, Any]:
    """What ``program`` takes from the run for options that are not ``given``, converted and checked.

    Warns about values in ``given`` that contradict the run's architecture, and about saved options that
    no longer exist.

    Raises:
        UserError: a saved value is not valid.
    """
    options = tuple(options)
    saved = [option for option in options if option.name in run.saved and program.inherits(option)]
    for option in saved:
        if option.architecture and option.name in given:
            _warn_of_conflict(run, option, given[option.name])
    if unknown := sorted(run.saved.keys() - _names_known_to(run, options)):
        logger.warning("%s: %s ignored, unknown to this version", run.path, ", ".join(unknown))
    return {option.name: run.value(option) for option in saved if option.name not in given}


def _warn_of_conflict(run: OptionsFile, option: Option, chosen: Any) -> None:
    """Say so if the user chose another architecture than the run's."""
    try:
        of_the_run = run.value(option)
    except UserError:  # e.g. a model that is not registered here
        of_the_run = run.saved[option.name]
    if chosen != of_the_run:
        choice, original = f"--{option.name} {shown(chosen)}", shown(of_the_run)
        logger.warning("%s overrides the run's %s (%s); its weights may not fit", choice, original, run.path)


def _names_known_to(run: OptionsFile, options: Iterable[Option]) -> set[str]:
    """Names of all options that may stand in the file: every program's, and those of its model and dataset."""
    own = [option for flag in ("model", "dataset_mode") for option in options_of(flag, run.saved.get(flag))]
    everyone = [option for program in PROGRAMS for option in program.options]
    return {option.name for option in (*options, *everyone, *own)}
