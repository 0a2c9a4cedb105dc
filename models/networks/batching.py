"""Several images through one network in one pass, where that changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.networks.factory import Generator
from models.networks.norm import mixes_samples


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
