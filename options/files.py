"""Options in YAML files: what a run leaves behind, and what ``--config`` reads."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from options.values import convert
from util.errors import UserError
from util.option import Option

NOT_SAVED = frozenset({"config", "continue_train"})
"""Options that tell how a program was called, not what the run is."""


@dataclass(frozen=True)
class OptionsFile:
    """An options file and what it holds, not yet converted."""

    path: Path
    saved: Mapping[str, Any]

    def value(self, option: Option) -> Any:
        """The saved value of one option; :class:`UserError` if it is not valid."""
        return convert(option, self.saved[option.name], f"'{option.name}' in {self.path}")

    def without(self, names: Collection[str]) -> OptionsFile:
        """The same without some of its options."""
        return replace(self, saved={name: value for name, value in self.saved.items() if name not in names})


def save_options(opt: argparse.Namespace, path: str | Path) -> None:
    """Write all options to ``path``, sorted by name, below a comment with the command line.

    The file can be read back with ``--config``, by ``test.py`` and for another model too. It is replaced as a
    whole: a reader finds the old file or the new one, never half of one. The folder is made if it is missing.

    Raises:
        UserError: the file cannot be written.
    """
    path = Path(path)
    values = {name: value for name, value in vars(opt).items() if name not in NOT_SAVED}
    command = "".join(char if char.isprintable() else " " for char in getattr(opt, "command", ""))
    text = f"# {command}\n# Usable as --config {path.name}\n{yaml.safe_dump(values, allow_unicode=True)}"
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise UserError(f"{path}: cannot save the options there ({error.strerror}).") from error


def read_options(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping from option names to values; an empty file gives an empty dict.

    Only plain values can come out: YAML that asks for Python objects is refused.

    Raises:
        UserError: missing or unreadable file, broken YAML, or something else than such a mapping.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such options file; check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(f"{path}: cannot read options from it ({reason}).") from None
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not valid YAML ({_reason(error)}); write lines like 'lr: 0.0002'.") from None
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise UserError(f"{path}: does not map option names to values; write lines like 'lr: 0.0002'.")
    return found


def _reason(error: Exception) -> str:
    """Say in a few words what is wrong in the file, and in which line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return " ".join(str(error).split())
