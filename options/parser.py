"""From the command line to options, without side effects but ``--plugin``'s imports.

Each option's value comes from the last of these that has one: its declaration; the model's and the
dataset's defaults; for ``test.py`` and ``--continue_train``, the run's saved options; ``--config``;
the command line.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from options.base_options import Groups
from options.checks import check_together
from options.declared import Declares, registered, registries, unknown_option
from options.files import read_options
from options.flags import print_help, read_flags
from options.namespace import Options
from options.naming import check_name, with_suffix
from options.plugins import import_plugins
from options.program import PROGRAMS, TEST, TRAIN, Program
from options.run import Run, find_run, inherited
from options.values import convert
from util.errors import UserError
from util.option import Option

EARLY = frozenset({"name", "suffix", "checkpoints_dir", "config", "plugin", "continue_train"})
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
    """What the user wrote: the command line, and the file of ``--config``."""

    program: Program
    arguments: tuple[str, ...]
    config: Mapping[str, Any]
    config_path: str | None

    def explicit(self, options: Iterable[Option]) -> dict[str, Any]:
        """Values that the user gave to ``options``, converted; the command line's win over the file's."""
        by_name = {option.name: option for option in options}
        texts = read_flags(by_name.values(), self.arguments).texts
        in_file = {name: self._from_file(by_name[name]) for name in by_name if name in self.config}
        on_line = {name: convert(by_name[name], text, f"--{name}") for name, text in texts.items()}
        return {**_spread_norm(in_file), **_spread_norm(on_line)}

    def refuse_unknown(self, options: Iterable[Option]) -> None:
        """Raise :class:`UserError` for the first flag, stray word or key of the file that is no option."""
        options = tuple(options)
        names = [option.name for option in options]
        for word in read_flags(options, self.arguments).rest:
            if not word.startswith("-"):
                raise UserError(f"'{word}' follows no flag; write --flag {word}, or quote a value with blanks.")
            flag = word.split("=")[0]
            raise unknown_option(flag.lstrip("-"), flag, self.program, names)
        for name in self.config:
            if name not in names:
                raise unknown_option(name, f"'{name}' in {self.config_path}", self.program, names)

    def _from_file(self, option: Option) -> Any:
        return convert(option, self.config[option.name], f"'{option.name}' in {self.config_path}")


def _parse(program: Program, argv: Sequence[str] | None) -> Options:
    arguments = tuple(sys.argv[1:] if argv is None else argv)
    early_options = [option for option in program.options if option.name in EARLY]
    request = _read_request(program, arguments)
    early = {**{option.name: option.default for option in early_options}, **request.explicit(early_options)}
    import_plugins(early["plugin"])
    if read_flags(program.options, arguments).wants_help:
        resolved = _resolve(request, None)
        print_help(program.name, resolved.groups, resolved.values)
        raise SystemExit(0)

    name = early["name"]
    if early["suffix"]:
        name = with_suffix(name, early["suffix"], _resolve(request, None).values)
    check_name(name)
    continues = early.get("continue_train", False)
    run = None
    if continues or not program.trains:
        run = find_run(Path(early["checkpoints_dir"]) / name, required=continues)
    groups, values, given = _resolve(request, run)
    request.refuse_unknown(option for _, options in groups for option in options)
    values.update(name=name, suffix="")
    check_together(values, program)
    return Options(values, given, shlex.join(["python", program.name, *arguments]))


def _read_request(program: Program, arguments: tuple[str, ...]) -> Request:
    path = read_flags((_option(program, "config"),), arguments).texts.get("config")
    config = read_options(path) if path is not None else {}
    if "config" in config:
        raise UserError(f"'config' in {path}: an options file cannot name another one; remove the line.")
    return Request(program, arguments, config, path)


def _option(program: Program, name: str) -> Option:
    return next(option for option in program.options if option.name == name)


def _resolve(request: Request, run: Run | None) -> Resolved:
    """Find model and dataset, gather everybody's options, and lay the sources of values over each other."""
    program = request.program
    model_name, model = _chosen(request, run, "model", {})
    preferred = model.defaults(request.explicit(model.options))
    dataset_name, dataset = _chosen(request, run, "dataset_mode", preferred)
    preferred = {**preferred, **dataset.defaults(request.explicit(dataset.options))}

    groups = (
        *_with_registered_names(program.groups),
        (f"model {model_name}", tuple(model.options)),
        (f"dataset {dataset_name}", tuple(dataset.options)),
    )
    options = tuple(option for _, members in groups for option in members)
    declared = {option.name: option.default for option in options}
    assert len(declared) == len(options), f"{model_name} or {dataset_name} declares an option that exists already"
    elsewhere = {option.name for other in PROGRAMS for option in other.options}
    unknown = preferred.keys() - declared.keys() - elsewhere
    assert not unknown, f"{model_name} or {dataset_name} has defaults for unknown options: {sorted(unknown)}"

    given = request.explicit(options)
    values = {
        **declared,
        **{name: value for name, value in _spread_norm(preferred).items() if name in declared},
        **program.defaults,
        **(_spread_norm(inherited(run, program, options, given)) if run else {}),
        **given,
        "model": model_name,
        "dataset_mode": dataset_name,
        "norm": None,
    }
    return Resolved(groups, values, frozenset(given))


def _chosen(request: Request, run: Run | None, flag: str, preferred: Mapping[str, Any]) -> tuple[str, Declares]:
    """The name and the class that ``--model`` or ``--dataset_mode`` chooses."""
    option = _option(request.program, flag)
    explicit = request.explicit((option,))
    if flag in explicit or run is None or flag not in run.saved:
        return registered(flag, explicit.get(flag, preferred.get(flag, option.default)))
    name = run.value(option)
    try:
        return registered(flag, name)
    except UserError:
        plugins = run.saved.get("plugin") or ["FILE"]
        raise UserError(
            f"--{flag} {name}, which {run.file} asks for, is not known; add --plugin {','.join(map(str, plugins))}."
        ) from None


def _with_registered_names(groups: Groups) -> Groups:
    """The same groups, where ``--model`` and ``--dataset_mode`` list what is registered."""
    names = {flag: registry.names() for flag, registry in registries().items()}
    return tuple(
        (title, tuple(replace(option, choices=names.get(option.name, option.choices)) for option in options))
        for title, options in groups
    )


def _spread_norm(values: dict[str, Any]) -> dict[str, Any]:
    """``--norm`` stands for --normG and --normD, unless these are given beside it."""
    if values.get("norm") is None:
        return values
    return {"normG": values["norm"], "normD": values["norm"], **values}
