"""Image quality under a named protocol: PSNR, SSIM and the CIEDE2000 colour difference of 8-bit RGB images.

Deraining papers disagree silently on what "PSNR" is, so a number here always goes with its :class:`Protocol`.
All functions take [H, W, 3] uint8 arrays, as read back from the saved files, and compute in float64.
"""

from __future__ import annotations

from util.metrics.colour import COLOUR_BLOCK, colour_difference
from util.metrics.planes import PEAK, luma, size_of
from util.metrics.protocols import PROTOCOLS, Protocol, psnr, ssim
from util.metrics.similarity import SSIM_WINDOW

__all__ = [
    "COLOUR_BLOCK",
    "PEAK",
    "PROTOCOLS",
    "SSIM_WINDOW",
    "Protocol",
    "colour_difference",
    "luma",
    "psnr",
    "size_of",
    "ssim",
]
