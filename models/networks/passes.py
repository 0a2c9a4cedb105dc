"""One forward pass of a network put to use: features taken from it by name, and several images in it at once."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.networks.generator import Generator
from models.networks.norm import mixes_samples
from util.errors import UserError
from util.layers import AnyMemoryFormat
from util.text import did_you_mean


class TappedSequential(AnyMemoryFormat):
    """A network that is one ``nn.Sequential`` called ``model``, with named taps.

    A tap is the output of one layer. ``tap_positions`` maps names (``"down1"``, ``"block5"``) to positions
    in ``model``; plain integers as text (``"4"``) are accepted as CUT's ``--nce_layers`` has them.
    """

    model: nn.Sequential
    tap_positions: dict[str, int]

    def tap_position(self, tap: str) -> int:
        """Position of a tap in ``model``.

        Raises:
            UserError: neither a known name nor the position of a layer.
        """
        if tap in self.tap_positions:
            return self.tap_positions[tap]
        if tap.isdecimal() and int(tap) < len(self.model):
            return int(tap)
        raise UserError(
            f"layer '{tap}' does not exist in this {type(self).__name__}{did_you_mean(tap, self.tap_positions)}; "
            f"choose from {', '.join(self.tap_positions)} or a position from 0 to {len(self.model) - 1}."
        )

    def check_taps(self, taps: Sequence[str]) -> None:
        """Raise :class:`UserError` for a tap that does not exist."""
        for tap in taps:
            self.tap_position(tap)

    def run(
        self, x: Tensor, taps: Sequence[str] = (), *, after: str | None = None, stop: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        """Pass ``x`` through ``model`` and collect the taps, in the order in which they were asked for.

        ``after`` starts behind that tap, with ``x`` being its features; ``stop`` ends at the deepest tap.

        Returns:
            (last output [N, C, H, W], list of features [N, C_l, H_l, W_l]).
        """
        positions = [self.tap_position(tap) for tap in taps]
        first = 0 if after is None else self.tap_position(after) + 1
        last = max(positions) if stop and positions else len(self.model) - 1
        features: dict[int, Tensor] = {}
        for position in range(first, last + 1):
            x = self.model[position](x)
            if position in positions:
                features[position] = x
        return x, [features[position] for position in positions]

    def deepest(self, taps: Sequence[str]) -> str:
        """The one of ``taps`` that comes last in the network."""
        return max(taps, key=self.tap_position)


def tap_widths(network: nn.Module, taps: Sequence[str], channels: int) -> list[int]:
    """Channel counts of the taps of a network with an ``encode(x, taps)`` method.

    Found by a dry run on the meta device, which computes shapes only, so that projection heads get their
    widths at construction and not from the first batch.
    """
    shadow: Any = copy.deepcopy(network).to("meta")
    with torch.no_grad():
        features = shadow.encode(torch.empty(1, channels, 256, 256, device="meta"), taps)
    return [feature.shape[1] for feature in features]


def can_batch(network: nn.Module, images: Sequence[Tensor]) -> bool:
    """Whether one pass over the concatenated images equals one pass each.

    They must have one size, and the network must treat samples independently (instance norm does; batch
    norm in training mode does not).
    """
    return len({image.shape[1:] for image in images}) == 1 and not mixes_samples(network)


def forward_together(network: nn.Module, images: Sequence[Tensor]) -> list[Tensor]:
    """``network(image)`` for each of ``images`` [N, C, H, W], in one pass where that is exact."""
    if not can_batch(network, images):
        return [network(image) for image in images]
    return list(network(torch.cat(list(images))).split([image.shape[0] for image in images]))


def encode_together(network: Any, images: Sequence[Tensor], taps: Sequence[str]) -> list[list[Tensor]]:
    """``network.encode(image, taps)`` for each of ``images``, in one pass where that is exact."""
    if not can_batch(network, images):
        return [network.encode(image, taps) for image in images]
    features = network.encode(torch.cat(list(images)), taps)
    return _split_features(features, [image.shape[0] for image in images])


def generate_together(
    generator: Generator, images: Sequence[Tensor], taps: Sequence[str] = ()
) -> list[tuple[Tensor, list[Tensor]]]:
    """(output, features at ``taps``) for each of ``images``, in one pass where that is exact."""
    if not can_batch(generator, images):
        return [generator.forward_tapped(image, taps) for image in images]
    sizes = [image.shape[0] for image in images]
    output, features = generator.forward_tapped(torch.cat(list(images)), taps)
    return list(zip(output.split(sizes), _split_features(features, sizes), strict=True))


def _split_features(features: Sequence[Tensor], sizes: list[int]) -> list[list[Tensor]]:
    """Per-layer features of a batch → per-image lists of per-layer features."""
    split = [feature.split(sizes) for feature in features]
    return [[layer[image] for layer in split] for image in range(len(sizes))]
