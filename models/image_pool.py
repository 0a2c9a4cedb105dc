"""A buffer of earlier fakes for the discriminator (Shrivastava et al. 2017, as CycleGAN uses it)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_SWAP_PROBABILITY = 0.5


class ImagePool:
    """Returns, for each new fake, either that fake or an earlier one that it then replaces.

    A pool of size 0 returns the fakes as they are. Draws come from torch's global generator.

    Attributes:
        gather: where several processes train, gives all their images for this process's, and which of them these
            are; all processes then have the same pool, that of the whole batch. The engine sets it.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.gather: Callable[[Tensor], tuple[Tensor, slice]] | None = None
        self._images: list[Tensor] = []

    def query(self, fakes: Tensor) -> Tensor:
        """Detached images [N, C, H, W]; until the pool is full the new fakes go in and come back."""
        fakes = fakes.detach()
        if self.size == 0:
            return fakes
        everybody, own = (fakes, slice(None)) if self.gather is None else self.gather(fakes)
        exchanged = torch.stack([self._exchange(fake) for fake in everybody])[own]
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
