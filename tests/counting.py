"""What a step's passes cost, by PyTorch's own counter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from models import Model


def flops(function: Callable[[], Any]) -> int:
    """FLOPs of what ``function`` computes."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def whole_step(model: Model, batch: dict[str, Tensor]) -> None:
    """All passes of a step, forward and backward, as the engine makes them."""
    for network in model.nets.values():
        network.requires_grad_(True)
    passed = model.forward(batch)  # type: ignore[arg-type]
    for phase in model.phases:
        for name, network in model.nets.items():
            network.requires_grad_(name in phase.trains)
        torch.stack(list(phase.losses(passed).values())).sum().backward()
