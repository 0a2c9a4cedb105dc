"""A buffer of earlier fakes for the discriminator (Shrivastava et al. 2017, as CycleGAN uses it)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Gather = Callable[[Tensor], tuple[Tensor, slice]]
"""Gives the images of all processes for this process's, and which of them these are."""

_SWAP_PROBABILITY = 0.5


def _gather_nothing(images: Tensor) -> tuple[Tensor, slice]:
    """Where one process trains."""
    return images, slice(None)


class ImagePool:
    """Returns, for each new fake, either that fake or an earlier one that it then replaces.

    A pool of size 0 returns the fakes as they are. Draws come from torch's global generator.

    Attributes:
        gather: set where several processes train, by ``Model.use_gather``.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.gather: Gather = _gather_nothing
        self._images: list[Tensor] = []

    def query(self, fakes: Tensor) -> Tensor:
        """Detached images [N, C, H, W]; until the pool is full the new fakes go in and come back."""
        fakes = fakes.detach()
        if self.size == 0:
            return fakes
        everyones, own = self.gather(fakes)
        exchanged = torch.stack([self._exchange(fake) for fake in everyones])[own]
        return exchanged if len(exchanged) else fakes  # of a process that has no image of its own in this batch

    def _exchange(self, fake: Tensor) -> Tensor:
        if len(self._images) < self.size:
            self._images.append(fake.clone())
            return fake
        if torch.rand(()) < _SWAP_PROBABILITY:
            place = int(torch.randint(self.size, ()))
            earlier, self._images[place] = self._images[place], fake.clone()
            return earlier
        return fake

    def state_dict(self) -> dict[str, Any]:
        """The stored images."""
        return {"images": list(self._images)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put stored images back."""
        self._images = list(state["images"])
