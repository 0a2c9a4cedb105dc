"""The network as those see it who feed it pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from util.errors import UserError
from util.pixels import COLOUR_CHANNELS, luma

GREY = 1


@dataclass(frozen=True)
class Network:
    """Something that derains images [N, ``channels``, H, W] in [-1, 1] on the CPU.

    ``channels`` is 1 or 3, ``batch_size`` how many images of one size it gets together at most.
    """

    translate: Callable[[Tensor], Tensor]
    channels: int = COLOUR_CHANNELS
    batch_size: int = 1

    def __post_init__(self) -> None:
        """Raises UserError for a network that no picture fits."""
        if self.channels not in (GREY, COLOUR_CHANNELS):
            raise UserError(f"--input: pictures have 1 channel (grey) or 3, but this network takes {self.channels}.")

    def __call__(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Derain images [1, C, H, W] of one size; a list of as many."""
        return list(self.translate(torch.cat(list(images))).split(1))


def with_colours(output: Tensor, source: Tensor) -> Tensor:
    """Give the output of a grey network the colours of its source.

    What the network changed in the luma is changed in red, green and blue alike, which leaves the chroma as it was.

    Args:
        output: [1, 1, H, W] in [-1, 1], made from the luma of ``source``.
        source: [1, 3, H, W].
    """
    return source + (output - luma(source))
