"""Exponential moving averages of the networks that testing needs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

WARM_UP = 9
"""After t updates the decay is at most t / (t + WARM_UP), so the average reaches back over about the last tenth of a
young training, and the networks' random beginning leaves no trace in it."""


class AveragedNets:
    """Copies of networks whose weights follow them: average ← d · average + (1 − d) · weight after every update.

    d = min(decay, t / (t + 9)) with t the number of updates before this one: the first one copies. Buffers, such as
    batch norm's statistics, are copied.
    """

    def __init__(self, nets: Mapping[str, nn.Module], decay: float) -> None:
        """``decay`` in (0, 1); the networks are on their device already."""
        if not 0 < decay < 1:
            raise ValueError(f"decay must lie between 0 and 1, not {decay}")
        self.decay, self.updates = decay, 0
        self.nets = {name: copy.deepcopy(network).requires_grad_(False) for name, network in nets.items()}

    @torch.no_grad()
    def update(self, nets: Mapping[str, nn.Module]) -> None:
        """Take in the weights that ``nets`` have now."""
        decay = min(self.decay, self.updates / (self.updates + WARM_UP))
        self.updates += 1
        for name, average in self.nets.items():
            averages: list[Tensor] = list(average.parameters())
            weights: list[Tensor] = list(nets[name].parameters())
            torch._foreach_lerp_(averages, weights, 1 - decay)
            for mine, theirs in zip(average.buffers(), nets[name].buffers(), strict=True):
                mine.copy_(theirs)

    def state_dict(self) -> dict[str, Any]:
        """The averages and how many updates they have seen."""
        return {"updates": self.updates, "nets": {name: net.state_dict() for name, net in self.nets.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put them back."""
        self.updates = state["updates"]
        for name, network in self.nets.items():
            network.load_state_dict(state["nets"][name])
