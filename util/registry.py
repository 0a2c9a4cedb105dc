"""A table from public names to things that are imported only when asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from util.errors import UserError
from util.text import did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """Maps a public name to an object.

    ``lazy`` lists what the project brings, as ``name -> "package.module:attribute"``; each module is
    imported when its name is first asked for, so that one optional dependency never breaks the others.
    Plugins add theirs with :meth:`register`.
    """

    def __init__(self, kind: str, flag: str, lazy: Mapping[str, str]) -> None:
        """``kind`` and ``flag`` name the thing in error messages, e.g. ``"model"`` and ``"--model"``."""
        self._kind, self._flag = kind, flag
        self._lazy = dict(lazy)
        self._loaded: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that adds an object under ``name``; raises :class:`ValueError` if the name is taken."""

        def add(item: T) -> T:
            taken = self._loaded.get(name)
            if name in self._lazy or (taken is not None and taken is not item):
                raise ValueError(f"the {self._kind} name '{name}' is already taken")
            self._loaded[name] = item
            return item

        return add

    def names(self) -> tuple[str, ...]:
        """All known names, sorted."""
        return tuple(sorted({*self._lazy, *self._loaded}))

    def get(self, name: str) -> T:
        """Return the object called ``name``.

        Raises:
            UserError: no such name; the message lists the known ones and suggests the nearest.
        """
        if name in self._loaded:
            return self._loaded[name]
        if name not in self._lazy:
            known = ", ".join(self.names())
            raise UserError(
                f"{self._flag} {name}: no such {self._kind}{did_you_mean(name, self.names())}; choose from {known}."
            )
        module, attribute = self._lazy[name].split(":")
        item: Any = getattr(importlib.import_module(module), attribute)
        self._loaded[name] = item
        return self._loaded[name]
