"""Residual U-Net: a small generator for restoration that works at half resolution and below.

The image is folded, 2 × 2 pixels into channels, without loss (as in FFDNet, Zhang et al. 2018); residual blocks without
normalization follow at 1/2, 1/4 and 1/8, and skips are added. Without instance norm the network sees how bright and how
contrasty its input is, so it can leave a clean picture alone, and a tile comes out like the whole image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.generator import Generator, State, width_of, zero_
from models.networks.histogram import Film, Modulation, modulated
from models.networks.norm import make_norm

FOLD = 2
"""Pixels in a row that the first layer sees as channels."""
_SLOPE = 0.2
_FULL_WIDTH = 4  # the last layer works on ngf / 4 channels at full resolution


class PlainBlock(nn.Module):
    """x + (3×3 convolution, [norm], leaky ReLU, 3×3 convolution, [norm])(x), zero padding."""

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            make_norm(norm, channels),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(channels, channels, 3, padding=1),
            make_norm(norm, channels),
        )

    def forward(self, x: Tensor, film: Film | None = None) -> Tensor:
        return x + modulated(self.body(x), film)


class ResidualUnetGenerator(Generator):
    """Folded to half resolution, two steps down, ``blocks`` residual blocks at 1/8, two steps up, unfolded, tanh.

    Taps: ``stem`` (1/2, ngf channels), ``down1`` (1/4, 2 · ngf), ``down2`` (1/8, 4 · ngf) and ``block1`` …
    ``blockN`` (1/8).

    Args:
        blocks: residual blocks at 1/8.
        residual: output = input + network(input), starting as the identity.
        histogram: the blocks' changes, and if residual the input, are scaled and shifted by what the image's
            histogram says.
    """

    def __init__(
        self,
        input_nc: int,
        output_nc: int,
        ngf: int = 32,
        blocks: int = 4,
        *,
        norm: str = "none",
        residual: bool = False,
        histogram: bool = False,
        **unused: Any,
    ) -> None:
        super().__init__(input_nc, output_nc, stride=8, residual=residual, fewest_pixels=2)  # instance norm needs two
        full = max(1, ngf // _FULL_WIDTH)
        self.stem = nn.Conv2d(input_nc * FOLD**2, ngf, 3, padding=1)
        self.encode1, self.encode2 = PlainBlock(ngf, norm), PlainBlock(2 * ngf, norm)
        self.down1 = nn.Conv2d(ngf, 2 * ngf, FOLD, stride=FOLD)
        self.down2 = nn.Conv2d(2 * ngf, 4 * ngf, FOLD, stride=FOLD)
        self.blocks = nn.ModuleList(PlainBlock(4 * ngf, norm) for _ in range(blocks))
        self.up2 = nn.Conv2d(4 * ngf, 2 * ngf * FOLD**2, 1)
        self.decode2 = PlainBlock(2 * ngf, norm)
        self.up1 = nn.Conv2d(2 * ngf, ngf * FOLD**2, 1)
        self.decode1 = PlainBlock(ngf, norm)
        self.unfold = nn.Conv2d(ngf, full * FOLD**2, 3, padding=1)
        self.last = nn.Conv2d(full, output_nc, 3, padding=1)
        self.tap_names = ("stem", "down1", "down2", *(f"block{number}" for number in range(1, blocks + 1)))
        widths = (ngf, 2 * ngf, *[4 * ngf] * blocks, 2 * ngf, ngf, *([output_nc] if residual else []))
        self.modulation = Modulation(widths) if histogram else None

    def start_at_identity(self) -> None:
        """Zero the last convolution if the generator is residual, and modulate nothing; called after initialization."""
        if self.modulation is not None:
            self.modulation.start_at_none()
        if self.residual:
            zero_(self.last)

    def forward_tapped(self, x: Tensor, taps: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
        """The output image and, from the same pass, the features at ``taps``."""
        self.check_taps(taps)
        padded, crop = self.pad(x)
        features: dict[str, Tensor] = {}
        films = self._films(padded)
        half, quarter, deepest = self._way_down(padded, features, films)
        quarter = self.decode2(quarter + F.pixel_shuffle(self.up2(deepest), FOLD), films[-3])
        half = self.decode1(half + F.pixel_shuffle(self.up1(quarter), FOLD), films[-2])
        full = F.leaky_relu(F.pixel_shuffle(self.unfold(half), FOLD), _SLOPE)
        output = torch.tanh(self.last(full))
        if self.residual:
            output = output + modulated(padded, films[-1])
        return crop(output), [features[tap] for tap in taps]

    def encode(self, x: Tensor, taps: Sequence[str]) -> list[Tensor]:
        """Only the features at ``taps``: the way down."""
        self.check_taps(taps)
        features: dict[str, Tensor] = {}
        padded = self.pad(x)[0]
        self._way_down(padded, features, self._films(padded))
        return [features[tap] for tap in taps]

    def _films(self, x: Tensor) -> Sequence[Film | None]:
        """One for each block, in the order in which the image goes through them, and one for the image itself."""
        films: list[Film | None] = [None] * (len(self.blocks) + 5)
        if self.modulation is not None:
            found = self.modulation(x)
            films[: len(found)] = found  # a generator that is not residual has none for the image
        return films

    def _way_down(
        self, x: Tensor, features: dict[str, Tensor], films: Sequence[Film | None]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Features at 1/2, 1/4 and 1/8; fills ``features`` by tap."""
        features["stem"] = self.stem(F.pixel_unshuffle(x, FOLD))
        half = self.encode1(features["stem"], films[0])
        features["down1"] = self.down1(half)
        quarter = self.encode2(features["down1"], films[1])
        deepest = features["down2"] = self.down2(quarter)
        for name, block, film in zip(self.tap_names[3:], self.blocks, films[2:-3], strict=True):
            deepest = features[name] = block(deepest, film)
        return half, quarter, deepest

    @classmethod
    def recognize(cls, state: State) -> dict[str, str] | None:
        """By its first layer. Without batch norm it is taken to have none, as is this network's use."""
        if not {"stem.weight", "last.weight", "decode1.body.0.weight"} <= state.keys():
            return None
        return {
            "netG": "resunet_histogram" if "modulation.hidden.weight" in state else "resunet",
            "ngf": width_of(state, "stem.weight"),
            "input_nc": str(state["stem.weight"].shape[1] // FOLD**2),
            "output_nc": width_of(state, "last.weight"),
            "normG": "batch" if "encode1.body.1.weight" in state else "none",
        }
