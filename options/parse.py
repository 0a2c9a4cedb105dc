"""From the command line to options, without side effects but ``--plugin``'s imports.

Each option's value comes from the last of these that has one: its declaration; the model's and the dataset's
defaults; for ``test.py`` and ``--continue_train``, the run's saved options; ``--config``; the command line. Of a file,
what belongs to the other program or to another model is left out with a warning, and so are for ``test.py`` a
training's settings. Of a run's file, ``--config`` takes what the user set; where a run continues under another preset,
what it had by default follows the new preset.
"""

from __future__ import annotations

import argparse
import logging
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from options.checks import check_together
from options.flags import (
    TEST,
    TRAIN,
    Groups,
    Program,
    elsewhere,
    options_of,
    registered,
    registries,
    unknown_option,
)
from options.plugins import import_plugins
from options.runs import NOT_SAVED, OptionsFile, find_run, missing_weights, options_of_weights
from options.schema import Options, convert, shown
from util.command_line import CommandLine
from util.errors import UserError
from util.names import SHIPPED, check_name, find_weights, results_name
from util.option import Option, Scope
from util.pages.training_page import OptionFact
from util.text import did_you_mean

logger = logging.getLogger(__name__)

FROM_A_TRAINING = (Scope.RUN, Scope.MACHINE, Scope.DATASET, Scope.ARCHITECTURE)
"""What ``test.py --config`` takes from a training's file: how a training treats images is not how they are tested."""

NOT_SET = "not set"

Values = Callable[[Iterable[Option]], dict[str, Any]]
"""The values that were given to some of these options, converted."""


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


@dataclass(frozen=True)
class Request:
    """What the user wrote: the command line, and the file of ``--config``.

    ``ignored`` names what the file holds but this program must not take from it.
    """

    program: Program
    arguments: tuple[str, ...]
    config: OptionsFile
    ignored: frozenset[str] = frozenset()

    @classmethod
    def of(cls, program: Program, arguments: tuple[str, ...]) -> Request:
        """Read the file of ``--config`` if the command line names one."""
        path = read_flags((program.option("config"),), arguments).texts.get("config")
        file = OptionsFile(Path(), {}) if path is None else OptionsFile.read(Path(path))
        config = file.as_config()
        if "config" in config.saved:
            raise UserError(f"'config' in {path}: an options file cannot name another one; remove the line.")
        ignored = frozenset[str]() if program.trains else _settings_of_a_training(file)
        return cls(program, arguments, config.without(ignored), ignored.intersection(config.saved))

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
        option = self.program.option("plugin")
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


def _settings_of_a_training(file: OptionsFile) -> frozenset[str]:
    """Options that testing has too, but must not take from ``file``: none unless it is a training's.

    It is if a training has saved it, or if it has any option of ``train.py`` alone.
    """
    theirs, ours = ({option.name: option for option in program.options} for program in (TRAIN, TEST))
    if file.given is None and (theirs.keys() - ours.keys()).isdisjoint(file.saved):
        return frozenset()
    return frozenset(name for name in theirs.keys() & ours.keys() if ours[name].scope not in FROM_A_TRAINING)


def _parse(program: Program, argv: Sequence[str] | None) -> Options:
    arguments = tuple(sys.argv[1:] if argv is None else argv)
    request = Request.of(program, arguments)
    early_options = [option for option in program.options if option.scope in (Scope.CALL, Scope.RUN)]
    given_early = request.explicit(early_options)
    early = {**{option.name: option.default for option in early_options}, **given_early}
    request.refuse_unconfirmed_plugins()
    import_plugins(early["plugin"])
    if read_flags(program.options, arguments).wants_help:
        resolved = _resolve(request, None)
        print_help(program.name, resolved.groups, resolved.values)
        raise SystemExit(0)

    name, weights, run = _place(request, early, given_early)
    if run and early.get("input"):
        run = run.without({option.name for option in program.options if option.scope is Scope.DATASET})
    groups, values, given = _resolve(request, run)
    request.refuse_unknown(option for _, options in groups for option in options)
    values.update(name=name, suffix="")
    if weights is not None:
        values["init_from" if program.trains else "checkpoint"] = str(weights)
    if values.get("amp") and "precision" not in given:
        values["precision"] = "auto"
    check_together(values, program)
    if early["suffix"]:
        given |= {"name"}
    return Options(values, given, shlex.join(["python", program.name, *arguments]))


def _place(
    request: Request, early: Mapping[str, Any], given: Mapping[str, Any]
) -> tuple[str, Path | None, OptionsFile | None]:
    """The run's name, where its networks are if ``--name`` does not tell, and the options that it left."""
    program, name = request.program, early["name"]
    if early["suffix"]:
        name = with_suffix(name, early["suffix"], _resolve(request, None).values)
    if program.trains and not early["continue_train"]:
        check_name(name)
        return name, *_start(request, Path(early["checkpoints_dir"]))
    weights = None if program.trains else _weights(early, given)
    if weights is not None:
        name = name if "name" in given else results_name(weights)
        check_name(name)
        return name, weights, options_of_weights(weights)
    check_name(name)
    return name, None, find_run(Path(early["checkpoints_dir"]) / name, required=program.trains)


def _start(request: Request, checkpoints_dir: Path) -> tuple[Path | None, OptionsFile | None]:
    """Where the networks of ``--init_from`` are, and their architecture."""
    text = request.explicit((request.program.option("init_from"),)).get("init_from")
    if text is None:
        return None, None
    weights = find_weights(text, checkpoints_dir, "--init_from")
    file = options_of_weights(weights, "--init_from")
    if file is None:
        return weights, None
    chosen = request.explicit((request.program.option("model"),)).get("model")
    model = chosen or file.saved.get("model", request.program.option("model").default)
    options = (*request.program.options, *options_of("model", model))
    architecture = {option.name for option in options if option.is_architecture}
    if chosen or file.path == weights:  # another method may be meant, and a lone file knows none
        architecture.remove("model")
    return weights, replace(file.without(file.saved.keys() - architecture), given={})


def _weights(early: Mapping[str, Any], given: Mapping[str, Any]) -> Path | None:
    """The file or folder of ``--checkpoint``, or of the model that comes with the project; None: that of ``--name``."""
    if early["checkpoint"] is not None:
        return find_weights(early["checkpoint"], Path(early["checkpoints_dir"]))
    if early["input"] is None or "name" in given:
        return None
    if not SHIPPED.is_dir():
        raise missing_weights()
    return SHIPPED


class Resolved(NamedTuple):
    """All options by heading, the value of each, and the names of those set explicitly, now or when the run began."""

    groups: Groups
    values: dict[str, Any]
    given: frozenset[str]


def _resolve(request: Request, run: OptionsFile | None) -> Resolved:
    """Find model and dataset, gather all options, and lay the sources of values over each other."""
    program = request.program

    def of_run(options: Iterable[Option]) -> dict[str, Any]:
        if run is None:
            return {}
        return {option.name: run.value(option) for option in options if _hands_on(run, option, program)}

    def chosen(options: Iterable[Option]) -> dict[str, Any]:
        options = tuple(options)
        given = request.explicit(options)
        return {**of_run(option for option in options if option.name not in given), **given}

    if run is not None:
        _check_registered(request, run)
    choice = choose(program, chosen)
    groups = (*_with_registered_names(program.groups), *choice.groups)
    options = tuple(option for _, members in groups for option in members)
    explicit = request.explicit(options)
    kept, given_before = dict[str, Any](), frozenset[str]()
    if run is not None:
        _warn_of_conflicts(run, options, explicit)
        kept = of_run(option for option in options if option.name not in explicit)
        if program.trains:
            try:
                before = choose(program, of_run)
            except (UserError, ImportError):  # another model is chosen, and the run's is not known here
                before = choice
            kept, given_before = _continued(run, kept, choice, before)
    values = {
        **choice.defaults,
        **program.defaults,
        **kept,
        **explicit,
        "model": choice.model,
        "dataset_mode": choice.dataset,
        "norm": None,
    }
    return Resolved(groups, values, frozenset(explicit) | given_before)


def _hands_on(run: OptionsFile, option: Option, program: Program) -> bool:
    return option.name in run.saved and program.inherits(option)


def _continued(
    run: OptionsFile, kept: Mapping[str, Any], now: Choice, before: Choice
) -> tuple[dict[str, Any], frozenset[str]]:
    """The values that a continued run takes from its file, and the names of those that its user set.

    Where a preset was changed, what was only the old preset's default gives way to the new one's, which a logged line
    tells; not the architecture, which the weights have. A file of an earlier version does not say what the user set:
    what differs from the defaults.
    """
    if run.given is None:
        given = frozenset(name for name, value in kept.items() if value != before.defaults.get(name))
    else:
        given = frozenset(run.given) & kept.keys()
    options = (option for _, members in (*TRAIN.groups, *now.groups) for option in members)
    free = {option.name for option in options if not option.is_architecture} & (kept.keys() - given)
    changed = {name: now.defaults[name] for name in free if now.defaults[name] != before.defaults.get(name)}
    if changed:
        told = ", ".join(f"{name} {shown(changed[name])}" for name in sorted(changed))
        logger.info("%s: other defaults hold under the options given now: %s", run.path, told)
    return {**kept, **changed}, given


def _warn_of_conflicts(run: OptionsFile, options: tuple[Option, ...], given: Mapping[str, Any]) -> None:
    """Say so if the user chose another architecture than the run's, or if saved options no longer exist."""
    for option in options:
        if option.is_architecture and option.name in given and option.name in run.saved:
            _warn_of_conflict(run, option, given[option.name])
    own = [option for flag in registries() for option in options_of(flag, run.saved.get(flag))]
    known = {option.name for option in (*options, *own, *TRAIN.options, *TEST.options)}
    if unknown := sorted(run.saved.keys() - known):
        logger.warning("%s: %s ignored, unknown to this version", run.path, ", ".join(unknown))


def _check_registered(request: Request, run: OptionsFile) -> None:
    """Say which plugin the run's model or dataset may come from, if it is not known here."""
    for flag in registries():
        option = request.program.option(flag)
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


def _warn_of_conflict(run: OptionsFile, option: Option, chosen: Any) -> None:
    """Say so if the user chose another architecture than the run's."""
    try:
        of_the_run = run.value(option)
    except UserError:  # e.g. a model that is not registered here
        of_the_run = run.saved[option.name]
    if chosen != of_the_run:
        choice, original = f"--{option.name} {shown(chosen)}", shown(of_the_run)
        logger.warning("%s overrides the run's %s (%s); its weights may not fit", choice, original, run.path)


class Choice(NamedTuple):
    """Names of model and dataset, their own options by heading, and every option's default under them."""

    model: str
    dataset: str
    groups: Groups
    defaults: dict[str, Any]


def choose(program: Program, values: Values) -> Choice:
    """Find the model and the dataset that ``values`` name, and ask them for their defaults.

    Raises:
        UserError: there is no such model or dataset.
    """
    by_name = {option.name: option for option in program.options}

    def named(flag: str, preferred: Mapping[str, Any]) -> str:
        option = by_name[flag]
        return values((option,)).get(flag, preferred.get(flag, option.default))

    model_name, model = registered("model", named("model", {}))
    preferred = model.defaults(values(model.options))
    dataset_name, dataset = registered("dataset_mode", named("dataset_mode", preferred))
    preferred = {**preferred, **dataset.defaults(values(dataset.options))}

    groups = ((f"model {model_name}", tuple(model.options)), (f"dataset {dataset_name}", tuple(dataset.options)))
    options = [*program.options, *(option for _, own in groups for option in own)]
    declared = {option.name: option.default for option in options}
    assert len(declared) == len(options), f"{model_name} or {dataset_name} declares an option that exists already"
    unknown = preferred.keys() - declared.keys() - {option.name for option in (*TRAIN.options, *TEST.options)}
    assert not unknown, f"{model_name} or {dataset_name} has defaults for unknown options: {sorted(unknown)}"
    known = {name: value for name, value in spread_norm(preferred).items() if name in declared}
    return Choice(model_name, dataset_name, groups, {**declared, **known})


def spread_norm(values: dict[str, Any]) -> dict[str, Any]:
    """``--norm`` stands for --normG and --normD, unless these are given as well."""
    norm = values.get("norm")
    others = {name: value for name, value in values.items() if name != "norm"}
    return others if norm is None else {"normG": norm, "normD": norm, **others}


def with_suffix(name: str, suffix: str, values: Mapping[str, Any]) -> str:
    """``name_suffix`` with each ``{option}`` in the suffix replaced by its value.

    Only plain option names are filled in: no attributes, indices or format codes. Characters of a value
    that cannot stand in a folder's name become ``-``.

    Raises:
        UserError: braces around anything but an option's name.
    """

    def fill(field: re.Match[str]) -> str:
        option = field.group(1)
        if option not in values:
            hint = did_you_mean(option, values)
            raise UserError(f"--suffix {suffix}: '{{{option}}}' names no option{hint}; correct it.")
        return re.sub(r"[^\w.,+-]+", "-", shown(values[option])).strip(".-")

    if re.search(r"[{}]", re.sub(r"\{\w+\}", "", suffix)):
        raise UserError(f"--suffix {suffix}: braces may hold only an option's name, as in {{netG}}; correct it.")
    return f"{name}_" + re.sub(r"\{(\w+)\}", fill, suffix)


def option_facts(opt: Options) -> tuple[OptionFact, ...]:
    """Every option of a training, by heading; its default is the one under the chosen model and dataset."""
    told = {*opt.given, *registries()}
    choice = choose(TRAIN, lambda options: {o.name: getattr(opt, o.name) for o in options if o.name in told})
    return tuple(
        OptionFact(
            option.name,
            _text(getattr(opt, option.name)),
            _text(choice.defaults[option.name]),
            heading,
            option.help,
        )
        for heading, options in (*TRAIN.groups, *choice.groups)
        for option in options
        if option.name not in NOT_SAVED
    )


def _text(value: Any) -> str:
    return NOT_SET if value in (None, "", ()) else shown(value)


class Flags(NamedTuple):
    """The text of each flag on a command line, the arguments that belong to none, and whether help is wanted."""

    texts: dict[str, str]
    rest: list[str]
    wants_help: bool


def read_flags(options: Iterable[Option], arguments: Sequence[str]) -> Flags:
    """Find the flags of ``options`` among ``arguments``; raises :class:`UserError` for one without its value."""
    parser = _parser("", (("options", tuple(options)),))
    found, rest = parser.parse_known_args(list(arguments))
    texts: dict[str, Any] = vars(found)
    wants_help = texts.pop("help")
    joined = {name: ",".join(text) if isinstance(text, list) else text for name, text in texts.items()}
    return Flags(joined, rest, wants_help)


def print_help(program: str, groups: Groups, defaults: Mapping[str, Any]) -> None:
    """Print every flag under its heading, with the default that holds for the chosen model and dataset."""
    text = _parser(program, groups, defaults).format_help()
    encoding = sys.stdout.encoding or "utf-8"  # not every console knows the Greek letters of the losses
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))


def _parser(program: str, groups: Groups, defaults: Mapping[str, Any] | None = None) -> CommandLine:
    takes_pictures = any(option.name == "input" for _, options in groups for option in options)
    source = "(--dataroot FOLDER | --input PICTURES)" if takes_pictures else "--dataroot FOLDER"
    parser = CommandLine(
        formatter_class=argparse.HelpFormatter,
        prog=program,
        usage=f"{program} {source} --name NAME [--model MODEL] [options]",
        epilog="Another model's own options: --help --model MODEL.",
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="store_true", help="show this text and exit")
    for title, options in groups:
        section = parser.add_argument_group(title)
        for option in options:
            text = option.help if defaults is None else _with_default(option, defaults.get(option.name))
            section.add_argument(f"--{option.name}", help=text, default=argparse.SUPPRESS, **_shape(option))
    return parser


def _shape(option: Option) -> dict[str, Any]:
    """How many values the flag takes, and how ``--help`` shows them."""
    if option.is_switch:
        return {"nargs": "?", "const": "true", "metavar": "true|false"}
    choices = option.choices and "{" + ",".join(map(str, option.choices)) + "}"
    return {"action": "append" if option.is_repeatable else "store", "metavar": choices or _metavar(option)}


def _metavar(option: Option) -> str:
    """N for whole numbers, X for others, TEXT for the rest."""
    if isinstance(option.default, float):
        return "X"
    is_count = isinstance(option.default, int) or (option.default is None and option.minimum is not None)
    return "N" if is_count else "TEXT"


def _with_default(option: Option, default: Any) -> str:
    text = option.help if default in (None, "", ()) else f"{option.help} (default: {shown(default)})"
    return text.replace("%", "%%")
