"""ResNet generator (Johnson et al. 2016), as in CycleGAN (strided convolutions) and CUT (antialiased)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from models.networks.blur import BlurDownsample, BlurUpsample
from models.networks.layers import Conv2d, ConvTranspose2d, ReflectionPad2d, laid_out
from models.networks.norm import convolution_has_bias, make_norm
from models.networks.tapped import TappedSequential
from util.padding import pad_to_multiple


class ResidualBlock(nn.Module):
    """x + (pad, 3×3 convolution, norm, ReLU, [dropout], pad, 3×3 convolution, norm)(x)."""

    def __init__(self, channels: int, norm: str, dropout: bool) -> None:
        super().__init__()
        bias = convolution_has_bias(norm)
        layers: list[nn.Module] = [
            ReflectionPad2d(1),
            Conv2d(channels, channels, 3, bias=bias),
            make_norm(norm, channels),
        ]
        if dropout:
            layers += [_relu(norm), nn.Dropout(0.5), ReflectionPad2d(1)]
        else:  # padded first, so that ReLU and the convolution need to keep one image for their gradients, not two
            layers += [ReflectionPad2d(1), nn.ReLU(inplace=True)]
        layers += [
            Conv2d(channels, channels, 3, bias=bias),
            make_norm(norm, channels),
        ]
        self.conv_block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class ResnetGenerator(TappedSequential):
    """7×7 convolution, two steps down, ``blocks`` residual blocks at a quarter, two steps up, 7×7, tanh.

    Images of any size in [-1, 1] come back in the same size: they are reflect-padded to a multiple of
    ``stride`` and cropped again.

    Taps: ``pad`` (the padded input), ``conv``, ``down1`` and ``down2`` (outputs of the two convolutions on
    the way down, before norm), ``block1`` … ``blockN``. In the antialiased network ``pad, down1, down2,
    block1, block5`` are CUT's layers 0, 4, 8, 12, 16.

    Args:
        residual: predict the rain layer, output = input + network(input); the last convolution then starts
            at zero, so that an untrained generator returns its input. Needs as many output as input channels.
    """

    stride = 4

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
    ) -> None:
        if residual and input_nc != output_nc:
            raise ValueError(f"a residual generator needs input_nc == output_nc, not {input_nc} and {output_nc}")
        bias = convolution_has_bias(norm)
        taps = {"pad": 0, "conv": 1}
        layers: list[nn.Module] = [ReflectionPad2d(3), Conv2d(input_nc, ngf, 7, bias=bias)]
        layers += [make_norm(norm, ngf), _relu(norm)]
        for step in (1, 2):
            taps[f"down{step}"] = len(layers)
            layers += _down(ngf * step, norm, bias, antialias_down)
        for block in range(1, blocks + 1):
            taps[f"block{block}"] = len(layers)
            layers.append(ResidualBlock(4 * ngf, norm, dropout))
        for width in (4 * ngf, 2 * ngf):
            layers += _up(width, norm, bias, antialias_up)
        layers += [ReflectionPad2d(3), Conv2d(ngf, output_nc, 7), nn.Tanh()]
        super().__init__(layers, taps)
        self.residual = residual

    def start_at_identity(self) -> None:
        """Zero the last convolution if the generator is residual; called after initialisation."""
        if self.residual:
            last = self.model[-2]
            assert isinstance(last, nn.Conv2d) and last.bias is not None
            with torch.no_grad():
                last.weight.zero_()
                last.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """[N, input_nc, H, W] in [-1, 1] → [N, output_nc, H, W] in [-1, 1] ([-2, 2] if residual)."""
        return self.forward_tapped(x, ())[0]

    def forward_tapped(self, x: Tensor, taps: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
        """The output image and, from the same pass, the features at ``taps``."""
        padded, crop = self._pad(x)
        output, features = self.run(padded, taps)
        return crop(padded + output if self.residual else output), features

    def encode(self, x: Tensor, taps: Sequence[str]) -> list[Tensor]:
        """Only the features at ``taps``; nothing behind the deepest of them is computed."""
        return self.run(self._pad(x)[0], taps, stop=True)[1]

    def _pad(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Extend to a multiple of ``stride``, and to no less than two pixels at a quarter: reflection needs them."""
        tiny = min(x.shape[2:]) <= self.stride
        padded, crop = pad_to_multiple(x, 2 * self.stride if tiny else self.stride)
        return laid_out(padded), crop


def _relu(norm: str) -> nn.Module:
    """In place, unless it comes right behind a convolution, whose output may be tapped."""
    return nn.ReLU(inplace=norm != "none")


def _down(width: int, norm: str, bias: bool, antialias: bool) -> list[nn.Module]:
    """Halve the resolution and double the channels."""
    stride = 1 if antialias else 2
    layers = [
        Conv2d(width, 2 * width, 3, stride=stride, padding=1, bias=bias),
        make_norm(norm, 2 * width),
        _relu(norm),
    ]
    return [*layers, BlurDownsample(2 * width)] if antialias else layers


def _up(width: int, norm: str, bias: bool, antialias: bool) -> list[nn.Module]:
    """Double the resolution and halve the channels."""
    half = width // 2
    if antialias:
        resize: list[nn.Module] = [BlurUpsample(width), Conv2d(width, half, 3, padding=1, bias=bias)]
    else:
        resize = [ConvTranspose2d(width, half, 3, stride=2, padding=1, output_padding=1, bias=bias)]
    return [*resize, make_norm(norm, half), _relu(norm)]
