"""What the engine needs of a model, and of what feeds it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
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


class Loader(Protocol):
    """Training batches; see ``data.loader.TrainingLoader``."""

    @property
    def batch_size(self) -> int: ...
    @property
    def images_per_epoch(self) -> int: ...
    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Mapping[str, Any]]: ...
