"""From the command line to options, without side effects but ``--plugin``'s imports.

Each option's value comes from the last of these that has one: its declaration; the model's and the
dataset's defaults; for ``test.py`` and ``--continue_train``, the run's saved options; ``--config``;
the command line. Of a file, what belongs to the other program or to another model is left out with a
warning, and so are for ``test.py`` a training's settings (:meth:`options.program.Program.foreign_settings`)
and for ``train.py`` defaults of a choice that was changed since (:mod:`options.outdated`).
"""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from options.base_options import Groups
from options.checks import check_together
from options.choice import choose, spread_norm
from options.declared import elsewhere, registered, registries, unknown_option
from options.files import OptionsFile, read_options
from options.flags import print_help, read_flags
from options.namespace import Options
from options.naming import check_name, with_suffix
from options.outdated import up_to_date
from options.plugins import import_plugins
from options.program import NEEDED_TO_FIND_IMAGES, TEST, TRAIN, Program
from options.run import find_run, inherited
from options.values import convert
from options.weights import SHIPPED, find_weights, missing_weights, options_beside, results_name
from util.errors import UserError
from util.option import Option

logger = logging.getLogger(__name__)

EARLY = frozenset({"name", "suffix", "checkpoints_dir", "config", "plugin", "continue_train", "input", "checkpoint"})
"""What must be known before it is known which options there are."""


def parse_train(argv: Sequence[str] | None = None) -> Options:
    """The options of ``train.py``; ``argv`` is the command line without the program, ``sys.argv`` by default.

    ``--help`` prints and raises :class:`SystemExit` with code 0.

    Raises:
        UserError: an unknown option, a value that is not valid, or values that contradict each other.
    """
    return _parse(TRAIN, argv)


def parse_test(argv: Sequence[str] | None = None) -> Options:
    """The options of ``test.py``, whose architecture comes from the run; otherwise like :func:`parse_train`."""
    return _parse(TEST, argv)


class Resolved(NamedTuple):
    """All options by heading, the value of each, and the names of those set explicitly."""

    groups: Groups
    values: dict[str, Any]
    given: frozenset[str]


@dataclass(frozen=True)
class Request:
    """What the user wrote: the command line, and the file of ``--config``.

    ``ignored`` names what the file holds but this program must not take from it.
    """

    program: Program
    arguments: tuple[str, ...]
    config: OptionsFile
    ignored: frozenset[str] = frozenset()

    def explicit(self, options: Iterable[Option]) -> dict[str, Any]:
        """Values that the user gave to ``options``, converted; the command line's win over the file's."""
        options = tuple(options)
        on_line = self.on_line(options)
        wanted = [option for option in options if option.name in self.config.saved and option.name not in on_line]
        return {**spread_norm({option.name: self.config.value(option) for option in wanted}), **on_line}

    def on_line(self, options: Iterable[Option]) -> dict[str, Any]:
        """The command line's values alone."""
        by_name = {option.name: option for option in options}
        texts = read_flags(by_name.values(), self.arguments).texts
        return spread_norm({name: convert(by_name[name], text, f"--{name}") for name, text in texts.items()})

    def refuse_unconfirmed_plugins(self) -> None:
        """Raise :class:`UserError` if the file names a plugin that the command line does not: plugins are code."""
        option = _option(self.program, "plugin")
        if option.name not in self.config.saved:
            return
        confirmed = self.on_line((option,)).get(option.name, ())
        if unconfirmed := [plugin for plugin in self.config.value(option) if plugin not in confirmed]:
            raise UserError(
                f"'plugin' in {self.config.path}: {', '.join(unconfirmed)} would be run as code; if you trust it, say "
                f"so with --plugin {','.join(unconfirmed)}, else remove the line."
            )

    def refuse_unknown(self, options: Iterable[Option]) -> None:
        """Raise :class:`UserError` for the first flag, stray word or key of the file that is no option.

        Keys of the file that belong to another program, model or dataset only get a warning, all in one.
        """
        options = tuple(options)
        names = [option.name for option in options]
        for word in read_flags(options, self.arguments).rest:
            if not word.startswith("-"):
                raise UserError(f"'{word}' follows no flag; write --flag {word}, or quote a value with blanks.")
            flag = word.split("=")[0]
            raise unknown_option(flag.lstrip("-"), flag, self.program, names)
        foreign = sorted(name for name in self.config.saved if name not in names)
        for name in foreign:
            if elsewhere(name, self.program) is None:
                raise unknown_option(name, f"'{name}' in {self.config.path}", self.program, names)
        if left_out := sorted({*foreign, *self.ignored}):
            owner = "a training's settings" if self.ignored else "of another program, model or dataset"
            logger.warning("%s: %s left out, %s", self.config.path, ", ".join(left_out), owner)


def _parse(program: Program, argv: Sequence[str] | None) -> Options:
    arguments = tuple(sys.argv[1:] if argv is None else argv)
    early_options = [option for option in program.options if option.name in EARLY]
    request = _read_request(program, arguments)
    given_early = request.explicit(early_options)
    early = {**{option.name: option.default for option in early_options}, **given_early}
    request.refuse_unconfirmed_plugins()
    import_plugins(early["plugin"])
    if program.trains:
        going_on = early["continue_train"]
        config = up_to_date(request.config, request.on_line, program, keep_architecture=going_on)
        request = replace(request, config=config)
    if read_flags(program.options, arguments).wants_help:
        resolved = _resolve(request, None)
        print_help(program.name, resolved.groups, resolved.values)
        raise SystemExit(0)

    name, weights, run = _place(request, early, given_early)
    if run and program.trains:
        run = up_to_date(run, request.explicit, program, keep_architecture=True)
    if run and early.get("input"):
        run = run.without(NEEDED_TO_FIND_IMAGES)
    groups, values, given = _resolve(request, run)
    request.refuse_unknown(option for _, options in groups for option in options)
    values.update(name=name, suffix="")
    if weights is not None:
        values["checkpoint"] = str(weights)
    if values.get("amp") and "precision" not in given:
        values["precision"] = "auto"
    check_together(values, program)
    return Options(values, given, shlex.join(["python", program.name, *arguments]))


def _place(
    request: Request, early: Mapping[str, Any], given: Mapping[str, Any]
) -> tuple[str, Path | None, OptionsFile | None]:
    """The run's name, where its networks are if ``--name`` does not tell, and the options that it left."""
    program, name = request.program, early["name"]
    if early["suffix"]:
        name = with_suffix(name, early["suffix"], _resolve(request, None).values)
    weights = None if program.trains else _weights(early, given)
    if weights is not None:
        name = name if "name" in given else results_name(weights)
        check_name(name)
        return name, weights, options_beside(weights)
    check_name(name)
    if early.get("continue_train") or not program.trains:
        return name, None, find_run(Path(early["checkpoints_dir"]) / name, required=program.trains)
    return name, None, None


def _weights(early: Mapping[str, Any], given: Mapping[str, Any]) -> Path | None:
    """The file or folder of ``--checkpoint``, or of the model that comes with the project; None: that of ``--name``."""
    if early["checkpoint"] is not None:
        return find_weights(early["checkpoint"], Path(early["checkpoints_dir"]))
    if early["input"] is None or "name" in given:
        return None
    if not SHIPPED.is_dir():
        raise missing_weights()
    return SHIPPED


def _read_request(program: Program, arguments: tuple[str, ...]) -> Request:
    path = read_flags((_option(program, "config"),), arguments).texts.get("config")
    config = OptionsFile(Path(path or ""), read_options(path) if path is not None else {})
    if "config" in config.saved:
        raise UserError(f"'config' in {path}: an options file cannot name another one; remove the line.")
    ignored = program.foreign_settings(config.saved)
    return Request(program, arguments, config.without(ignored), ignored)


def _option(program: Program, name: str) -> Option:
    return next(option for option in program.options if option.name == name)


def _resolve(request: Request, run: OptionsFile | None) -> Resolved:
    """Find model and dataset, gather everybody's options, and lay the sources of values over each other."""
    program = request.program

    def chosen(options: Iterable[Option]) -> dict[str, Any]:
        options = tuple(options)
        given = request.explicit(options)
        if run is None:
            return given
        of_the_run = [option for option in options if option.name in run.saved and program.inherits(option)]
        return {**{option.name: run.value(option) for option in of_the_run if option.name not in given}, **given}

    if run is not None:
        _check_registered(request, run)
    choice = choose(program, chosen)
    groups = (*_with_registered_names(program.groups), *choice.groups)
    options = tuple(option for _, members in groups for option in members)
    given = request.explicit(options)
    values = {
        **choice.defaults,
        **program.defaults,
        **(spread_norm(inherited(run, program, options, given)) if run else {}),
        **given,
        "model": choice.model,
        "dataset_mode": choice.dataset,
        "norm": None,
    }
    return Resolved(groups, values, frozenset(given))


def _check_registered(request: Request, run: OptionsFile) -> None:
    """Say which plugin the run's model or dataset may come from, if it is not known here."""
    for flag in registries():
        option = _option(request.program, flag)
        if flag not in run.saved or request.explicit((option,)):
            continue
        name = run.value(option)
        try:
            registered(flag, name)
        except UserError:
            plugins = run.saved.get("plugin") or ["FILE"]
            raise UserError(
                f"--{flag} {name}, which {run.path} asks for, is not known; add --plugin {','.join(map(str, plugins))}."
            ) from None


def _with_registered_names(groups: Groups) -> Groups:
    """The same groups, where ``--model`` and ``--dataset_mode`` list what is registered."""
    names = {flag: registry.names() for flag, registry in registries().items()}
    return tuple(
        (title, tuple(replace(option, choices=names.get(option.name, option.choices)) for option in options))
        for title, options in groups
    )
