"""The protocols: what "PSNR" and "SSIM" mean in whose tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from util.metrics.planes import (
    PEAK,
    check_pair,
    luma_plane,
    rgb_planes,
    rounded_luma_plane,
    size_of,
    unit_rgb_planes,
)
from util.metrics.resizing import imresize
from util.metrics.ssim import (
    SSIM_WINDOW,
    UNIFORM_WINDOW,
    Similarity,
    gaussian_ssim,
    shrinking_ssim,
    uniform_ssim_of_signed_range,
)

ROWS_AT_ONCE = 128  # of an image whose squared error is taken


@dataclass(frozen=True)
class Protocol:
    """What PSNR and SSIM are computed on.

    ``label`` qualifies headings, as in ``PSNR (Y)``; ``description`` says it in sentences for tables and files,
    ``used_by`` whose tables have it. ``planes`` maps [H, W, 3] uint8 RGB to the [H, W, K] float64 planes in
    [0, ``peak``] that are compared, ``similarity`` two of those, target first, to their SSIM, which needs ``smallest``
    pixels a side. ``luma`` means that wrong colors stay unseen. Where ``size`` (width, height) is set, images of
    another size are brought to it first.
    """

    name: str
    label: str
    description: str
    used_by: str
    planes: Callable[[np.ndarray], np.ndarray]
    similarity: Similarity = gaussian_ssim
    luma: bool = False
    peak: float = PEAK
    smallest: int = SSIM_WINDOW
    size: tuple[int, int] | None = None

    def fit(self, image: np.ndarray) -> np.ndarray:
        """``image`` itself, or where the protocol resizes and the size is another, its resized copy."""
        if self.size is None:
            return image
        width, height = self.size
        return imresize(image, height, width)


_GAUSSIAN = "11x11 Gaussian window, sigma 1.5, population covariance, data range 255, border excluded"
_SHRINKING = "as ssim.m: averaged over f x f pixels and every f-th kept, f = max(1, round(shorter side / 256))"

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        protocol.name: protocol
        for protocol in (
            Protocol(
                name="y",
                label="Y",
                description=f"PSNR (peak 255) and SSIM ({_GAUSSIAN}) on BT.601 limited-range luma of 8-bit RGB, "
                "not rounded.",
                used_by="SwinIR, BasicSR and CCLGAN",
                planes=luma_plane,
                luma=True,
            ),
            Protocol(
                name="rgb",
                label="RGB",
                description="PSNR (peak 255, squared error averaged over the channels) and SSIM (11x11 Gaussian "
                "window, sigma 1.5, population covariance, data range 255, border excluded, averaged over the "
                "channels) on 8-bit RGB.",
                used_by="derain-toolbox and most general restoration papers",
                planes=rgb_planes,
            ),
            Protocol(
                name="y-matlab",
                label="Y, MATLAB",
                description="PSNR (peak 255) on BT.601 limited-range luma of 8-bit RGB, not rounded; SSIM on the same, "
                f"shrunk first {_SHRINKING}, then {_GAUSSIAN}.",
                used_by="statistic.m and ssim.m of PReNet, RCDNet and DerainCycleGAN",
                planes=luma_plane,
                similarity=shrinking_ssim,
                luma=True,
            ),
            Protocol(
                name="y-mprnet",
                label="Y, MPRNet",
                description=f"PSNR (peak 255) and SSIM ({_GAUSSIAN}) on BT.601 limited-range luma rounded to 8 bits, "
                "as MATLAB's rgb2ycbcr of an 8-bit image.",
                used_by="evaluate_PSNR_SSIM.m of MPRNet, Restormer and DRSformer",
                planes=rounded_luma_plane,
                luma=True,
            ),
            Protocol(
                name="raincityscapes",
                label="RainCityscapes",
                description="Images of another size brought to 2048x1024 (bicubic, as MATLAB's imresize); PSNR (peak "
                "255, squared error averaged over the channels) on 8-bit RGB; SSIM on R, G and B side by side, "
                f"shrunk first {_SHRINKING}, here 4, then {_GAUSSIAN}, windows over the seams included.",
                used_by="evaluate_raincityscapes.m of DAF-Net, the official script of RainCityscapes",
                planes=rgb_planes,
                similarity=shrinking_ssim,
                size=(2048, 1024),
            ),
            Protocol(
                name="spa",
                label="SPA",
                description="PSNR (peak 1, squared error averaged over the channels) and SSIM (7x7 uniform window, "
                "sample covariance, border excluded, averaged over the channels, data range 2, which makes it read "
                "high) on RGB in [0, 1].",
                used_by="SPANet with the scikit-image of its time, the official script of SPA-Data",
                planes=unit_rgb_planes,
                similarity=uniform_ssim_of_signed_range,
                peak=1.0,
                smallest=UNIFORM_WINDOW,
            ),
        )
    }
)


def psnr(output: np.ndarray, target: np.ndarray, protocol: Protocol) -> float:
    """Peak signal-to-noise ratio in dB, higher is better; ``inf`` where the compared planes are identical.

    10 log10(peak^2 / mean squared error). Both images are [H, W, 3] uint8.

    Raises:
        ValueError: not 8-bit RGB, or different sizes and a protocol that does not resize.
    """
    output, target = _fitting(output, target, protocol)
    total, count = 0.0, 0
    for top in range(0, len(target), ROWS_AT_ONCE):
        rows = slice(top, top + ROWS_AT_ONCE)
        difference = (protocol.planes(target[rows]) - protocol.planes(output[rows])).ravel()
        total, count = total + float(difference @ difference), count + difference.size
    return float("inf") if total == 0 else float(10 * np.log10(protocol.peak**2 * count / total))


def ssim(output: np.ndarray, target: np.ndarray, protocol: Protocol) -> float:
    """Structural similarity (Wang et al. 2004) in [-1, 1], higher is better, 1 for identical planes.

    Only pixels with a whole window around them count, so each side needs ``protocol.smallest`` pixels. Both images
    are [H, W, 3] uint8.

    Raises:
        ValueError: not 8-bit RGB, smaller than the window, or different sizes and a protocol that does not resize.
    """
    output, target = _fitting(output, target, protocol)
    if min(target.shape[:2]) < protocol.smallest:
        side = protocol.smallest
        raise ValueError(f"SSIM needs images of at least {side}x{side} pixels, got {size_of(target)}")
    return protocol.similarity(protocol.planes(target), protocol.planes(output))


def _fitting(output: np.ndarray, target: np.ndarray, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    check_pair(output, target if protocol.size is None else output)
    output, target = protocol.fit(output), protocol.fit(target)
    check_pair(output, target)
    return output, target
