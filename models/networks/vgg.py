"""VGG's convolutions, frozen, whose activations say how alike two images look.

Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from util.engine.weights import load_file
from util.errors import UserError
from util.layers import AnyMemoryFormat

CONVOLUTIONS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
"""How many each of the five levels has, which are 64, 128, 256, 512 and 512 channels wide."""

_WIDTHS = (64, 128, 256, 512, 512)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as torchvision's weights expect


class VGG(AnyMemoryFormat):
    """Images [N, 1 or 3, H, W] in [0, 1] → the activations after the ReLUs in ``taps``, such as ``relu3_3``.

    What lies behind the last tap is not built.

    Args:
        normalize: bring images to the mean and deviation that the weights were trained with.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, kind: str, taps: Sequence[str], *, normalize: bool = True) -> None:
        """Raises :class:`ValueError` for a ``kind`` not in :data:`CONVOLUTIONS`, or a tap that it does not have."""
        super().__init__()
        if kind not in CONVOLUTIONS:
            raise ValueError(f"kind must be one of {tuple(CONVOLUTIONS)}, not {kind!r}")
        places: dict[str, int] = {}
        layers: list[nn.Module] = []
        width_in = 3
        for level, (width, count) in enumerate(zip(_WIDTHS, CONVOLUTIONS[kind], strict=True), 1):
            for number in range(1, count + 1):
                layers += [nn.Conv2d(width_in, width, 3, padding=1), nn.ReLU()]
                places[f"relu{level}_{number}"] = len(layers) - 1
                width_in = width
            layers.append(nn.MaxPool2d(2))
        if not set(taps) <= places.keys():
            raise ValueError(f"taps must be among {', '.join(places)}, not {', '.join(taps)}")
        self.taken = [places[tap] for tap in taps]
        self.features = nn.Sequential(*layers[: max(self.taken) + 1])
        self.normalize = normalize
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
        if self.normalize:
            x = (x - self.mean) / self.std
        found: dict[int, Tensor] = {}
        for place, layer in enumerate(self.features):
            x = layer(x)
            if place in self.taken:
                found[place] = x
        return [found[place] for place in self.taken]


def pretrained_vgg(kind: str, taps: Sequence[str], weights_file: str | None, *, normalize: bool = True) -> VGG:
    """:class:`VGG` with torchvision's ImageNet weights, from a local file of them or fetched; never random ones.

    Raises:
        UserError: the weights cannot be had; the message names the ways out.
    """
    network = VGG(kind, taps, normalize=normalize)
    try:
        content = load_file(Path(weights_file).expanduser()) if weights_file else _fetched(kind)
    except UserError as reason:
        raise UserError(f"--vgg_weights {reason}") from reason
    except Exception as reason:  # of the network and of files alike
        first_line = (str(reason).strip().splitlines() or [""])[0]
        raise UserError(
            f"--vgg_weights: the weights of {kind} cannot be had ({type(reason).__name__}: {first_line}); give "
            "torchvision's file of them, or do without with --lambda_VGG 0."
        ) from reason
    wanted = network.state_dict()
    stored = {key: value for key, value in content.items() if re.match(r"features\.\d+\.", key)}
    if any(key not in stored or stored[key].shape != value.shape for key, value in wanted.items()):
        raise UserError(f"--vgg_weights {weights_file}: these are not torchvision's weights of {kind}; give that file.")
    network.load_state_dict({key: stored[key] for key in wanted})
    return network


def _fetched(kind: str) -> dict[str, Tensor]:
    from torchvision.models import get_model_weights

    return dict(get_model_weights(kind).DEFAULT.get_state_dict(progress=True, check_hash=True))
