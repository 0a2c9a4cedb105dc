"""How a scene in the rain reaches the camera: the model behind the RainCityscapes dataset (Hu et al., CVPR 2019).

With the clean image I, the streak pattern R_pattern, the depth d in meters, and all images in [0, 1]::

    O   = I (1 - R - A) + E R + A0 A      what the camera sees
    R   = R_pattern t_r                   streaks in front of the scene
    t_r = exp(-alpha max(d1, d))          streaks fade where the scene behind them is far
    A   = 1 - exp(-beta d)                fog: light of brightness A0 that distant drops scatter into the line of sight

E is the light that streaks show, white (1) in the publication. R is limited to 1 - A, so the three weights are never
negative, sum to 1, and O needs no clipping.

The publication has d1 = 2 f a with the focal length f and the radius a of a drop: the distance from which on a drop's
image is smaller than a pixel. Its files carry a as ``dropsize`` without a unit. Read as meters, with Cityscapes' focal
length of 2262 pixels at 1024 lines, d1 is 45, 23 and 9 meters. That is our reading.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.rain.streaks import FloatImage

CITYSCAPES_FOCAL_LENGTH = 2262.0  # pixels, of images with 1024 lines

Light = tuple[float, float, float]
"""RGB in [0, 1]."""

WHITE: Light = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Fog:
    """``alpha``: attenuation of streaks, 1/m. ``beta``: attenuation by fog, 1/m. ``drop_radius``: a, in meters.
    ``light``: A0."""

    alpha: float
    beta: float
    drop_radius: float
    light: Light = (0.8, 0.8, 0.8)

    @property
    def near(self) -> float:
        """d1 in meters."""
        return 2.0 * CITYSCAPES_FOCAL_LENGTH * self.drop_radius


PUBLISHED = {
    "light": Fog(alpha=0.01, beta=0.005, drop_radius=0.01),
    "medium": Fog(alpha=0.02, beta=0.01, drop_radius=0.005),
    "heavy": Fog(alpha=0.03, beta=0.015, drop_radius=0.002),
}
"""The three parameter sets of RainCityscapes."""


def form_image(image: FloatImage, pattern: FloatImage, depth: FloatImage, fog: Fog, streak_light: Light) -> FloatImage:
    """O of the equation above, float32 [H, W, 3] in [0, 1].

    ``image`` I, float32 [H, W, 3] in [0, 1]; ``pattern`` R_pattern, float32 [H, W] in [0, 1]; ``depth`` d, float32
    [H, W], meters, not negative; ``streak_light`` E.
    """
    clear = np.exp(-fog.beta * depth)  # 1 - A
    streaks = pattern * np.exp(-fog.alpha * np.maximum(fog.near, depth))
    np.minimum(streaks, clear, out=streaks)
    out = image * (clear - streaks)[..., None]
    for channel, (ours, haze) in enumerate(zip(streak_light, fog.light, strict=True)):
        out[..., channel] += np.float32(ours) * streaks + np.float32(haze) * (1.0 - clear)
    return np.asarray(out, dtype=np.float32)


def add_streaks(image: FloatImage, pattern: FloatImage, streak_light: Light) -> FloatImage:
    """``min(1, I + E R)``: streaks as light on top, without depth and fog, as in Rain100L and Rain100H.

    Shapes and ranges are those of :func:`form_image`.
    """
    out = image.copy()
    for channel, ours in enumerate(streak_light):
        out[..., channel] += np.float32(ours) * pattern
    return np.minimum(out, 1.0, out=out)


def cover(image: FloatImage, pattern: FloatImage, streak_light: Light, veil: float, veil_light: Light) -> FloatImage:
    """``(I (1 - v) + V v) (1 - R) + E R``: streaks before an even veil, for scenes without depth.

    Shapes and ranges are those of :func:`form_image`; ``veil`` v in [0, 1], ``veil_light`` V.
    """
    seen = 1.0 - pattern
    out = image * ((1.0 - veil) * seen)[..., None]
    for channel, (ours, haze) in enumerate(zip(streak_light, veil_light, strict=True)):
        out[..., channel] += np.float32(ours) * pattern + np.float32(veil * haze) * seen
    return np.asarray(out, dtype=np.float32)
