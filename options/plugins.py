"""``--plugin``: import a user's module so that it can register its models and datasets."""

from __future__ import annotations

import importlib
import re
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from util.errors import UserError
from util.files import real_path


def import_plugins(plugins: Iterable[str]) -> None:
    """Import each plugin, a ``.py`` file or a module's name; once per process.

    A file's folder is appended to ``sys.path``, so that loader processes can import the module as well.

    Raises:
        UserError: no such file or module, a file name that is already taken by another module, or an
            exception inside the plugin.
    """
    for plugin in plugins:
        if plugin.endswith(".py") or "/" in plugin or "\\" in plugin:
            _import_file(plugin)
        elif re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", plugin):
            _import_module(plugin, plugin)
        else:
            raise UserError(f"--plugin {plugin}: is neither a .py file nor a module's name.")


def _import_file(plugin: str) -> None:
    path = real_path(Path(plugin).expanduser())
    if path.suffix != ".py" or not path.is_file():
        raise UserError(f"--plugin {plugin}: there is no such .py file; check the path.")
    if not path.stem.isidentifier():
        raise UserError(f"--plugin {plugin}: '{path.stem}' cannot be a module's name; rename the file.")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    module = _import_module(path.stem, plugin)
    origin = getattr(module, "__file__", None)
    if origin is None or real_path(Path(origin)) != path:
        raise UserError(f"--plugin {plugin}: another module is already called '{path.stem}'; rename the file.")


def _import_module(name: str, plugin: str) -> ModuleType:
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            raise UserError(f"--plugin {plugin}: there is no module of that name; check the spelling.") from None
        raise UserError(f"--plugin {plugin}: importing it failed with {_reason(error)}; fix it.") from error


def _reason(error: Exception) -> str:
    """Type, message and place of a plugin's exception, in one line."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    if isinstance(error, SyntaxError):
        return text
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{text} ({Path(place.filename).name}, line {place.lineno})"
