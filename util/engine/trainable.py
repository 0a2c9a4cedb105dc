"""What the engine needs of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from torch import Tensor, nn


class PhaseLike(Protocol):
    """One update within a step; see ``models.base_model.Phase``."""

    @property
    def name(self) -> str: ...
    @property
    def trains(self) -> tuple[str, ...]: ...
    @property
    def losses(self) -> Callable[[Any], dict[str, Tensor]]: ...


class Trainable(Protocol):
    """A model; see ``models.base_model.Model``."""

    nets: dict[str, nn.Module]
    frozen: dict[str, nn.Module]
    state: dict[str, Any]

    @property
    def inference_nets(self) -> tuple[str, ...]: ...
    @property
    def phases(self) -> Iterable[PhaseLike]: ...
    def forward(self, batch: Any) -> Any: ...
    def infer(self, source: Tensor) -> Tensor: ...
    def visuals(self, passed: Any) -> dict[str, Tensor]: ...
