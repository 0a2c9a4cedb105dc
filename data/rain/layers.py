"""Layers of real rain: what a derainer takes off rainy photographs, for putting on clean ones (self-collaboration)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter  # type: ignore[import-untyped]

Pixels = NDArray[np.uint8]

WINDOW = 31  # pixels; rain is narrower, and wider is what a derainer changes in the light of a picture
AROUND = 0.8  # of the mean around a pixel is not rain
GAIN = 4.0  # of the stored values, as rain is faint
LEAST_MEAN = 0.004  # of a layer, in [0, 1]; there is hardly rain in others


def rain_layer(rainy: Pixels, derained: Pixels) -> Pixels:
    """The rain in a photograph as a gray layer, uint8 [H, W]: narrow, and bright on black.

    ``rainy`` and ``derained`` are uint8 [H, W, C]. Where the derainer made the photograph brighter there is none.
    """
    removed = (rainy.astype(np.float32) - derained).mean(2) / 255
    narrow = removed - AROUND * uniform_filter(removed, WINDOW)
    return np.clip(narrow * GAIN * 255 + 0.5, 0, 255).astype(np.uint8)


def holds_rain(layer: Pixels) -> bool:
    """Whether there is enough rain in a layer to be worth putting on other photographs."""
    return bool(layer.mean() > LEAST_MEAN * GAIN * 255)
