"""The command line: which flags are on it, and ``--help``. Texts become values in :mod:`options.values`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from options.base_options import Groups
from options.values import shown
from util.command_line import CommandLine
from util.option import Option

REPEATABLE = frozenset({"plugin"})
"""Flags whose repetitions add up; of any other flag the last one counts."""


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
    for name in REPEATABLE & texts.keys():
        texts[name] = ",".join(texts[name])
    return Flags(texts, rest, wants_help)


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
    return {"action": "append" if option.name in REPEATABLE else "store", "metavar": choices or _metavar(option)}


def _metavar(option: Option) -> str:
    """N for whole numbers, X for others, TEXT for the rest."""
    if isinstance(option.default, float):
        return "X"
    is_count = isinstance(option.default, int) or (option.default is None and option.minimum is not None)
    return "N" if is_count else "TEXT"


def _with_default(option: Option, default: Any) -> str:
    text = option.help if default in (None, "", ()) else f"{option.help} (default: {shown(default)})"
    return text.replace("%", "%%")
