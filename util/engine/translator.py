"""A trained model applied to single images."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from util.engine.device import autocast


class Translatable(Protocol):
    """What translating needs of a model."""

    nets: dict[str, nn.Module]

    def infer(self, source: Tensor) -> Tensor: ...


class Translator:
    """Images [N, C, H, W] in [-1, 1] on the CPU → the model's translation of them, likewise.

    ``evaluation_mode`` False keeps dropout and batch statistics as in training.
    """

    def __init__(
        self, model: Translatable, *, device: torch.device, precision: str, evaluation_mode: bool = True
    ) -> None:
        self._model, self._device, self._precision = model, device, precision
        for network in model.nets.values():
            network.to(device).train(not evaluation_mode).requires_grad_(False)

    @torch.inference_mode()
    def __call__(self, source: Tensor) -> Tensor:
        with autocast(self._precision, self._device):
            output = self._model.infer(source.to(self._device))
        return output.float().clamp(-1, 1).cpu()
