"""What instance norm takes from a network, given back: how dark and how bright an image is as a whole.

A veil of fog over the whole image, N (1 - a) + A0 a, moves and squeezes all values alike. Instance norm undoes just
that, so behind it nothing shows how dense the veil is. The histogram does: a scene has dark places, and under a veil
no place is dark (the dark channel prior of He et al., CVPR 2009). A few dark places are enough to tell, so what counts
is the logarithm of their share. What takes a veil off is a scale, 1 / (1 - a), and a shift, -a A0 / (1 - a), of the
image itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from util.layers import at_least_float32

Film = tuple[Tensor, Tensor]
"""Scale and shift of a layer's channels, [N, C, 1, 1] each."""
LEVELS = 32
"""Gray levels at which each of the two histograms is taken, spread evenly over [-1, 1]."""
FEWEST = 0.001
"""Share of the places below which fewer make little difference."""
_SLOPE = 0.2
_EDGE = 1 / 64  # two of 8 bits' 255 levels: how far a place lies from a level to be clearly darker or brighter


def modulated(x: Tensor, film: Film | None) -> Tensor:
    """[N, C, H, W], scaled and shifted, in its own type; as it is with None."""
    return x if film is None else torch.addcmul(film[1].to(x.dtype), x, film[0].to(x.dtype))


class Tails(nn.Module):
    """How much of an image is dark, and how much is bright: images in [-1, 1] → [N, 2 · LEVELS] in [-1, 1].

    For each level the share p of the places whose darkest channel is darker, then of those whose brightest channel is
    brighter, as 2 log(1 + p / FEWEST) / log(1 + 1 / FEWEST) - 1: -1 for none and 1 for all. Places are means over 2 × 2
    pixels, so noise counts little. Nothing learns through it: a generator whose image is judged by another could change
    a few places to change all.
    """

    levels: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("levels", torch.linspace(-1, 1, LEVELS), persistent=False)
        self.mean = nn.AdaptiveAvgPool2d(1)  # a layer, so that all tiles of an image can share it

    def forward(self, x: Tensor) -> Tensor:
        places = F.avg_pool2d(x.detach(), 2)
        levels = self.levels.view(LEVELS, 1, 1)
        darker = (levels - places.amin(1, keepdim=True)) / _EDGE
        brighter = (places.amax(1, keepdim=True) - levels) / _EDGE
        share = self.mean(torch.cat([darker, brighter], 1).sigmoid()).flatten(1)
        return torch.log1p(share / FEWEST) * (2 / math.log1p(1 / FEWEST)) - 1


class Modulation(nn.Module):
    """Scale and shift for the channels of layers of given widths, from an image's histogram (FiLM, Perez et al., 2018).

    [N, C, H, W] in [-1, 1] → for each width c a pair of scale and shift, [N, c, 1, 1]; 1 and 0 at the beginning.
    """

    def __init__(self, widths: Sequence[int], hidden: int = 64) -> None:
        super().__init__()
        self.tails = Tails()
        self.hidden = nn.Linear(2 * LEVELS, hidden)
        self.films = nn.ModuleList(nn.Linear(hidden, 2 * width) for width in widths)

    def start_at_none(self) -> None:
        """Scale by 1 and shift by 0, whatever the image; called after initialization."""
        self.hidden.reset_parameters()
        for film in self.films:
            assert isinstance(film, nn.Linear)
            nn.init.zeros_(film.weight)
            nn.init.zeros_(film.bias)

    @at_least_float32
    def forward(self, x: Tensor) -> list[Film]:
        hidden = F.leaky_relu(self.hidden(self.tails(x)), _SLOPE)
        pairs = (film(hidden)[..., None, None].chunk(2, 1) for film in self.films)
        return [(1 + scale, shift) for scale, shift in pairs]
