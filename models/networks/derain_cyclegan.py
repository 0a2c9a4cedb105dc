"""DerainCycleGAN's networks: a recurrent detector of rain, generators led by its mask, discriminators at three scales.

Wei et al., "DerainCycleGAN: Rain Attentive CycleGAN for Single Image Deraining and Rainmaking", TIP 2021. The
generator is that of Qian et al., "Attentive Generative Adversarial Network for Raindrop Removal", CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.generator import State, width_of
from util.layers import AnyMemoryFormat, PadToStride

ITERATIONS, BLOCKS = 6, 5
FIRST_MASK = 0.5
DILATIONS = (2, 4, 8, 16)
SCALES, HALVINGS = 3, 4
LEAK = 0.01


class RainDetector(AnyMemoryFormat):
    """Images [N, C, H, W] → mask [N, 1, H, W], not bounded: where rain adds how much light.

    Six rounds of shared weights look at the image and at the mask of the round before, and remember in a convolutional
    LSTM.
    """

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__()
        self.enter = nn.Sequential(_convolution(channels + 1, width), nn.ReLU())
        self.gates = _convolution(2 * width, 4 * width)  # input, forget, output and candidate
        self.blocks = nn.ModuleList(
            nn.Sequential(_convolution(width, width), nn.ReLU(), _convolution(width, width), nn.ReLU())
            for _ in range(BLOCKS)
        )
        self.leave = _convolution(width, 1)

    def forward(self, images: Tensor) -> Tensor:
        mask = torch.full_like(images[:, :1], FIRST_MASK)
        hidden: Tensor | None = None
        cell: Tensor | None = None
        for _ in range(ITERATIONS):
            x = self.enter(torch.cat([images, mask], 1))
            gates = self.gates(torch.cat([x, torch.zeros_like(x) if hidden is None else hidden], 1))
            take, keep, show, candidate = gates.chunk(4, 1)
            cell = take.sigmoid() * candidate.tanh() + (0 if cell is None else keep.sigmoid() * cell)
            x = hidden = show.sigmoid() * cell.tanh()
            for block in self.blocks:
                x = F.relu(x + block(x))
            mask = self.leave(x)
        return mask

    @classmethod
    def recognize(cls, state: State) -> dict[str, str] | None:
        """Width of the detector that ``state`` belongs to; None if it is another network."""
        if not {"enter.0.weight", "gates.weight", "leave.weight"} <= state.keys():
            return None
        return {"ngf": str(2 * state["leave.weight"].shape[1])}


class _Twice(nn.Module):
    """Twice the resolution, smoothed: a transposed convolution, then means of 2 × 2 pixels."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(width_in, width_out, 4, stride=2, padding=1)
        self.pad = nn.ReflectionPad2d((1, 0, 1, 0))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(F.avg_pool2d(self.pad(self.up(x)), 2, stride=1))


class AttentiveGenerator(AnyMemoryFormat):
    """Images [N, C, H, W] and masks [N, 1, H, W] → images [N, C, H, W], of any size and not bounded."""

    stride = 4

    def __init__(self, channels: int, width: int = 64) -> None:
        super().__init__()
        self.pad = PadToStride(self.stride, 2)
        two, four = 2 * width, 4 * width
        self.first = _active(nn.Conv2d(channels + 1, width, 5, padding=2))
        self.second = _active(_convolution(width, two, 2), _convolution(two, two))
        self.third = _active(
            _convolution(two, four, 2),
            *(_convolution(four, four) for _ in range(2)),
            *(nn.Conv2d(four, four, 3, padding=dilation, dilation=dilation) for dilation in DILATIONS),
            *(_convolution(four, four) for _ in range(2)),
        )
        self.to_half, self.at_half = _Twice(four, two), _active(_convolution(two, two))
        self.to_full, self.at_full = _Twice(two, width), _active(_convolution(width, width // 2))
        self.image = _convolution(width // 2, channels)

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        padded, crop = self.pad(torch.cat([images, mask], 1))
        full = self.first(padded)
        half = self.second(full)
        at_half = self.at_half(self.to_half(self.third(half)) + half)
        return crop(self.image(self.at_full(self.to_full(at_half) + full)))

    @classmethod
    def recognize(cls, state: State) -> dict[str, str] | None:
        """Width of the generator that ``state`` belongs to; None if it is another network."""
        if not {"first.0.weight", "to_half.up.weight", "image.weight"} <= state.keys():
            return None
        return {"ngf": width_of(state, "first.0.weight")}


class MultiScaleDiscriminator(AnyMemoryFormat):
    """Images [N, C, H, W] → logits [N, 1, h, w] at full, half and quarter resolution."""

    smallest = 2 * 2 ** (SCALES - 1 + HALVINGS - 1)  # pixels a side: reflection needs two in front of each convolution

    def __init__(self, channels: int, width: int = 64) -> None:
        super().__init__()
        self.scales = nn.ModuleList(_judge(channels, width) for _ in range(SCALES))

    def forward(self, images: Tensor) -> list[Tensor]:
        logits = []
        for scale in self.scales:
            logits.append(scale(images))
            images = F.avg_pool2d(images, 3, stride=2, padding=1, count_include_pad=False)
        return logits

    def full_resolution(self, images: Tensor) -> Tensor:
        """The first of the logits alone."""
        return self.scales[0](images)


def _judge(channels: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    width_in = channels
    for level in range(HALVINGS):
        width_out = width * 2**level
        layers += [nn.ReflectionPad2d(1), nn.Conv2d(width_in, width_out, 4, stride=2), nn.LeakyReLU(LEAK)]
        width_in = width_out
    return nn.Sequential(*layers, nn.Conv2d(width_in, 1, 1))


def _convolution(width_in: int, width_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(width_in, width_out, 3, stride=stride, padding=1)


def _active(*convolutions: nn.Module) -> nn.Sequential:
    """With a ReLU after each."""
    layers: Sequence[nn.Module] = [layer for each in convolutions for layer in (each, nn.ReLU())]
    return nn.Sequential(*layers)
