"""The chosen model and dataset, and the defaults that follow from the choice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from options.base_options import Groups
from options.declared import registered
from options.program import PROGRAMS, Program
from util.option import Option

Values = Callable[[Iterable[Option]], dict[str, Any]]
"""The values that somebody gave to some of these options, converted."""


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
    elsewhere = {option.name for other in PROGRAMS for option in other.options}
    unknown = preferred.keys() - declared.keys() - elsewhere
    assert not unknown, f"{model_name} or {dataset_name} has defaults for unknown options: {sorted(unknown)}"
    known = {name: value for name, value in spread_norm(preferred).items() if name in declared}
    return Choice(model_name, dataset_name, groups, {**declared, **known})


def spread_norm(values: dict[str, Any]) -> dict[str, Any]:
    """``--norm`` stands for --normG and --normD, unless these are given beside it."""
    if values.get("norm") is None:
        return values
    return {"normG": values["norm"], "normD": values["norm"], **values}
