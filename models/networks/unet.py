"""U-Net generator of pix2pix and CycleGAN (``unet_128``: 7 levels, ``unet_256``: 8 levels)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.networks.generator import Generator, State, width_of, zero_
from models.networks.norm import convolution_has_bias, make_norm


class UnetLevel(nn.Module):
    """One level: step down, everything deeper, step up, and the skip connection around all of it."""

    def __init__(self, outer: int, inner: int, deeper: UnetLevel | None, *, norm: str, dropout: bool = False) -> None:
        super().__init__()
        bias = convolution_has_bias(norm)
        layers: list[nn.Module] = [nn.LeakyReLU(0.2), nn.Conv2d(outer, inner, 4, stride=2, padding=1, bias=bias)]
        if deeper is not None:
            layers += [make_norm(norm, inner), deeper]
        up_width = inner if deeper is None else 2 * inner
        layers += [nn.ReLU(), nn.ConvTranspose2d(up_width, outer, 4, stride=2, padding=1, bias=bias)]
        layers.append(make_norm(norm, outer))
        if dropout:
            layers.append(nn.Dropout(0.5))
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor, features: list[Tensor]) -> Tensor:
        """[N, outer, H, W] → [N, 2 · outer, H, W]; appends the convolution's output on the way down."""
        x = self.model[0](x)
        y = self.model[1](x)
        features.append(y)
        for layer in list(self.model)[2:]:
            y = layer(y, features) if isinstance(layer, UnetLevel) else layer(y)
        return torch.cat([x, y], dim=1)


class _OutermostLevel(nn.Module):
    """The level that touches the images: no norm, no skip, tanh."""

    def __init__(self, input_nc: int, output_nc: int, ngf: int, deeper: UnetLevel, *, bias: bool) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(input_nc, ngf, 4, stride=2, padding=1, bias=bias),
            deeper,
            nn.ReLU(),
            nn.ConvTranspose2d(2 * ngf, output_nc, 4, stride=2, padding=1),
            nn.Tanh(),
        )

    def forward(self, x: Tensor, features: list[Tensor]) -> Tensor:
        down, deeper, relu, up, tanh = self.model
        x = down(x)
        features.append(x)
        return tanh(up(relu(deeper(x, features))))


class UnetGenerator(Generator):
    """U-Net with ``levels`` halvings; images of any size in [-1, 1] come back in the same size.

    Sizes that are no multiple of 2^levels are reflect-padded and cropped again.
    Taps: ``down1`` … ``downN``, the convolutions' outputs on the way down.

    Args:
        dropout: in the levels of 8 · ngf channels, except the innermost.
        residual: output = input + network(input), starting as the identity.
    """

    def __init__(
        self,
        input_nc: int,
        output_nc: int,
        ngf: int = 64,
        levels: int = 8,
        *,
        norm: str = "instance",
        dropout: bool = False,
        residual: bool = False,
        **unused: Any,
    ) -> None:
        super().__init__(input_nc, output_nc, stride=2**levels, residual=residual)
        if levels < 5:
            raise ValueError(f"levels must be at least 5, not {levels}")
        level = UnetLevel(8 * ngf, 8 * ngf, None, norm=norm)
        for _ in range(levels - 5):
            level = UnetLevel(8 * ngf, 8 * ngf, level, norm=norm, dropout=dropout)
        for width in (4 * ngf, 2 * ngf, ngf):
            level = UnetLevel(width, 2 * width, level, norm=norm)
        self.model = _OutermostLevel(input_nc, output_nc, ngf, level, bias=convolution_has_bias(norm))
        self.tap_names = tuple(f"down{level}" for level in range(1, levels + 1))

    def start_at_identity(self) -> None:
        """Zero the last convolution if the generator is residual; called after initialization."""
        if self.residual:
            zero_(self.model.model[-2])

    def forward_tapped(self, x: Tensor, taps: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
        """The output image and, from the same pass, the features at ``taps``."""
        self.check_taps(taps)
        padded, crop = self.pad(x)
        features: list[Tensor] = []
        output = self.model(padded, features)
        output = crop(padded + output if self.residual else output)
        return output, [features[self.tap_names.index(tap)] for tap in taps]

    def encode(self, x: Tensor, taps: Sequence[str]) -> list[Tensor]:
        """Only the features at ``taps`` (the whole network runs: its way down is part of every level)."""
        return self.forward_tapped(x, taps)[1]

    @classmethod
    def recognize(cls, state: State) -> dict[str, str] | None:
        """By the outermost level; each level inside another adds the number of a layer in front of a ``model``."""
        first, last = state.get("model.model.0.weight"), state.get("model.model.3.weight")
        if first is None or last is None:
            return None
        levels = 1 + max(len(re.findall(r"\.\d+(?=\.model\.)", key)) for key in state)
        normed = state.get("model.model.1.model.2.weight")
        has_bias = "model.model.0.bias" in state
        return {
            "netG": f"unet_{2**levels}",
            "ngf": width_of(state, "model.model.0.weight"),
            "input_nc": str(first.shape[1]),
            "output_nc": str(last.shape[1]),
            "normG": "batch" if normed is not None and normed.ndim == 1 else "instance" if has_bias else "none",
        }
