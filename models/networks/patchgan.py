"""PatchGAN discriminators (Isola et al. 2017): 70×70 by default, ``n_layers`` deep, or 1×1 pixels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from models.networks.generator import State, width_of
from models.networks.norm import convolution_has_bias, make_norm
from models.networks.passes import TappedSequential
from util.errors import UserError
from util.layers import AnyMemoryFormat, BlurDownsample

_WIDEST = 8  # channels grow up to this multiple of ndf
_SMALLEST_MAP = 3  # what the two last 4×4 convolutions need, each of which takes one pixel off


class PatchDiscriminator(TappedSequential):
    """A map of logits, one per overlapping patch (70×70 pixels for ``layers=3``).

    Taps: ``conv1`` … ``conv{layers+1}``, the convolutions' outputs before norm. In the antialiased network
    of three layers ``conv2`` and ``conv3`` are positions 3 and 7, which CCLGAN's inter-CCL uses.
    """

    def __init__(
        self, input_nc: int, ndf: int = 64, layers: int = 3, *, norm: str = "instance", antialias: bool = True
    ) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"layers must be at least 1, not {layers}")
        bias = convolution_has_bias(norm)
        stride = 1 if antialias else 2
        taps: dict[str, int] = {}
        modules: list[nn.Module] = []
        width_in = input_nc
        for number in range(layers + 1):
            width = ndf * min(2**number, _WIDEST)
            first, last = number == 0, number == layers
            taps[f"conv{number + 1}"] = len(modules)
            modules.append(nn.Conv2d(width_in, width, 4, stride=1 if last else stride, padding=1, bias=first or bias))
            if not first:
                modules.append(make_norm(norm, width))
            modules.append(nn.LeakyReLU(0.2, inplace=not first and norm != "none"))
            if antialias and not last:
                modules.append(BlurDownsample(width))
            width_in = width
        modules.append(nn.Conv2d(width_in, 1, 4, padding=1))
        self.model, self.tap_positions = nn.Sequential(*modules), taps
        self.smallest = _SMALLEST_MAP * 2**layers

    def forward(self, x: Tensor) -> Tensor:
        """[N, input_nc, H, W] in [-1, 1] → logits [N, 1, H', W'].

        Raises:
            UserError: a side is shorter than ``smallest``.
        """
        if min(x.shape[2:]) < self.smallest:
            raise UserError(
                f"an image of {x.shape[3]}×{x.shape[2]} pixels is too small for the discriminator, which needs "
                f"{self.smallest}; use larger images, a smaller --n_layers_D with --netD n_layers, or --netD pixel."
            )
        return self.run(x)[0]

    def encode(self, x: Tensor, taps: Sequence[str]) -> list[Tensor]:
        """Features at ``taps``; nothing behind the deepest of them is computed."""
        return self.run(x, taps, stop=True)[1]

    def judge(self, features: Tensor, after: str) -> Tensor:
        """Logits from features already taken at the tap ``after``: the rest of the same pass."""
        return self.run(features, after=after)[0]

    @classmethod
    def recognize(cls, state: State) -> dict[str, str] | None:
        """Option → value of the network that ``state`` belongs to; None if it is of another kind."""
        if "model.0.weight" not in state:
            return None
        convolutions = sum(tensor.ndim == 4 and not key.endswith(".filt") for key, tensor in state.items())
        return {
            "netD": f"PatchGAN of {convolutions - 2} strided layers",
            "ndf": width_of(state, "model.0.weight"),
            "no_antialias": str(not any(key.endswith(".filt") for key in state)).lower(),
        }


class PixelDiscriminator(AnyMemoryFormat):
    """1×1 convolutions: judges each pixel by its color alone."""

    smallest = 2  # instance norm needs more than one pixel

    def __init__(self, input_nc: int, ndf: int = 64, *, norm: str = "instance") -> None:
        super().__init__()
        bias = convolution_has_bias(norm)
        self.net = nn.Sequential(
            nn.Conv2d(input_nc, ndf, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(ndf, 2 * ndf, 1, bias=bias),
            make_norm(norm, 2 * ndf),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * ndf, 1, 1, bias=bias),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, input_nc, H, W] in [-1, 1] → logits [N, 1, H, W]."""
        return self.net(x)

    @classmethod
    def recognize(cls, state: State) -> dict[str, str] | None:
        """Option → value of the network that ``state`` belongs to; None if it is of another kind."""
        return {"netD": "pixel", "ndf": width_of(state, "net.0.weight")} if "net.0.weight" in state else None
