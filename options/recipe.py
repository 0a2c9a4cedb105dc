"""A training of several stages: a YAML list, each entry the options of one more ``train.py``.

    - {name: synthetic, model: restoration, n_epochs: 20}
    - {dataroot: datasets/real, lr: 1.0e-4, n_epochs: 5}

A stage starts from the networks of the one before (``--init_from``), in a run of its own. ``init_from: null`` starts
from none, and ``continue_train: true`` continues the run of the stage before under other options, with its optimizers.
The last run is ``--name`` itself; an earlier one has its stage's ``name`` or number appended. The flags of the command
hold for all stages and win over the file. The same command again continues an interrupted training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from options.flags import TRAIN
from options.parse import read_flags
from options.schema import shown
from util.errors import UserError
from util.names import check_name

Command = tuple[str, ...]


def recipe_commands(argv: Sequence[str]) -> list[Command] | None:
    """The command lines of the stages of ``--recipe``; None where there is no such flag.

    Raises:
        UserError: the file is missing or is no list of stages.
    """
    texts, rest, wants_help = read_flags((TRAIN.option("recipe"),), argv)
    if "recipe" not in texts or wants_help:
        return None
    file = Path(texts["recipe"])
    stages = read_recipe(file)
    name = read_flags((TRAIN.option("name"),), rest).texts.get("name", TRAIN.option("name").default)
    if "--continue_train" in rest:
        raise UserError("--continue_train: a recipe continues by itself; leave the flag out.")
    last_start = max(number for number, stage in enumerate(stages) if not stage.get("continue_train"))
    commands: list[Command] = []
    run = ""
    for number, stage in enumerate(stages):
        options = dict(stage)
        previous, suffix = run, options.pop("name", number + 1)
        if not options.get("continue_train"):
            run = name if number == last_start else f"{name}_{suffix}"
            check_name(run)
            if previous:
                options.setdefault("init_from", previous)
        if "config" in options:
            options["config"] = file.parent / options["config"]
        commands.append((*as_flags(options), *rest, "--name", run))
    return commands


def read_recipe(file: Path) -> list[dict[str, Any]]:
    """The stages of a file.

    Raises:
        UserError: it is missing, or no list of mappings from options to plain values.
    """
    try:
        stages = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"--recipe {file}: there is no such file; check the path.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"--recipe {file}: cannot be read as YAML ({type(error).__name__}).") from None
    is_list = isinstance(stages, list) and stages and all(isinstance(stage, dict) for stage in stages)
    if not is_list or not all(isinstance(name, str) for stage in stages for name in stage):
        raise UserError(f"--recipe {file}: must be a list of stages, each with lines like 'n_epochs: 20'.")
    if any("plugin" in stage for stage in stages):
        raise UserError(f"--recipe {file}: a file cannot choose code to run; give --plugin on the command line.")
    if stages[0].get("continue_train"):
        raise UserError(f"--recipe {file}: the first stage has nothing to continue; remove its continue_train.")
    return stages


def as_flags(options: Mapping[str, Any]) -> list[str]:
    """Options as one would type them; those without a value are left out."""
    return [f"--{name}={shown(value)}" for name, value in options.items() if value is not None]
