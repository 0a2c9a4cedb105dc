"""One training step of any model: a shared forward pass, then its phases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from util.engine.device import autocast
from util.errors import UserError

_SEED_STRIDE = 1_000_003  # keeps the steps' seeds of different runs apart


class PhaseLike(Protocol):
    """One update within a step; see ``models.base_model.Phase``."""

    @property
    def name(self) -> str: ...
    @property
    def trains(self) -> tuple[str, ...]: ...
    @property
    def losses(self) -> Callable[[Any], dict[str, Tensor]]: ...


@dataclass(frozen=True)
class StepResult:
    """What a training step gives back.

    ``losses`` are the weighted terms by name and ``watched`` is the sum of those that train the networks which
    testing needs (detached scalars, on the device); ``visuals`` are images to look at by label, if wanted.
    """

    losses: dict[str, Tensor]
    watched: Tensor
    visuals: dict[str, Tensor]


class Trainable(Protocol):
    """What the engine needs of a model; see ``models.base_model.Model``."""

    nets: dict[str, nn.Module]
    frozen: dict[str, nn.Module]
    state: dict[str, Any]

    @property
    def inference_nets(self) -> tuple[str, ...]: ...
    @property
    def phases(self) -> Iterable[PhaseLike]: ...
    def forward(self, batch: Any) -> Any: ...
    def infer(self, source: Tensor) -> Tensor: ...
    def visuals(self, passed: Any) -> dict[str, Tensor]: ...


class Stepper:
    """Applies device, precision and optimizers to a model, in this order:

    networks to the device → one Adam per phase → per step: seed, inputs to the device, forward pass under
    autocast, and for each phase freeze the others, losses under autocast, backward, update.

    Each step draws its random numbers from a seed made of ``seed`` and the number of images seen, so a
    resumed run draws what the uninterrupted one would have drawn.
    """

    def __init__(
        self,
        model: Trainable,
        *,
        device: torch.device,
        precision: str,
        learning_rate: float,
        betas: tuple[float, float],
        seed: int,
    ) -> None:
        self.model, self.device, self.precision, self.seed = model, device, precision, seed
        self._betas = betas
        for network in (*model.nets.values(), *model.frozen.values()):
            network.to(device)
        self.optimizers = {
            # One fused kernel per update: on small networks the elementwise one costs as much as a convolution.
            phase.name: torch.optim.Adam(self._parameters(phase), lr=learning_rate, betas=betas, fused=True)
            for phase in model.phases
        }

    def _parameters(self, phase: PhaseLike) -> list[nn.Parameter]:
        return [parameter for name in phase.trains for parameter in self.model.nets[name].parameters()]

    def load_optimizers(self, states: Mapping[str, Any]) -> None:
        """Put the optimizers' moments back; learning rate and betas stay those of the options."""
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(states[name])
            for group in optimizer.param_groups:
                group["betas"] = self._betas

    def set_learning_rate(self, learning_rate: float) -> None:
        """For all optimizers, from the next step on."""
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = learning_rate

    def step(self, batch: Mapping[str, Any], images_seen: int, *, want_visuals: bool = False) -> StepResult:
        """Train on one batch, the ``images_seen``-th of the run."""
        torch.manual_seed(self.seed * _SEED_STRIDE + images_seen)
        on_device = {
            key: value.to(self.device, non_blocking=True) if isinstance(value, Tensor) else value
            for key, value in batch.items()
        }
        self._let_learn(tuple(self.model.nets))
        with autocast(self.precision, self.device):
            passed = self.model.forward(on_device)
        losses: dict[str, Tensor] = {}
        watched = torch.zeros((), device=self.device)
        for phase in self.model.phases:
            terms = {name: term.detach() for name, term in self._update(phase, passed).items()}
            losses.update(terms)
            if set(phase.trains) & set(self.model.inference_nets):
                watched = watched + torch.stack(list(terms.values())).sum()
        visuals = self.model.visuals(passed) if want_visuals else {}
        return StepResult(losses, watched, {label: image.detach() for label, image in visuals.items()})

    def _update(self, phase: PhaseLike, passed: Any) -> dict[str, Tensor]:
        self._let_learn(phase.trains)
        optimizer = self.optimizers[phase.name]
        optimizer.zero_grad(set_to_none=True)
        with autocast(self.precision, self.device):
            terms = phase.losses(passed)
        if not terms:
            raise UserError(f"every loss of phase {phase.name} has weight 0, which leaves nothing to train.")
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        return terms

    def _let_learn(self, names: tuple[str, ...]) -> None:
        """Only these networks' parameters take gradients; the others pass them on."""
        for name, network in self.model.nets.items():
            network.requires_grad_(name in names)
