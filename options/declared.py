"""Who declares which option: the two programs, the models and the datasets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from options.program import PROGRAMS, Program
from util.errors import UserError
from util.option import Option
from util.registry import Registry
from util.suggest import did_you_mean


class Declares(Protocol):
    """What a model's and a dataset's class tell about their options."""

    options: tuple[Option, ...]

    def defaults(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Defaults that it changes, given the values chosen for its own options."""


def registries() -> dict[str, Registry[Any]]:
    """The registry that each of the flags ``--model`` and ``--dataset_mode`` chooses from."""
    from data import DATASETS
    from models import MODELS

    return {"model": MODELS, "dataset_mode": DATASETS}


def registered(flag: str, name: str) -> tuple[str, Declares]:
    """The declared spelling of ``name``, and the class of that name; :class:`UserError` if there is none."""
    registry = registries()[flag]
    spelled = {known.lower(): known for known in registry.names()}.get(name.lower(), name)
    return spelled, registry.get(spelled)


def options_of(flag: str, name: Any) -> tuple[Option, ...]:
    """The options of a model or dataset, or none if it is unknown or cannot be imported here."""
    try:
        return tuple(registered(flag, str(name))[1].options)
    except (UserError, ImportError):
        return ()


def elsewhere(name: str, program: Program) -> str | None:
    """Whose option ``name`` is, if not ``program``'s own: in words that follow "'name'", or None if nobody's."""
    for flag, registry in registries().items():
        owners = [owner for owner in registry.names() if name in {option.name for option in options_of(flag, owner)}]
        if owners:
            return f"belongs to --{flag} {' and '.join(owners)}; choose that or leave it out"
    for other in PROGRAMS:
        if other is not program and name in {option.name for option in other.options}:
            return f"is an option of {other.name}, not of {program.name}; leave it out"
    return None


def unknown_option(name: str, where: str, program: Program, known: Iterable[str]) -> UserError:
    """Explain an option that is not among ``known``: whose it is, or what may have been meant.

    ``where`` says where it stands, e.g. ``"--lr"`` or ``"'lr' in my.yaml"``.
    """
    known = set(known)
    name = name.replace("-", "_")
    owner = None if name in known else elsewhere(name, program)
    if owner:
        return UserError(f"{where}: {owner}.")
    hint = did_you_mean(name, known)
    return UserError(f"{where}: there is no such option{hint}; {program.name} --help lists them.")
