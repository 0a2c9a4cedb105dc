"""This checkout as the package ``cclgan_pytorch``; ``pip install .`` makes this file its ``__init__.py``.

The folders ``models``, ``data``, ``options``, ``util`` and ``scripts`` import each other by these names, which other
projects have too. Commands run in a process of their own, with the package's folder first on ``sys.path``. When the
package is imported, its modules are ``cclgan_pytorch.models`` and so on: their import statements are read as if they
said so, and no other ``models`` is touched. torch.hub uses :func:`import_checkout`. Standard library only.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import re
import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

PACKAGE = "cclgan_pytorch"
FOLDER = Path(__file__).resolve().parent if __name__ == PACKAGE else Path(__file__).resolve().parents[1]

_OURS = "data|models|options|scripts|util|train|test"
_REWRITES = (
    (re.compile(rf"^(\s*from )((?:{_OURS})\b)", re.MULTILINE), rf"\1{PACKAGE}.\2"),
    (re.compile(rf"^(\s*import )({_OURS})( as \w+)", re.MULTILINE), rf"\1{PACKAGE}.\2\3"),
    (re.compile(rf"^(\s*import )({_OURS})(?=\s*(?:#.*)?$)", re.MULTILINE), rf"\1{PACKAGE}.\2 as \2"),
    (re.compile(rf'"((?:{_OURS})\.[\w.]+:\w+")'), rf'"{PACKAGE}.\1'),  # tables of registries
)


def rewrite(source: str) -> str:
    """Source code of the checkout that imports its neighbors as parts of the package; its lines stay where they are."""
    for pattern, replacement in _REWRITES:
        source = pattern.sub(replacement, source)
    return source


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        """Compiled anew: the cache next to the file has what is imported under its own name."""
        path = self.get_filename(fullname)
        return compile(rewrite(Path(path).read_text(encoding="utf-8")), path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        if not fullname.startswith(f"{PACKAGE}."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(fullname, spec.loader.path)
        return spec


def import_checkout(name: str) -> ModuleType:
    """Import ``cclgan_pytorch.<name>`` from this checkout, whatever packages of equal names there are."""
    if PACKAGE not in sys.modules:
        spec = importlib.util.spec_from_file_location(PACKAGE, __file__, submodule_search_locations=[str(FOLDER)])
        assert spec is not None and spec.loader is not None
        sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[PACKAGE])
    return importlib.import_module(f"{PACKAGE}.{name}")


def derain() -> None:
    """The command ``derain``: ``test.py`` of the package."""
    _run("test.py")


def derain_train() -> None:
    """The command ``derain-train``: ``train.py`` of the package."""
    _run("train.py")


def _run(program: str) -> None:
    sys.path.insert(0, str(FOLDER))
    runpy.run_path(str(FOLDER / program), run_name="__main__")


if __name__ == PACKAGE and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
    sys.meta_path.insert(0, _Finder())
