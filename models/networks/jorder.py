"""JORDER-E's network: two stages that find the rain's mask and level, and take the rain off by what they found.

Yang, Tan, Feng, Guo, Yan, Liu, "Joint Rain Detection and Removal from a Single Image with Contextualized Deep
Networks", TPAMI 2019. Images are [0, 255].
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.networks.generator import State, width_of
from util.layers import AnyMemoryFormat

BLOCKS = 9
CONTEXT = 0.1  # how much the wider paths of a block count
MASK, HEAD, MODULATION = 2, 8, 16  # channels: no rain and rain; of a head's middle; of a modulation's middle


class Found(NamedTuple):
    """What a stage finds: the derained image, the mask's logits [N, 2, H, W], the level, and its blocks' features."""

    image: Tensor
    mask: Tensor
    level: Tensor
    features: list[Tensor]


class ContextBlock(nn.Module):
    """x + p₁(x) + 0.1 p₂(x) + 0.1 p₃(x), each path two dilated 3×3 convolutions with a ReLU after each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.near, self.middle, self.far = (_path(width, *dilations) for dilations in ((1, 1), (2, 2), (2, 4)))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.near(x) + CONTEXT * self.middle(x) + CONTEXT * self.far(x)


def _path(width: int, first: int, second: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=first, dilation=first),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=second, dilation=second),
        nn.ReLU(),
    )


class Modulation(nn.Module):
    """Two maps as wide as the features, made of a mask or level: what to add to them, and what to multiply them by.

    The latter is 1 until something is learned.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.add, self.multiply = (
            nn.Sequential(_convolution(channels, MODULATION), nn.ReLU(), _convolution(MODULATION, width))
            for _ in range(2)
        )
        last: Any = self.multiply[2]
        nn.init.zeros_(last.weight)
        nn.init.ones_(last.bias)


class Stage(nn.Module):
    """Sees the rainy image and the estimate before it; the second stage also what the first one found."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.encoder = _convolution(2 * channels, width)
        self.blocks = nn.ModuleList(ContextBlock(width) for _ in range(BLOCKS))
        self.mask = nn.Sequential(_convolution(width, HEAD), _convolution(HEAD, MASK))
        self.level = nn.Sequential(_convolution(width, HEAD), _convolution(HEAD, channels))
        self.by_mask, self.by_level = Modulation(MASK, width), Modulation(channels, width)
        self.decoder = nn.Sequential(_convolution(width, width), _convolution(width, channels))

    def forward(self, rainy: Tensor, before: Found | None = None) -> Found:
        x = self.encoder(torch.cat([rainy, rainy if before is None else before.image], 1))
        features = []
        for number, block in enumerate(self.blocks):
            x = block(x) if before is None else block(x) + before.features[number]
            features.append(x)
        mask, level = self.mask(x), self.level(x)
        if before is not None:
            mask, level = mask + before.mask, level + before.level
        added = x + self.by_mask.add(mask) + self.by_level.add(level)
        multiplied = x * self.by_mask.multiply(mask) * self.by_level.multiply(level)
        return Found(rainy + self.decoder(added + multiplied), mask, level, features)


def _convolution(width_in: int, width_out: int) -> nn.Conv2d:
    return nn.Conv2d(width_in, width_out, 3, padding=1)


class JorderNet(AnyMemoryFormat):
    """Rainy images [N, C, H, W] in [0, 255] → what the first and the second stage find, at full resolution."""

    def __init__(self, channels: int, width: int = 64) -> None:
        super().__init__()
        self.first, self.second = Stage(channels, width), Stage(channels, width)

    def forward(self, rainy: Tensor) -> tuple[Found, Found]:
        first = self.first(rainy)
        return first, self.second(rainy, first)

    @classmethod
    def recognize(cls, state: State) -> dict[str, str] | None:
        """Width of the network that ``state`` belongs to; None if it is another network's."""
        if not {"first.encoder.weight", "second.by_mask.multiply.2.weight"} <= state.keys():
            return None
        return {"ngf": width_of(state, "first.encoder.weight")}
