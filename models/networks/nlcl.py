"""NLCL's generator, which takes one layer, the background or the rain, out of an image.

Ye, Yu, Chang, Zhu, Zhao, Yan, Tian, "Unsupervised Deraining: Where Contrastive Learning Meets Self-similarity", CVPR
2022.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.networks.generator import State, width_of
from models.networks.passes import TappedSequential

BLOCKS = 16


class PlainResidualBlock(nn.Module):
    """x + (3×3 convolution, instance norm, ReLU, 3×3 convolution, instance norm)(x)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_between(channels), nn.InstanceNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class LayerGenerator(TappedSequential):
    """Images [N, C, H, W] in [-1, 1] → a layer of the same size, without a bound; nothing is downsampled.

    Position 0 of ``model`` is the first convolution, then come ``blocks`` residual blocks (taps ``block1`` …), a block
    without a sum, and the last convolution. Weights are left as PyTorch initializes them, as published.
    """

    stride = 1

    def __init__(self, input_nc: int, output_nc: int, width: int = 32, blocks: int = BLOCKS) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(input_nc, width, 3, padding=1),
            *(PlainResidualBlock(width) for _ in range(blocks)),
            nn.Sequential(*_between(width)),
            nn.Conv2d(width, output_nc, 3, padding=1),
        )
        self.tap_positions = {"conv": 0, **{f"block{number}": number for number in range(1, blocks + 1)}}

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)[0]

    def forward_tapped(self, x: Tensor, taps: tuple[str, ...]) -> tuple[Tensor, list[Tensor]]:
        """The layer and, from the same pass, the features at ``taps``."""
        return self.run(x, taps)

    def encode(self, x: Tensor, taps: tuple[str, ...]) -> list[Tensor]:
        """Only the features at ``taps``; nothing behind the deepest of them is computed."""
        return self.run(x, taps, stop=True)[1]

    @classmethod
    def recognize(cls, state: State) -> dict[str, str] | None:
        """By its residual blocks."""
        if "model.1.body.0.weight" not in state:
            return None
        return {
            "model": "nlcl",
            "ngf": width_of(state, "model.0.weight"),
            "input_nc": str(state["model.0.weight"].shape[1]),
        }


def _between(channels: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.InstanceNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, 3, padding=1),
    ]
