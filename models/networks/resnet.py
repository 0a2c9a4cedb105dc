"""ResNet generator (Johnson et al. 2016), as in CycleGAN (strided convolutions) and CUT (antialiased)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from models.networks.generator import Generator, State, width_of, zero_
from models.networks.norm import convolution_has_bias, make_norm
from models.networks.passes import TappedSequential
from util.layers import BlurDownsample, BlurUpsample


class ResidualBlock(nn.Module):
    """x + (pad, 3×3 convolution, norm, ReLU, [dropout], pad, 3×3 convolution, norm)(x)."""

    def __init__(self, channels: int, norm: str, dropout: bool) -> None:
        super().__init__()
        bias = convolution_has_bias(norm)
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=bias),
            make_norm(norm, channels),
        ]
        if dropout:
            layers += [_relu(norm), nn.Dropout(0.5), nn.ReflectionPad2d(1)]
        else:  # padded first, so that ReLU and the convolution need to keep one image for their gradients, not two
            layers += [nn.ReflectionPad2d(1), nn.ReLU(inplace=True)]
        layers += [
            nn.Conv2d(channels, channels, 3, bias=bias),
            make_norm(norm, channels),
        ]
        self.conv_block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class ResnetGenerator(TappedSequential, Generator):
    """7×7 convolution, two steps down, ``blocks`` residual blocks at a quarter, two steps up, 7×7, tanh.

    Taps: ``pad`` (the padded input), ``conv``, ``down1`` and ``down2`` (outputs of the two convolutions on
    the way down, before norm), ``block1`` … ``blockN``. In the antialiased network ``pad, down1, down2,
    block1, block5`` are CUT's layers 0, 4, 8, 12, 16.

    Args:
        residual: predict the rain layer, output = input + network(input); the last convolution then starts
            at zero, so that an untrained generator returns its input. Needs as many output as input channels.
    """

    def __init__(
        self,
        input_nc: int,
        output_nc: int,
        ngf: int = 64,
        blocks: int = 9,
        *,
        norm: str = "instance",
        dropout: bool = False,
        antialias_down: bool = True,
        antialias_up: bool = True,
        residual: bool = False,
        **unused: Any,
    ) -> None:
        super().__init__(input_nc, output_nc, stride=4, residual=residual, fewest_pixels=2)  # reflection needs two
        bias = convolution_has_bias(norm)
        taps = {"pad": 0, "conv": 1}
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(input_nc, ngf, 7, bias=bias)]
        layers += [make_norm(norm, ngf), _relu(norm)]
        for step in (1, 2):
            taps[f"down{step}"] = len(layers)
            layers += _down(ngf * step, norm, bias, antialias_down)
        for block in range(1, blocks + 1):
            taps[f"block{block}"] = len(layers)
            layers.append(ResidualBlock(4 * ngf, norm, dropout))
        for width in (4 * ngf, 2 * ngf):
            layers += _up(width, norm, bias, antialias_up)
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(ngf, output_nc, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)
        self.tap_positions, self.tap_names = taps, tuple(taps)

    def start_at_identity(self) -> None:
        """Zero the last convolution if the generator is residual; called after initialization."""
        if self.residual:
            zero_(self.model[-2])

    def forward_tapped(self, x: Tensor, taps: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
        """The output image and, from the same pass, the features at ``taps``."""
        padded, crop = self.pad(x)
        output, features = self.run(padded, taps)
        return crop(padded + output if self.residual else output), features

    def encode(self, x: Tensor, taps: Sequence[str]) -> list[Tensor]:
        """Only the features at ``taps``; nothing behind the deepest of them is computed."""
        return self.run(self.pad(x)[0], taps, stop=True)[1]

    @classmethod
    def recognize(cls, state: State) -> dict[str, str] | None:
        """By its residual blocks and the first convolution."""
        blocks = {int(match[1]) for key in state if (match := re.match(r"model\.(\d+)\.conv_block", key))}
        first = state.get("model.1.weight")
        if not blocks or first is None:
            return None
        blurs = {int(match[1]) for key in state if (match := re.match(r"model\.(\d+)\.filt", key))}
        # Dropout moves the block's second convolution from position 5 to 6.
        second = state.get(f"model.{min(blocks)}.conv_block.6.weight")
        last = [tensor for key, tensor in state.items() if tensor.ndim == 4 and not key.endswith(".filt")][-1]
        return {
            "netG": f"resnet_{len(blocks)}blocks",
            "ngf": width_of(state, "model.1.weight"),
            "input_nc": str(first.shape[1]),
            "output_nc": str(last.shape[0]),
            "normG": "batch" if "model.2.weight" in state else "instance" if "model.1.bias" in state else "none",
            "no_dropout": str(second is None or second.ndim != 4).lower(),
            "no_antialias": str(not any(position < min(blocks) for position in blurs)).lower(),
            "no_antialias_up": str(not any(position > max(blocks) for position in blurs)).lower(),
        }


def _relu(norm: str) -> nn.Module:
    """In place, unless it comes right behind a convolution, whose output may be tapped."""
    return nn.ReLU(inplace=norm != "none")


def _down(width: int, norm: str, bias: bool, antialias: bool) -> list[nn.Module]:
    """Halve the resolution and double the channels."""
    stride = 1 if antialias else 2
    layers = [
        nn.Conv2d(width, 2 * width, 3, stride=stride, padding=1, bias=bias),
        make_norm(norm, 2 * width),
        _relu(norm),
    ]
    return [*layers, BlurDownsample(2 * width)] if antialias else layers


def _up(width: int, norm: str, bias: bool, antialias: bool) -> list[nn.Module]:
    """Double the resolution and halve the channels."""
    half = width // 2
    if antialias:
        resize: list[nn.Module] = [BlurUpsample(width), nn.Conv2d(width, half, 3, padding=1, bias=bias)]
    else:
        resize = [nn.ConvTranspose2d(width, half, 3, stride=2, padding=1, output_padding=1, bias=bias)]
    return [*resize, make_norm(norm, half), _relu(norm)]
