"""NAFNet: a U-shaped restoration network without activations, with gates and pooled channel attention instead.

Chen, Chu, Zhang, Sun, "Simple Baselines for Image Restoration", ECCV 2022. Parameters are named as in the publication's
weights, and images are [0, 1] inside, so that weights trained here run in every program that knows NAFNet (spandrel:
ComfyUI, chaiNNer, …), and theirs here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.generator import Generator, State, width_of, zero_

BLOCKS = "1,1,2,8,1,1,1"
"""Blocks on the way down, in the middle, and on the way up, where none are given."""


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each pixel."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        centered = x - x.mean(1, keepdim=True)
        scale = (centered.square().mean(1, keepdim=True) + self.eps).rsqrt()
        return centered * scale * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)


def gate(x: Tensor) -> Tensor:
    """One half of the channels times the other."""
    first, second = x.chunk(2, 1)
    return first * second


class NAFBlock(nn.Module):
    """x + β · attention(x), then + γ · mixing(x); β and γ start at 0."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(channels), ChannelNorm(channels)
        self.conv1 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv2 = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1))
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.conv4 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv5 = nn.Conv2d(channels, channels, 1)
        self.beta, self.gamma = (nn.Parameter(torch.zeros(1, channels, 1, 1)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        gated = gate(self.conv2(self.conv1(self.norm1(x))))
        x = x + self.beta * self.conv3(gated * self.sca(gated))
        return x + self.gamma * self.conv5(gate(self.conv4(self.norm2(x))))


class NAFNetGenerator(Generator):
    """Images of any size in [-1, 1] come back in the same size; what is missing to a multiple of ``stride`` is black.

    Taps: ``intro`` (full resolution, ngf channels), ``down1`` … ``downN`` (halved and doubled each) and ``block1`` …
    ``blockM`` of the middle.

    Args:
        nafnet_blocks: how many on each level of the way down, in the middle, and on each level of the way up.
        residual: output = input + network(input), as published; else tanh(network(input)).
    """

    def __init__(
        self,
        input_nc: int,
        output_nc: int,
        ngf: int = 16,
        *,
        nafnet_blocks: str = BLOCKS,
        residual: bool = False,
        **unused: Any,
    ) -> None:
        counts = [int(count) for count in nafnet_blocks.split(",")]
        levels = len(counts) // 2
        super().__init__(input_nc, output_nc, stride=2**levels, residual=residual)
        down, middle, up = counts[:levels], counts[levels], counts[levels + 1 :]
        widths = [ngf * 2**level for level in range(levels + 1)]
        self.intro = nn.Conv2d(input_nc, ngf, 3, padding=1)
        self.encoders = nn.ModuleList(_stage(width, count) for width, count in zip(widths, down, strict=False))
        self.downs = nn.ModuleList(nn.Conv2d(width, 2 * width, 2, stride=2) for width in widths[:-1])
        self.middle_blks = _stage(widths[-1], middle)
        self.ups = nn.ModuleList(_up(width) for width in reversed(widths[1:]))
        self.decoders = nn.ModuleList(_stage(width, count) for width, count in zip(widths[-2::-1], up, strict=True))
        self.ending = nn.Conv2d(ngf, output_nc, 3, padding=1)
        self.tap_names = (
            "intro",
            *(f"down{level}" for level in range(1, levels + 1)),
            *(f"block{number}" for number in range(1, middle + 1)),
        )

    def start_at_identity(self) -> None:
        """Zero the last convolution if the generator is residual; called after initialization."""
        if self.residual:
            zero_(self.ending)

    def forward_tapped(self, x: Tensor, taps: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
        """The output image and, from the same pass, the features at ``taps``."""
        self.check_taps(taps)
        height, width = x.shape[2:]
        features: dict[str, Tensor] = {}
        skips, deepest = self._way_down(self._prepared(x), features)
        for up, skip, decoder in zip(self.ups, reversed(skips), self.decoders, strict=True):
            deepest = decoder(up(deepest) + skip)
        output = self.ending(deepest)[:, :, :height, :width]
        # The published network adds its change to an image in [0, 1]: there it is half of what it is in [-1, 1].
        output = x + 2 * output if self.residual else torch.tanh(output)
        return output, [features[tap] for tap in taps]

    def encode(self, x: Tensor, taps: Sequence[str]) -> list[Tensor]:
        """Only the features at ``taps``: the way down and the middle."""
        self.check_taps(taps)
        features: dict[str, Tensor] = {}
        self._way_down(self._prepared(x), features)
        return [features[tap] for tap in taps]

    def _prepared(self, x: Tensor) -> Tensor:
        """[-1, 1] → [0, 1], black where a multiple of the stride is missing, as the published network has it."""
        height, width = x.shape[2:]
        return F.pad((x + 1) / 2, (0, -width % self.stride, 0, -height % self.stride))

    def _way_down(self, x: Tensor, features: dict[str, Tensor]) -> tuple[list[Tensor], Tensor]:
        """Features of each level, and those of the middle; fills ``features`` by tap."""
        x = features["intro"] = self.intro(x)
        skips = []
        for level, (encoder, down) in enumerate(zip(self.encoders, self.downs, strict=True), 1):
            skips.append(encoder(x))
            x = features[f"down{level}"] = down(skips[-1])
        for number, block in enumerate(self.middle_blks, 1):
            x = features[f"block{number}"] = block(x)
        return skips, x

    @classmethod
    def recognize(cls, state: State) -> dict[str, str] | None:
        """By the names of its first and last layers and of the attention in its middle."""
        if not {"intro.weight", "ending.weight", "downs.0.weight", "middle_blks.0.sca.1.weight"} <= state.keys():
            return None
        levels = _length(state, r"downs\.(\d+)\.")
        stages = [
            *(rf"encoders\.{level}\.(\d+)\." for level in range(levels)),
            r"middle_blks\.(\d+)\.",
            *(rf"decoders\.{level}\.(\d+)\." for level in range(levels)),
        ]
        return {
            "netG": "nafnet",
            "ngf": width_of(state, "intro.weight"),
            "nafnet_blocks": ",".join(str(_length(state, stage)) for stage in stages),
            "input_nc": str(state["intro.weight"].shape[1]),
            "output_nc": width_of(state, "ending.weight"),
        }


def _stage(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(NAFBlock(channels) for _ in range(count)))


def _up(channels: int) -> nn.Sequential:
    """Twice the resolution, half of the channels."""
    return nn.Sequential(nn.Conv2d(channels, 2 * channels, 1, bias=False), nn.PixelShuffle(2))


def _length(state: State, pattern: str) -> int:
    """One more than the highest number that ``pattern`` finds at the beginning of a key."""
    return max((int(found[1]) + 1 for key in state if (found := re.match(pattern, key))), default=0)
