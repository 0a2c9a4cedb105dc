"""A batch in pieces, computed one after another for one update: a large batch in the memory of a small one."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Piece:
    """Some images of a batch, their ``share`` in it, and what the model's forward pass made of them."""

    batch: Mapping[str, Any]
    share: float
    passed: Any = None
    _random_state: list[Tensor] = field(default_factory=list)

    @contextlib.contextmanager
    def random_numbers(self, device: torch.device) -> Iterator[None]:
        """In this context the random numbers are the same each time; the first time, they are those that come next."""
        on_gpu = [device] if device.type == "cuda" else []
        if not self._random_state:
            self._random_state = [torch.get_rng_state(), *map(torch.cuda.get_rng_state, on_gpu)]
            yield
            return
        with torch.random.fork_rng(devices=on_gpu):
            torch.set_rng_state(self._random_state[0])
            for gpu, state in zip(on_gpu, self._random_state[1:], strict=True):
                torch.cuda.set_rng_state(state, gpu)
            yield


def split_batch(batch: Mapping[str, Any], count: int) -> list[Piece]:
    """``batch`` in ``count`` pieces of nearly equal size, or as many as it has images."""
    images = len(batch["A"])
    count = min(count, images)
    if count <= 1:
        return [Piece(batch, 1.0)]
    bounds = [images * number // count for number in range(count + 1)]
    return [
        Piece({key: _part(value, images, start, stop) for key, value in batch.items()}, (stop - start) / images)
        for start, stop in itertools.pairwise(bounds)
    ]


def weighted_sum(terms: Mapping[str, Tensor], more: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """``terms`` + ``share`` × ``more``, name by name and detached."""
    return {name: terms.get(name, 0.0) + share * term.detach() for name, term in more.items()}


def networks_behind(passed: Any, nets: Mapping[str, nn.Module]) -> frozenset[str]:
    """Names of the networks that gradients of what a forward pass returned would reach.

    All of them, if it returned something that cannot be looked into.
    """
    owners = {id(parameter): name for name, network in nets.items() for parameter in network.parameters()}
    try:
        waiting = [tensor.grad_fn for tensor in _tensors(passed) if tensor.grad_fn is not None]
    except TypeError:
        return frozenset(nets)
    seen, found = set(waiting), set()
    while waiting:
        node = waiting.pop()
        found.add(owners.get(id(getattr(node, "variable", None))))
        following = {next_node for next_node, _ in node.next_functions if next_node is not None} - seen
        seen |= following
        waiting.extend(following)
    return frozenset(name for name in found if name is not None)


def _part(value: Any, images: int, start: int, stop: int) -> Any:
    """Entries ``start`` to ``stop`` of a value with one for each image; other values as they are."""
    belongs = isinstance(value, (Tensor, list, tuple)) and len(value) == images
    return value[start:stop] if belongs else value


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors inside lists, mappings and objects with attributes; raises :class:`TypeError` for anything else."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif value is not None and not isinstance(value, (str, int, float)):
        yield from _tensors(vars(value))
