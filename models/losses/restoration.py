"""What a restored image is compared with its target by. Images are [N, C, H, W] in [0, 1]; each returns a scalar.

With e = restored − target:

    charbonnier          mean √(e² + ε²); with ε = 0 the mean of |e|
    psnr                 mean over the images of −PSNR = 10 log10(mean e² + δ)
    ssim                 1 − SSIM, with Wang's Gaussian window of 11 × 11 (IEEE TIP 2004)
    frequency            mean |F(e)|, over real and imaginary parts of the orthonormal Fourier transform (Cho et al.,
                         "Rethinking coarse-to-fine approach in single image deblurring", ICCV 2021)
    channel_difference   mean |l_R − l_G| + |l_G − l_B| + |l_B − l_R| of the removed layer l = input − restored: rain is
                         gray (Dong et al., "Channel consistency prior and self-reconstruction strategy", CVPR 2025)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from util.layers import at_least_float32

EXACT_ENOUGH = 1e-5  # δ: what is nearer than 50 dB needs no further effort
WINDOW, SIGMA = 11, 1.5  # of SSIM, in pixels
C1, C2 = 0.01**2, 0.03**2


@at_least_float32
def charbonnier(restored: Tensor, target: Tensor, epsilon: float = 0.0) -> Tensor:
    """L1, or smooth around 0."""
    if epsilon == 0:
        return F.l1_loss(restored, target)
    return ((restored - target).square() + epsilon**2).sqrt().mean()


@at_least_float32
def psnr(restored: Tensor, target: Tensor) -> Tensor:
    """In dB, negative; each image counts alike, however hard it is."""
    error = (restored - target).square().mean((1, 2, 3))
    return 10 * torch.log10(error + EXACT_ENOUGH).mean()


@at_least_float32
def ssim(restored: Tensor, target: Tensor) -> Tensor:
    """Of each channel, without the border that the window does not fit in.

    Raises:
        ValueError: images smaller than the window.
    """
    if min(restored.shape[2:]) < WINDOW:
        raise ValueError(f"SSIM needs {WINDOW} × {WINDOW} pixels or more, not {tuple(restored.shape[2:])}")
    both = torch.cat([restored, target, restored.square(), target.square(), restored * target])
    x, y, xx, yy, xy = _blurred(both).chunk(5)
    luminance = (2 * x * y + C1) / (x.square() + y.square() + C1)
    structure = (2 * (xy - x * y) + C2) / (xx - x.square() + yy - y.square() + C2)
    return 1 - (luminance * structure).mean()


@at_least_float32
def frequency(restored: Tensor, target: Tensor) -> Tensor:
    """Distance of the spectra; finds streaks that are weak but regular."""
    spectrum = torch.fft.rfft2(restored - target, norm="ortho")
    return torch.view_as_real(spectrum).abs().mean()


@at_least_float32
def channel_difference(restored: Tensor, source: Tensor) -> Tensor:
    """How colored the removed layer is; 0 for one channel."""
    layer = source - restored
    return (layer - layer.roll(1, dims=1)).abs().sum(1).mean()


def total_variation(images: Tensor) -> Tensor:
    """|differences| of neighbors, down and across, summed over an image and averaged over images."""
    down, across = images.diff(dim=2).abs(), images.diff(dim=3).abs()
    return (down.sum() + across.sum()) / len(images)


def _blurred(x: Tensor) -> Tensor:
    """Each channel under the Gaussian window, where it fits; never in bfloat16, as variances are small differences."""
    places = torch.arange(WINDOW, device=x.device, dtype=x.dtype) - WINDOW // 2
    weights = torch.exp(-places.square() / (2 * SIGMA**2))
    row = (weights / weights.sum()).view(1, 1, 1, WINDOW)
    flat = x.reshape(-1, 1, *x.shape[2:])
    with torch.autocast(x.device.type, enabled=False):
        return F.conv2d(F.conv2d(flat, row), row.transpose(2, 3)).unflatten(0, x.shape[:2]).squeeze(2)
