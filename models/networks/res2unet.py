"""Syn2Real's network: a U-Net of blocks that work on many scales (Res2Net), with a latent z in the middle.

Yasarla, Sindagi, Patel, "Syn2Real Transfer Learning for Image Deraining using Gaussian Processes", CVPR 2020; blocks
after Gao et al., "Res2Net", TPAMI 2019.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.generator import State, width_of
from util.layers import AnyMemoryFormat, PadToStride

PARTS, GROUPS = 6, 8
PART_WIDTH = 12 / 64  # groups of each part have so many channels for one of the block
LEAK = 0.2


class Activated(nn.Sequential):
    """BN, ReLU, and then a layer of ``width`` channels before it."""

    def __init__(self, width: int, layer: nn.Module) -> None:
        super().__init__(nn.BatchNorm2d(width), nn.ReLU(), layer)


class Res2Block(nn.Module):
    """x [N, C, H, W] → [x, x + f(x)], [N, 2C, H, W].

    f splits its features into six parts. The first five go through grouped 3×3 convolutions one after another, each
    with the result of the one before added; the sixth stays as it is.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        part = max(1, int(width * PART_WIDTH)) * GROUPS
        self.enter = Activated(width, nn.Conv2d(width, PARTS * part, 1, bias=False))
        self.scales = nn.ModuleList(
            Activated(part, nn.Conv2d(part, part, 3, padding=1, groups=GROUPS, bias=False)) for _ in range(PARTS - 1)
        )
        self.leave = Activated(PARTS * part, nn.Conv2d(PARTS * part, width, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        *parts, last = self.enter(x).chunk(PARTS, 1)
        results: list[Tensor] = []
        for part, scale in zip(parts, self.scales, strict=True):
            results.append(scale(results[-1] + part if results else part))
        return torch.cat([x, x + self.leave(torch.cat([*results, last], 1))], 1)


def _transition(width_in: int, width_out: int) -> Activated:
    return Activated(width_in, nn.ConvTranspose2d(width_in, width_out, 1, bias=False))


class Res2UNet(AnyMemoryFormat):
    """Images [N, C, H, W] in [-1, 1] → (clean images in [0, 1] of the same size, z [N, 2 · ngf, ⌈H/8⌉, ⌈W/8⌉]).

    Sides that are no multiple of 8 are padded by reflection, and the result is cropped.
    """

    stride = 8

    def __init__(self, input_nc: int, output_nc: int, ngf: int = 16) -> None:
        super().__init__()
        self.pad = PadToStride(self.stride)
        two, four, eight = 2 * ngf, 4 * ngf, 8 * ngf
        self.stem = nn.Conv2d(input_nc, ngf, 3, padding=1)
        self.level1 = Res2Block(ngf)
        self.down2, self.level2, self.out2 = _transition(two, two), Res2Block(two), _transition(four, two)
        self.down3, self.level3, self.out3 = _transition(two, two), Res2Block(two), _transition(four, four)
        self.down4 = _transition(four, eight)
        self.bottom = nn.Sequential(
            *(layer for _ in range(3) for layer in (Res2Block(eight), _transition(2 * eight, eight)))
        )
        self.latent = nn.Sequential(nn.LeakyReLU(LEAK), nn.Conv2d(eight, two, 3, padding=1))
        self.up3, self.level7, self.out7 = _transition(two, four), Res2Block(eight), _transition(2 * eight, two)
        self.up2, self.level8, self.out8 = _transition(two, two), Res2Block(four), _transition(eight, two)
        self.up1, self.level9, self.out9 = _transition(two, two), Res2Block(5 * ngf), _transition(10 * ngf, ngf)
        self.refine = nn.Sequential(nn.Conv2d(ngf, ngf, 3, padding=1), nn.LeakyReLU(LEAK))
        self.image = nn.Sequential(nn.Conv2d(ngf, output_nc, 3, padding=1), nn.Tanh())
        self.clean = nn.Sequential(
            nn.Conv2d(output_nc, 8, 7, padding=3),
            nn.LeakyReLU(LEAK),
            nn.Conv2d(8, output_nc, 3, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        padded, crop = self.pad(x)
        whole = self.stem(padded)
        skip1 = self.level1(whole)
        skip2 = self.out2(self.level2(F.avg_pool2d(self.down2(skip1), 2)))
        skip3 = self.out3(self.level3(F.avg_pool2d(self.down3(skip2), 2)))
        z = self.latent(self.bottom(F.avg_pool2d(self.down4(skip3), 2)))
        y = self.out7(self.level7(torch.cat([_twice(self.up3(z)), skip3], 1)))
        y = self.out8(self.level8(torch.cat([_twice(self.up2(y)), skip2], 1)))
        y = self.out9(self.level9(torch.cat([_twice(self.up1(y)), skip1, whole], 1)))
        return crop(self.clean(self.image(whole - self.refine(y)))), z

    @classmethod
    def recognize(cls, state: State) -> dict[str, str] | None:
        """Width of the network that ``state`` belongs to; None if it is another network's."""
        if not {"stem.weight", "level9.enter.2.weight", "latent.1.weight"} <= state.keys():
            return None
        return {"ngf": width_of(state, "stem.weight"), "input_nc": str(state["stem.weight"].shape[1])}


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")
