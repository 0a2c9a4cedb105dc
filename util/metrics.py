"""Image quality under a named protocol: PSNR, SSIM and the CIEDE2000 colour difference of 8-bit RGB images.

Deraining papers disagree silently on what "PSNR" is, so a number here always goes with its :class:`Protocol`.
All functions take [H, W, 3] uint8 arrays, as read back from the saved files, and compute in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

PEAK = 255.0
SSIM_SIGMA = 1.5
SSIM_WINDOW = 11  # pixels: scikit-image cuts its Gaussian at 3.5 sigma, here 5 pixels on each side

COLOUR_CHANNELS = 3
COLOUR_BLOCK = 16384  # pixels whose colours are compared at once: the many temporaries then stay in the cache

LUMA_OFFSET = 16.0
LUMA_WEIGHTS = (65.481, 128.553, 24.966)  # BT.601 times 219, the span of limited-range luma


@dataclass(frozen=True)
class Protocol:
    """What PSNR and SSIM are computed on.

    ``description`` is one sentence for tables and files. ``planes`` maps [H, W, 3] uint8 RGB to the
    [H, W, K] float64 planes, in the scale of 0 to 255, that are compared.
    """

    name: str
    description: str
    planes: Callable[[np.ndarray], np.ndarray]


def luma(rgb: np.ndarray) -> np.ndarray:
    """BT.601 limited-range luma of 8-bit RGB, Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255, not rounded.

    As MATLAB's ``rgb2ycbcr`` and BasicSR have it. Its PSNR is 20 log10(255 / 219) = 1.322 dB above that of
    full-range luma, on every pair of images.

    Args:
        rgb: [H, W, 3] uint8.

    Returns:
        [H, W] float64 in [16, 235].
    """
    return LUMA_OFFSET + rgb @ np.array(LUMA_WEIGHTS) / PEAK


def _luma_plane(rgb: np.ndarray) -> np.ndarray:
    return luma(rgb)[..., np.newaxis]


def _rgb_planes(rgb: np.ndarray) -> np.ndarray:
    return rgb.astype(np.float64)


PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="y",
            description="PSNR (peak 255) and SSIM (11x11 Gaussian window, sigma 1.5, population covariance, "
            "data range 255, border excluded) on BT.601 limited-range luma of 8-bit RGB, not rounded.",
            planes=_luma_plane,
        ),
        Protocol(
            name="rgb",
            description="PSNR (peak 255, squared error averaged over the channels) and SSIM (11x11 Gaussian window, "
            "sigma 1.5, population covariance, data range 255, border excluded, averaged over the channels) "
            "on 8-bit RGB.",
            planes=_rgb_planes,
        ),
    )
}


def psnr(output: np.ndarray, target: np.ndarray, protocol: Protocol) -> float:
    """Peak signal-to-noise ratio in dB, higher is better; ``inf`` where the compared planes are identical.

    Raises:
        ValueError: not 8-bit RGB, or different sizes.
    """
    _check_pair(output, target)
    with np.errstate(divide="ignore"):  # identical planes: infinite, as defined
        return float(peak_signal_noise_ratio(protocol.planes(target), protocol.planes(output), data_range=PEAK))


def ssim(output: np.ndarray, target: np.ndarray, protocol: Protocol) -> float:
    """Structural similarity (Wang et al. 2004) in [-1, 1], higher is better, 1 for identical planes.

    Only pixels with a whole window around them count, so each side needs at least :data:`SSIM_WINDOW` pixels.

    Raises:
        ValueError: not 8-bit RGB, different sizes, or smaller than the window.
    """
    _check_pair(output, target)
    if min(target.shape[:2]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs images of at least {SSIM_WINDOW}x{SSIM_WINDOW} pixels, got {size_of(target)}")
    similarity = structural_similarity(
        protocol.planes(target),
        protocol.planes(output),
        channel_axis=-1,
        data_range=PEAK,
        gaussian_weights=True,
        sigma=SSIM_SIGMA,
        use_sample_covariance=False,
    )
    return float(similarity)


def colour_difference(output: np.ndarray, target: np.ndarray) -> float:
    """Mean CIEDE2000 difference (sRGB, D65) over all pixels, lower is better; about 1 is just noticeable.

    It sees the wrong colours that a PSNR on luma hides.

    Raises:
        ValueError: not 8-bit RGB, or different sizes.
    """
    _check_pair(output, target)
    outputs, targets = output.reshape(-1, COLOUR_CHANNELS), target.reshape(-1, COLOUR_CHANNELS)
    blocks = [slice(start, start + COLOUR_BLOCK) for start in range(0, len(targets), COLOUR_BLOCK)]
    total = sum(deltaE_ciede2000(rgb2lab(targets[block]), rgb2lab(outputs[block])).sum() for block in blocks)
    return float(total) / len(targets)


def size_of(image: np.ndarray) -> str:
    """The size of an [H, W, ...] array in words, width first: ``"480x320"``."""
    height, width = image.shape[:2]
    return f"{width}x{height}"


def _check_pair(output: np.ndarray, target: np.ndarray) -> None:
    for image in (output, target):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != COLOUR_CHANNELS:
            raise ValueError(f"expected [H, W, 3] uint8 images, got {image.dtype} of shape {image.shape}")
    if output.shape != target.shape:
        raise ValueError(f"the images differ in size: output {size_of(output)}, target {size_of(target)}")
