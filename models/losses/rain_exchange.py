"""Rain exchange: rain that was taken off one image falls on another, from which it must be taken off again.

Not in the paper. With ρ = R − N̂, the layer that G_A has just removed, and s drawn for each image,

    L = d(G_A(N + s · streaks(ρ)), N)

trains G_A with a target for every pixel, on rain that looks as it does in the rainy images and lies on clean ones. As s
also makes it stronger than what was removed, streaks that were half removed are removed further the next time.

Only streaks go across, narrow and brighter than what is around them. The layer as it is also holds what G_A changed
over wide areas, and there nothing stops it: each exchange darkens images a little more. What rain does to wide areas
is known instead: it scatters light of brightness A0 into the line of sight, a share a of what is seen. N may lie under
such a veil, N (1 - a) + A0 a (Koschmieder's law, as in He et al., CVPR 2009), before streaks fall on it, and G_A is to
lift it as well. The distance d is L1, L2, berHu (L1 for small errors and L2 for large ones) or L1 with berHu for wide
errors: where a veil and hazy ground look alike, L1 asks for what is likelier and L2 for the mean of both.
docs/experiments.md has the measurements.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW = 31  # pixels; the sides of the squares in which a streak is compared with what is around it
BELOW_MEAN = 0.5  # standard deviations; streaks raise the mean around them, so the ground lies below it
STRENGTHS = (0.5, 2.5)  # bounds of s
VEIL_LIGHT = (0.0, 1.0)  # bounds of A0, gray, in [-1, 1]: no darker than half of white
SMALL_ERROR = 0.1  # up to which berHu is L1, of images in [-1, 1]: 13 levels of 8 bits


def berhu(image: Tensor, target: Tensor) -> Tensor:
    """Mean of |e| where it is at most c = ``SMALL_ERROR``, and of (e² + c²) / 2c elsewhere.

    As in Laina et al., 3DV 2016, whose c is a share of the largest error of a batch.
    """
    error = (image - target).abs()
    return torch.where(error <= SMALL_ERROR, error, (error.square() + SMALL_ERROR**2) / (2 * SMALL_ERROR)).mean()


def wide_berhu(image: Tensor, target: Tensor) -> Tensor:
    """L1, and berHu's excess over it, (|w| - c)² / 2c where |w| is above c, only of the mean error w around each pixel.

    So an error that is even over ``WINDOW`` × ``WINDOW`` pixels, as a veil's is, counts as in berHu, and a streak as in
    L1.
    """
    excess = F.relu(_around(image - target).abs() - SMALL_ERROR)
    return F.l1_loss(image, target) + (excess.square() / (2 * SMALL_ERROR)).mean()


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": F.l1_loss,
    "l2": F.mse_loss,
    "berhu": berhu,
    "wide_berhu": wide_berhu,
}
"""Means over all pixels, by name."""


def streaks(layer: Tensor) -> Tensor:
    """The part of a rain layer that is brighter than its ground: [N, C, H, W] in [-2, 2] → the same, at least 0."""
    mean = _around(layer)
    deviation = (_around(layer.square()) - mean.square()).clamp(min=0).sqrt()
    return F.relu(layer - (mean - BELOW_MEAN * deviation))


def veiled(clean: Tensor, densest: float, clear: float) -> Tensor:
    """``clean`` [N, C, H, W] in [-1, 1] under a veil of its own: (1 - a) · ``clean`` + a · A0.

    a runs evenly from the first line to the last between two random values from 0 to ``densest``, as fog gets denser
    towards the horizon. In a share ``clear`` of the images it is 0 all over, so that G_A also learns to leave clear air
    alone. With ``densest`` 0 nothing is drawn or changed.
    """
    if densest == 0:
        return clean
    top, bottom, light = (_for_each_image(clean, *bounds) for bounds in ((0, densest), (0, densest), VEIL_LIGHT))
    down = torch.linspace(0, 1, clean.shape[2], device=clean.device, dtype=clean.dtype).view(1, 1, -1, 1)
    share = torch.lerp(top, bottom, down) * (_for_each_image(clean, 0, 1) >= clear)
    return torch.lerp(clean, light, share)


def add_rain(clean: Tensor, rain: Tensor) -> Tensor:
    """``clean`` + s · ``rain``, each [N, C, H, W], within [-1, 1] and with s at random for each image."""
    return (clean + _for_each_image(clean, *STRENGTHS) * rain).clamp(-1, 1)


def _for_each_image(images: Tensor, low: float, high: float) -> Tensor:
    """A random number for each of ``images``, [N, 1, 1, 1]."""
    return torch.empty(images.shape[0], 1, 1, 1, device=images.device, dtype=images.dtype).uniform_(low, high)


def _around(x: Tensor) -> Tensor:
    """Mean of the ``WINDOW`` × ``WINDOW`` pixels around each, of those that exist: along columns, then along rows."""
    for window in ((WINDOW, 1), (1, WINDOW)):
        padding = (window[0] // 2, window[1] // 2)
        x = F.avg_pool2d(x, window, stride=1, padding=padding, count_include_pad=False)
    return x
