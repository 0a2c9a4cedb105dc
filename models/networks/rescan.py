"""RESCAN: rain estimated in recurrent stages by dilated convolutions with channel attention.

Li, Wu, Lin, Liu, Zha, "Recurrent Squeeze-and-Excitation Context Aggregation Net for Single Image Deraining", ECCV 2018.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.generator import State, width_of
from util.layers import AnyMemoryFormat

DILATIONS = (1, 1, 2, 4, 8)
REDUCTION = 4  # of the channel attention
SLOPE = 0.2


class ChannelAttention(nn.Module):
    """x · sigmoid(W₂ relu(W₁ mean(x))), one factor a channel (squeeze and excitation)."""

    def __init__(self, channels: int, reduction: int = REDUCTION) -> None:
        super().__init__()
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.factors = nn.Sequential(
            nn.Linear(channels, channels // reduction), nn.ReLU(), nn.Linear(channels // reduction, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.factors(self.mean(x).flatten(1)))[:, :, None, None]


class RecurrentLayer(nn.Module):
    """A gated recurrent unit of 3×3 convolutions, those of its input dilated, then channel attention and leaky ReLU.

    With z, r = sigmoid(A x + B s) and n = tanh(A x + B (r · s)), each with weights of its own, the unit gives
    (1 − z) s + z n, and z n where there is no state s yet.
    """

    def __init__(self, inputs: int, channels: int, dilation: int) -> None:
        super().__init__()
        self.of_input = nn.Conv2d(inputs, 3 * channels, 3, padding=dilation, dilation=dilation)
        self.gates_of_state = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        self.new_of_state = nn.Conv2d(channels, channels, 3, padding=1)
        self.attention = ChannelAttention(channels)

    def forward(self, x: Tensor, state: Tensor | None) -> Tensor:
        """The layer's output, which is its state in the next stage as well."""
        update, reset, new = self.of_input(x).chunk(3, 1)
        if state is None:
            output = torch.sigmoid(update) * torch.tanh(new)
        else:
            update_of_state, reset_of_state = self.gates_of_state(state).chunk(2, 1)
            update = torch.sigmoid(update + update_of_state)
            new = torch.tanh(new + self.new_of_state(torch.sigmoid(reset + reset_of_state) * state))
            output = torch.lerp(state, new, update)
        return F.leaky_relu(self.attention(output), SLOPE)


class RescanNetwork(AnyMemoryFormat):
    """Images [N, C, H, W] in [-1, 1] → image − rain, where rain is what the last of ``stages`` estimates.

    Each stage sees the image without the rain that the stage before found, and what its layers knew then.
    """

    def __init__(self, channels: int = 3, width: int = 24, stages: int = 4) -> None:
        super().__init__()
        self.stages = stages
        self.layers = nn.ModuleList(
            RecurrentLayer(width if number else channels, width, dilation) for number, dilation in enumerate(DILATIONS)
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            ChannelAttention(width),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(width, channels, 1),
        )

    def estimates(self, x: Tensor) -> list[Tensor]:
        """The rain in [0, 1] of the images that each stage finds, from the first to the last."""
        image = (x + 1) / 2
        states: list[Tensor | None] = [None] * len(self.layers)
        found: list[Tensor] = []
        for _ in range(self.stages):
            features = image - found[-1] if found else image
            for number, layer in enumerate(self.layers):
                features = states[number] = layer(features, states[number])
            found.append(self.decoder(features))
        return found

    def forward(self, x: Tensor) -> Tensor:
        return x - 2 * self.estimates(x)[-1]

    @classmethod
    def recognize(cls, state: State) -> dict[str, str] | None:
        """By its recurrent layers."""
        if "layers.0.gates_of_state.weight" not in state:
            return None
        width, channels = width_of(state, "decoder.0.weight"), width_of(state, "decoder.3.weight")
        return {"model": "rescan", "ngf": width, "input_nc": channels}
