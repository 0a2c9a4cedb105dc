"""A run's name: ``--suffix`` filled in, and never a way out of ``--checkpoints_dir``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from options.values import shown
from util.errors import UserError
from util.suggest import did_you_mean


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


def check_name(name: str, flag: str = "--name") -> None:
    """Refuse names that do not lead to a folder below ``--checkpoints_dir``, on any system.

    ``rain/first`` is fine, a folder in a folder.

    Raises:
        UserError: empty, absolute, with ``..`` or with control characters.
    """
    if not name.strip() or not PurePosixPath(name).parts:
        raise UserError(f"{flag} is empty; give the run a name.")
    windows = PureWindowsPath(name)
    only_dots = any(not part.strip(" .") for part in windows.parts)
    leaves = name.startswith("/") or bool(windows.anchor) or only_dots
    if leaves or not name.isprintable():
        raise UserError(f"{flag} {name!a}: would not be a folder inside --checkpoints_dir; use a plain name.")
