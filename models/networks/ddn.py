"""DDN's detail network, which SSIR uses as well.

Fu, Huang, Zeng, Huang, Ding, Paisley, "Removing Rain from Single Images via a Deep Detail Network", CVPR 2017.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.generator import State, width_of
from models.networks.norm import OwnStatisticsNorm
from util.layers import AnyMemoryFormat

RADIUS, EPSILON = 15, 1.0
"""Of the guided filter: pixels, and a variance on [0, 1]."""
UNITS = 12
"""Of two layers each."""


class DetailNetwork(AnyMemoryFormat):
    """Images [N, C, H, W] in [-1, 1] → image + f(image − guided filter of the image); inside they are in [0, 1].

    f is a layer (3×3 convolution, batch norm, ReLU), ``units`` residual units of two such layers, and a last layer
    without ReLU: 26 layers of 16 channels as published. The filter takes what is smooth away; f sees streaks and edges.

    Args:
        own_statistics: normalize by the images at hand in tests too, as SSIR does, and not by running statistics.
    """

    def __init__(self, channels: int = 3, width: int = 16, units: int = UNITS, *, own_statistics: bool = False) -> None:
        super().__init__()
        norm = OwnStatisticsNorm if own_statistics else nn.BatchNorm2d
        self.first = _layer(channels, width, norm)
        self.units = nn.ModuleList(
            nn.Sequential(_layer(width, width, norm), _layer(width, width, norm)) for _ in range(units)
        )
        self.last = nn.Sequential(nn.Conv2d(width, channels, 3, padding=1), norm(channels))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        image = (x + 1) / 2
        features = self.first(image - guided_filter(image))
        for unit in self.units:
            features = features + unit(features)
        return x + 2 * self.last(features)

    @classmethod
    def recognize(cls, state: State) -> dict[str, str] | None:
        """By the names of its first, middle and last layers."""
        if not {"first.0.weight", "units.0.0.0.weight", "last.0.weight"} <= state.keys():
            return None
        model = "ddn" if "first.1.running_mean" in state else "ssir"
        return {"model": model, "ngf": width_of(state, "first.0.weight"), "input_nc": width_of(state, "last.0.weight")}


def guided_filter(image: Tensor, radius: int = RADIUS, epsilon: float = EPSILON) -> Tensor:
    """The edge-preserving smoothing of ``image`` [N, C, H, W], each channel guided by itself (He et al., TPAMI 2013).

    In each window it is a · image + b with a = variance / (variance + ε), b = (1 − a) · mean; a and b are averaged over
    the windows of a pixel.
    """
    mean = _box_mean(image, radius)
    variance = _box_mean(image.square(), radius) - mean.square()
    slope = variance / (variance + epsilon)
    return _box_mean(slope, radius) * image + _box_mean((1 - slope) * mean, radius)


def _box_mean(x: Tensor, radius: int) -> Tensor:
    """Mean of the pixels of the image in the square around each, along columns and then along rows."""
    side = 2 * radius + 1
    for window, padding in (((side, 1), (radius, 0)), ((1, side), (0, radius))):
        x = F.avg_pool2d(x, window, stride=1, padding=padding, count_include_pad=False)
    return x


def _layer(inputs: int, outputs: int, norm: type[nn.Module]) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), norm(outputs), nn.ReLU())
