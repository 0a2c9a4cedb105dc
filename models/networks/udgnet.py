"""UDGNet's networks: two like branches that tell scene and rain apart, and one that finds the angle of the rain.

Yu et al., "Unsupervised image deraining: Optimization model driven deep CNN", ACM Multimedia 2021. Images are [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.networks.generator import State, width_of
from util.layers import AnyMemoryFormat

ANGLE_PATCH = 128  # pixels a side that the angle network reduces to one number
_ANGLE_LEVELS = ((2, 64), (4, 128), (4, 64), (4, 32))  # pooling and width, after a first level of 32 channels


def _convolution(width_in: int, width_out: int, side: int = 3) -> nn.Conv2d:
    return nn.Conv2d(width_in, width_out, side, padding=side // 2)


class ResidualBlock(nn.Module):
    """x + BN(conv(ReLU(BN(conv(x)))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(width, width),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            _convolution(width, width),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class LayerBranch(AnyMemoryFormat):
    """O [N, C, H, W] → O − network(O), at full resolution throughout: the scene, or in another branch the rain."""

    def __init__(self, channels: int, width: int = 32, blocks: int = 32) -> None:
        super().__init__()
        self.head = _convolution(channels, width)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.tail = nn.Sequential(
            _convolution(width, width),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            _convolution(width, width),
            _convolution(width, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x - self.tail(self.blocks(self.head(x)))

    @classmethod
    def recognize(cls, state: State) -> dict[str, str] | None:
        """Width and depth of the branch that ``state`` belongs to; None if it is another network's."""
        if not {"head.weight", "tail.4.weight", "blocks.0.body.4.weight"} <= state.keys():
            return None
        blocks = {key.split(".")[1] for key in state if key.startswith("blocks.")}
        return {"ngf": width_of(state, "head.weight"), "udg_blocks": str(len(blocks))}


class AngleNet(AnyMemoryFormat):
    """Patches [N, C, 128, 128] → a [N]: streaks run in the direction of 45 + 90 a degrees, 0.5 is vertical.

    Of larger images the mean over the patches of a grid.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(channels, channels, 1), *_twice(channels, 32)]
        width_in = 32
        for pooling, width in _ANGLE_LEVELS:
            layers += [nn.MaxPool2d(pooling), *_twice(width_in, width)]
            width_in = width
        self.model = nn.Sequential(*layers, _convolution(width_in, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).mean((1, 2, 3))


def _twice(width_in: int, width: int) -> list[nn.Module]:
    return [_convolution(width_in, width), nn.ReLU(), _convolution(width, width), nn.ReLU()]


def rotated(images: Tensor, degrees: Tensor) -> Tensor:
    """Images [N, C, H, W], each turned about its middle by its ``degrees`` [N], counterclockwise as one sees it.

    Bilinear; the size stays, and what comes from outside is 0.
    """
    height, width = images.shape[2:]
    radians = torch.deg2rad(degrees.to(images.dtype))
    sin, cos = radians.sin().view(-1, 1, 1), radians.cos().view(-1, 1, 1)
    y = torch.arange(height, device=images.device, dtype=images.dtype).view(1, -1, 1) - (height - 1) / 2
    x = torch.arange(width, device=images.device, dtype=images.dtype).view(1, 1, -1) - (width - 1) / 2
    source_x, source_y = cos * x - sin * y, sin * x + cos * y  # y points down
    grid = torch.stack([2 * source_x / width, 2 * source_y / height], 3)
    return nn.functional.grid_sample(images, grid, align_corners=False)
