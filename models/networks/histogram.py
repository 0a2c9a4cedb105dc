"""What instance norm takes from a network, given back: how dark and how bright an image is as a whole.

A veil of fog over the whole image, N (1 - a) + A0 a, moves and squeezes all values alike. Instance norm undoes just
that, so behind it nothing shows how dense the veil is. The histogram does: a scene has dark places, and under a veil
no place is dark (the dark channel prior of He et al., CVPR 2009). What takes a veil off is a scale, 1 / (1 - a), and a
shift, -a A0 / (1 - a), of the image itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from util.numerics import at_least_float32

Film = tuple[Tensor, Tensor]
"""Scale and shift of a layer's channels, [N, C, 1, 1] each."""
LEVELS = 16
"""Grey levels at which each of the two histograms is taken, spread evenly over [-1, 1]."""
_SLOPE = 0.2
_STEP = 2 / (LEVELS - 1)


def modulated(x: Tensor, film: Film | None) -> Tensor:
    """[N, C, H, W], scaled and shifted, in its own type; as it is with None."""
    return x if film is None else torch.addcmul(film[1].to(x.dtype), x, film[0].to(x.dtype))


class SoftHistogram(nn.Module):
    """Cumulative histograms of the darkest and the brightest channel: images in [-1, 1] → [N, 2 · LEVELS] in [-1, 1].

    For each level t the mean over all places of tanh((t - x) / step): 1 if all are far darker, -1 if all are far
    brighter. Places are means over 2 × 2 pixels, so noise counts little.
    """

    levels: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("levels", torch.linspace(-1, 1, LEVELS), persistent=False)
        self.mean = nn.AdaptiveAvgPool2d(1)  # a layer, so that all tiles of an image can share it

    def forward(self, x: Tensor) -> Tensor:
        places = F.avg_pool2d(x, 2)
        both = torch.stack([places.amin(1), places.amax(1)], 1).unsqueeze(2)
        return self.mean(torch.tanh((self.levels.view(LEVELS, 1, 1) - both) / _STEP).flatten(1, 2)).flatten(1)


class Modulation(nn.Module):
    """Scale and shift for the channels of layers of given widths, from an image's histogram (FiLM, Perez et al., 2018).

    [N, C, H, W] in [-1, 1] → for each width c a pair of scale and shift, [N, c, 1, 1]; 1 and 0 at the beginning.
    """

    def __init__(self, widths: Sequence[int], hidden: int = 64) -> None:
        super().__init__()
        self.histogram = SoftHistogram()
        self.hidden = nn.Linear(2 * LEVELS, hidden)
        self.films = nn.ModuleList(nn.Linear(hidden, 2 * width) for width in widths)

    def start_at_none(self) -> None:
        """Scale by 1 and shift by 0, whatever the image; called after initialisation."""
        self.hidden.reset_parameters()
        for film in self.films:
            assert isinstance(film, nn.Linear)
            nn.init.zeros_(film.weight)
            nn.init.zeros_(film.bias)

    @at_least_float32
    def forward(self, x: Tensor) -> list[Film]:
        hidden = F.leaky_relu(self.hidden(self.histogram(x)), _SLOPE)
        pairs = (film(hidden)[..., None, None].chunk(2, 1) for film in self.films)
        return [(1 + scale, shift) for scale, shift in pairs]
