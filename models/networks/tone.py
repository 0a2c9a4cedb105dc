"""A branch without norm that lightens and darkens an image from place to place, as fog does and instance norm undoes.

Under a veil an image is N (1 - a) + A0 a, which moves and squeezes all values alike, so behind instance norm nothing
shows how dense the veil is. The darkest values show it: a scene has dark places, and under a veil no place is dark (the
dark channel prior of He et al., CVPR 2009). What takes a veil off, a scale 1 / (1 - a) and a shift -a A0 / (1 - a),
changes slowly over the image, so both are found at 1/8 of the resolution.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from util.numerics import at_least_float32

CELL = 8
"""Pixels a side of the squares that get a scale and a shift of their own."""
_DILATIONS = (1, 2, 4)  # together with the first layer: 17 × 17 cells are seen
_SLOPE = 0.2


class ToneBranch(nn.Module):
    """Images [N, C, H, W] in [-1, 1], H and W multiples of ``CELL`` → the same, scaled and shifted.

    It sees each cell's mean, and how dark its darkest and how bright its brightest channel gets.
    """

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__()
        self.first = _convolution(channels + 2, width, 1)
        self.blocks = nn.ModuleList(_convolution(width, width, dilation) for dilation in _DILATIONS)
        self.last = nn.Conv2d(width, 2 * channels, 1)

    def start_at_identity(self) -> None:
        """Scale by 1 and shift by 0; called after initialisation, whose small weights would make a slow start."""
        for layer in (self.first, *self.blocks):
            assert isinstance(layer, nn.Conv2d)
            layer.reset_parameters()
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    @at_least_float32
    def forward(self, x: Tensor) -> Tensor:
        features = F.leaky_relu(self.first(_cells(x)), _SLOPE)
        for block in self.blocks:
            features = features + F.leaky_relu(block(features), _SLOPE)
        of_cells = self.last(features)
        scale, shift = F.interpolate(of_cells, x.shape[2:], mode="bilinear", align_corners=False).chunk(2, 1)
        return x + x * scale + shift


def _cells(x: Tensor) -> Tensor:
    """Mean, minimum over the channels and the cell, and maximum: [N, C + 2, H / CELL, W / CELL].

    Extremes are those of means over 2 × 2 pixels, so that noise counts little.
    """
    smooth = F.avg_pool2d(x, 2)
    darkest = -F.max_pool2d(-smooth.amin(1, keepdim=True), CELL // 2)
    brightest = F.max_pool2d(smooth.amax(1, keepdim=True), CELL // 2)
    return torch.cat([F.avg_pool2d(x, CELL), darkest, brightest], 1)


def _convolution(channels: int, width: int, dilation: int) -> nn.Conv2d:
    return nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation, padding_mode="replicate")
