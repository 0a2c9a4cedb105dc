"""The CIEDE2000 colour difference, which sees the wrong colours that a PSNR on luma hides."""

from __future__ import annotations

import numpy as np
from skimage.color import deltaE_ciede2000, rgb2lab

from util.metrics.planes import COLOUR_CHANNELS, check_pair

COLOUR_BLOCK = 16384  # pixels whose colours are compared at once: the many temporaries then stay in the cache


def colour_difference(output: np.ndarray, target: np.ndarray) -> float:
    """Mean CIEDE2000 difference (sRGB, D65) over all pixels, lower is better; about 1 is just noticeable.

    Raises:
        ValueError: not 8-bit RGB, or different sizes.
    """
    check_pair(output, target)
    outputs, targets = output.reshape(-1, COLOUR_CHANNELS), target.reshape(-1, COLOUR_CHANNELS)
    blocks = [slice(start, start + COLOUR_BLOCK) for start in range(0, len(targets), COLOUR_BLOCK)]
    total = sum(deltaE_ciede2000(rgb2lab(targets[block]), rgb2lab(outputs[block])).sum() for block in blocks)
    return float(total) / len(targets)
