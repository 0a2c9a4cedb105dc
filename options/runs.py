"""The options that a run saves and hands on: to --config, to testing, and to its own continuation."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from models.networks import describe_state, generator_options
from options.flags import PROGRAMS
from options.schema import convert
from util.engine.weights import find_network, load_file
from util.errors import UserError
from util.names import OPTIONS_FILE, folders_in
from util.option import Option, Scope
from util.text import did_you_mean

logger = logging.getLogger(__name__)

SINGLE_GENERATOR = "cut"
"""The model that is nothing but one generator: how a network's file without options is run."""

NOT_SAVED = frozenset(option.name for program in PROGRAMS for option in program.options if option.scope is Scope.CALL)


@dataclass(frozen=True)
class OptionsFile:
    """An options file and what it holds, not yet converted.

    ``given`` is the part that the user set: None in a file that does not tell, which maps names to values without the
    headings ``given`` and ``resolved``. Such files are written by hand, and were left by runs of earlier versions.
    """

    path: Path
    saved: Mapping[str, Any]
    given: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, path: Path) -> OptionsFile:
        """Read a file; raises :class:`UserError` like :func:`read_yaml`."""
        content = read_yaml(path)
        if isinstance(content.get("given"), dict) and isinstance(content.get("resolved"), dict):
            return cls(path, content["resolved"], content["given"])
        return cls(path, content)

    def value(self, option: Option) -> Any:
        """The saved value of one option; :class:`UserError` if it is not valid."""
        return convert(option, self.saved[option.name], f"'{option.name}' in {self.path}")

    def as_config(self) -> OptionsFile:
        """What ``--config`` takes from the file: what the user set, not the defaults of that time."""
        return self if self.given is None else replace(self, saved=self.given)

    def without(self, names: Collection[str]) -> OptionsFile:
        """The same without some of its options."""
        return replace(self, saved={name: value for name, value in self.saved.items() if name not in names})


def save_options(opt: argparse.Namespace, path: str | Path) -> None:
    """Write all options to ``path`` below a comment with the command line: what the user gave, and every value.

    The file can be read back with ``--config``, by ``test.py`` and for another model too. It is replaced as a
    whole: a reader finds the old file or the new one, never half of one. The folder is made if it is missing.

    Raises:
        UserError: the file cannot be written.
    """
    path = Path(path)
    values = {name: value for name, value in vars(opt).items() if name not in NOT_SAVED}
    given = {name: value for name, value in values.items() if name in getattr(opt, "given", ())}
    command = "".join(char if char.isprintable() else " " for char in getattr(opt, "command", ""))
    content = yaml.dump({"given": given, "resolved": values}, Dumper=_Dumper, allow_unicode=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(f"# {command}\n# Usable as --config {path.name}\n{content}", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise UserError(f"{path}: cannot save the options there ({error.strerror}).") from error


class _Dumper(yaml.SafeDumper):
    """Writes a value that occurs twice twice, instead of an anchor and a reference to it."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def read_options(path: str | Path) -> dict[str, Any]:
    """The value of every option in an options file; raises :class:`UserError` like :func:`read_yaml`."""
    return dict(OptionsFile.read(Path(path)).saved)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping from names to values; an empty file gives an empty dict.

    Only plain values can come out: YAML that asks for Python objects is refused.

    Raises:
        UserError: missing or unreadable file, broken YAML, or something else than such a mapping.
    """
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
    parts = [found, *found.values()] if isinstance(found, dict) and found.keys() == {"given", "resolved"} else [found]
    if not all(isinstance(part, dict) and all(isinstance(name, str) for name in part) for part in parts):
        raise UserError(f"{path}: does not map option names to values; write lines like 'lr: 0.0002'.")
    return found


def _reason(error: Exception) -> str:
    """Say in a few words what is wrong in the file, and in which line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return " ".join(str(error).split())


def find_run(folder: Path, *, required: bool) -> OptionsFile | None:
    """The options of the run in ``folder``, or None if it left none, like runs of other projects.

    Raises:
        UserError: the folder is missing although ``required``, or its options cannot be read.
    """
    if required and not folder.is_dir():
        hint = did_you_mean(folder.name, folders_in(folder.parent))
        raise UserError(f"--continue_train: there is no run in {folder}{hint}; check --name and --checkpoints_dir.")
    file = folder / OPTIONS_FILE
    if file.is_file():
        return OptionsFile.read(file)
    if required:
        logger.warning("%s is missing; the command line alone says how the run continues", file)
    return None


def options_of_weights(weights: Path, flag: str = "--checkpoint") -> OptionsFile | None:
    """The options of a run's folder or of a network's file.

    A file without a run's options next to it tells its generator's architecture itself.

    Raises:
        UserError: the file cannot be read, or holds another network than a generator.
    """
    file = (weights.parent if weights.is_file() else weights) / OPTIONS_FILE
    told = _generator_in(weights, flag) if weights.is_file() else {}
    if file.is_file():
        return OptionsFile.read(file)
    return OptionsFile(weights, {"model": SINGLE_GENERATOR, **told}) if weights.is_file() else None


def _generator_in(file: Path, flag: str) -> dict[str, Any]:
    """What a file tells of its generator; nothing if it is of an unknown kind."""
    content = load_file(file)
    if (state := find_network(content, file, lambda state: bool(generator_options(state)))) is not None:
        return generator_options(state)
    if find_network(content, file, lambda state: bool(describe_state(state))) is not None:
        raise UserError(
            f"{flag} {file}: holds no generator but another network; give the file of the generator, such as "
            "latest_net_G.pth or latest_net_G_A.pth."
        )
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(
            f"{flag} {file}: is not a single network's file; give one like latest_net_G.pth or "
            "latest_net_G_A.pth, or the run's folder."
        )
    return {}


def weights_of(opt: argparse.Namespace) -> Path:
    """Where a test's weights are: the run's folder, or the one network's file."""
    return Path(opt.checkpoint or Path(opt.checkpoints_dir) / opt.name)


def missing_weights() -> UserError:
    """The error where no weights were chosen and the shipped model is missing."""
    return UserError(
        "--checkpoint is missing; give the run that takes the rain out (its name in --checkpoints_dir or its folder), "
        "or a network's file (.pth)."
    )
