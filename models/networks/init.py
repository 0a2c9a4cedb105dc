"""Weight initialisation, as published with CycleGAN (normal 0.02) and CUT (Xavier 0.02)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

_INITIALISERS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "normal": lambda weight, gain: nn.init.normal_(weight, 0.0, gain),
    "xavier": lambda weight, gain: nn.init.xavier_normal_(weight, gain=gain),
    "kaiming": lambda weight, gain: nn.init.kaiming_normal_(weight, a=0, mode="fan_in"),
    "orthogonal": lambda weight, gain: nn.init.orthogonal_(weight, gain=gain),
}
INIT_TYPES = tuple(_INITIALISERS)


@torch.no_grad()
def initialize(network: nn.Module, init_type: str = "normal", gain: float = 0.02) -> nn.Module:
    """Initialise every convolution and linear layer in place and return ``network``.

    Biases become 0; batch-norm weights are drawn from N(1, gain). ``gain`` is the standard deviation for
    ``normal``, a factor for ``xavier`` and ``orthogonal``, and unused by ``kaiming``.

    Raises:
        ValueError: ``init_type`` is not one of :data:`INIT_TYPES`.
    """
    if init_type not in _INITIALISERS:
        raise ValueError(f"init_type must be one of {INIT_TYPES}, not {init_type!r}")
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            _INITIALISERS[init_type](module.weight, gain)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, gain)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    return network
