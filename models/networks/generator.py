"""What every generator offers, and the parts that all families share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from util.errors import UserError
from util.layers import AnyMemoryFormat, PadToStride
from util.text import did_you_mean

State = Mapping[str, Tensor]
"""A state dict."""


class Generator(AnyMemoryFormat, ABC):
    """Images [N, input_nc, H, W] in [-1, 1] → images [N, output_nc, H, W] of the same size, whatever it is.

    A new generator is one file with a subclass and one line in :data:`models.networks.factory.GENERATOR_REGISTRY`. Its
    constructor takes ``(input_nc, output_nc, ngf)`` and by keyword what it has a use for of ``norm``, ``dropout``,
    ``antialias_down``, ``antialias_up`` and ``residual``; the others arrive as well, for which it has ``**unused``. It
    sets ``tap_names`` and implements the abstract methods.

    Attributes:
        stride: tiles of an image start at multiples of it; images are padded to one (``self.pad``).
        tap_names: features that a method may ask for by name, in the order in which the network computes them.
        residual: output = input + network(input).
    """

    stride: int
    tap_names: tuple[str, ...]

    def __init__(self, input_nc: int, output_nc: int, *, stride: int, residual: bool, fewest_pixels: int = 1) -> None:
        """``fewest_pixels``: the smallest side of a feature map at 1/``stride`` that the layers can work with."""
        super().__init__()
        if residual and input_nc != output_nc:
            raise ValueError(f"a residual generator needs input_nc == output_nc, not {input_nc} and {output_nc}")
        self.stride, self.residual = stride, residual
        self.pad = PadToStride(stride, fewest_pixels)

    @abstractmethod
    def forward_tapped(self, x: Tensor, taps: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
        """The output image and, from the same pass, the features [N, C_l, H_l, W_l] at ``taps``."""

    @abstractmethod
    def encode(self, x: Tensor, taps: Sequence[str]) -> list[Tensor]:
        """Only the features at ``taps``; what they do not need should not be computed."""

    @abstractmethod
    def start_at_identity(self) -> None:
        """If ``residual``, return the input unchanged until something is learned; called after initialization."""

    @classmethod
    @abstractmethod
    def recognize(cls, state: State) -> dict[str, str] | None:
        """Option → value (``netG``, ``ngf``, …) of the network that ``state`` belongs to; None if another family's.

        What leaves no trace in keys and shapes is left out, such as ``residual``.
        """

    def forward(self, x: Tensor) -> Tensor:
        """[N, input_nc, H, W] in [-1, 1] → [N, output_nc, H, W] in [-1, 1] ([-2, 2] if residual)."""
        return self.forward_tapped(x, ())[0]

    def check_taps(self, taps: Sequence[str]) -> None:
        """Raise :class:`UserError` for a tap that does not exist."""
        for tap in taps:
            if tap not in self.tap_names:
                raise UserError(
                    f"layer '{tap}' does not exist in this {type(self).__name__}{did_you_mean(tap, self.tap_names)}; "
                    f"choose from {', '.join(self.tap_names)}."
                )


def zero_(layer: nn.Module) -> None:
    """Set a layer's parameters to zero."""
    for parameter in layer.parameters(recurse=False):
        nn.init.zeros_(parameter)


def width_of(state: State, key: str) -> str:
    """Output channels of a layer, as an option's text."""
    return str(state[key].shape[0])
