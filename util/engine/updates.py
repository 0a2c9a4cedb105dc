"""The updates of a step: for each phase of the model the gradient of the whole batch, and Adam's step by it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from util.engine.distributed import Distributed, share_of
from util.engine.nonfinite import found_inf
from util.engine.pieces import Piece, networks_behind, split_batch, weighted_sum
from util.engine.precision import autocast
from util.engine.trainable import PhaseLike, Trainable
from util.errors import UserError

Losses = dict[str, Tensor]


class _PhaseLosses(nn.Module):
    """A phase's networks as one module, whose forward pass is all that leads to the phase's losses.

    That is what DistributedDataParallel needs: whatever methods of the networks a model calls, in whatever passes,
    happens inside of one forward pass, and the gradients of one backward pass are those of exactly these networks.
    """

    def __init__(self, nets: Iterable[nn.Module], losses: Callable[[Piece, PhaseLike, bool], Losses]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)
        self._losses = losses

    def forward(self, piece: Piece, phase: PhaseLike, alone: bool) -> Losses:
        """See :meth:`Updates._losses`."""
        return self._losses(piece, phase, alone)


def trains_tested(phase: PhaseLike, model: Trainable) -> bool:
    """Whether a phase trains networks that testing needs, and not only those that judge them."""
    return bool(set(phase.trains) & set(model.inference_nets))


class Updates:
    """Computes the phases of a model, piece by piece of a batch and process by process of a team."""

    def __init__(
        self,
        model: Trainable,
        optimizers: Mapping[str, torch.optim.Adam],
        scaler: GradScaler,
        team: Distributed,
        *,
        device: torch.device,
        precision: str,
        accumulate: int,
        clip_grad: float,
        skip_non_finite: bool,
    ) -> None:
        """See :class:`util.engine.step.Stepper`; the networks are on their device."""
        self._model, self._optimizers, self._scaler, self._team = model, optimizers, scaler, team
        self._device, self._precision, self._accumulate = device, precision, accumulate
        self._clip_grad, self._skip_non_finite = clip_grad, skip_non_finite
        self._behind_passes: frozenset[str] | None = None
        self._stands_in = self._warms_up = False
        self._let_learn(tuple(model.nets))
        self._modules = {
            phase.name: team.wrap(_PhaseLosses((model.nets[name] for name in phase.trains), self._losses))
            for phase in model.phases
        }
        if team.world_size > 1:
            for part in model.state.values():
                if hasattr(part, "gather"):
                    part.gather = self._gather

    def __call__(self, batch: Mapping[str, Any], *, warm_up: bool = False) -> tuple[Losses, Tensor, Any]:
        """One step: (losses by name, the sum of those watched, what the first piece passed).

        Losses are those of the whole batch, of which this process may have a part. In a ``warm_up`` only the phases
        that train no network of the test are updated, the discriminators', and nothing is differentiated beyond them.
        """
        share = share_of(batch, self._team.ranks.world_size)
        self._stands_in = share.images == 0
        # Equally many for all processes: each piece is an exchange where there are image pools.
        pieces = split_batch(batch, min(self._accumulate, share.fewest))
        for piece in pieces:
            piece.share *= share.weight
        losses: Losses = {}
        watched = torch.zeros((), device=self._device)
        self._warms_up = warm_up
        for phase in self._model.phases:
            is_tested = trains_tested(phase, self._model)
            if warm_up and is_tested:
                continue
            terms = self._update(phase, pieces)
            losses.update(terms)
            if is_tested:
                watched = watched + torch.stack(list(terms.values())).sum()
        return losses, watched, pieces[0].passed

    def _update(self, phase: PhaseLike, pieces: list[Piece]) -> Losses:
        """One update by the gradient of the whole batch, of which each piece contributes its share."""
        optimizer, module = self._optimizers[phase.name], self._modules[phase.name]
        optimizer.zero_grad(set_to_none=True)
        terms: Losses = {}
        for piece in pieces:
            is_last = piece is pieces[-1]
            with contextlib.nullcontext() if is_last else self._team.without_exchange(module):
                of_piece = module(piece, phase, len(pieces) == 1)
                loss = torch.stack(list(of_piece.values())).sum()
                # The processes' gradients are averaged, but here their shares are to be added up.
                share = piece.share * self._team.ranks.world_size
                self._scaler.scale(loss if share == 1 else loss * share).backward()
            terms = weighted_sum(terms, of_piece, piece.share)
        self._team.check_all_took_part(phase.name, self._parameters(phase))
        terms = self._team.sum(terms)
        self._descend(phase, optimizer, torch.stack(list(terms.values())).sum())
        return terms

    def _losses(self, piece: Piece, phase: PhaseLike, alone: bool) -> Losses:
        """The phase's losses of a piece, and the passes that they need; ``alone`` says that it is the whole batch."""
        self._pass(piece, phase, alone)
        self._let_learn(phase.trains)
        with autocast(self._precision, self._device):
            losses = phase.losses(piece.passed)
        if not losses:
            raise UserError(f"every loss of phase {phase.name} has weight 0, which leaves nothing to train.")
        return losses

    def _pass(self, piece: Piece, phase: PhaseLike, alone: bool) -> None:
        """Make the piece's passes, if this phase needs them made.

        A batch in one piece passes once, for all phases. Of several pieces only one at a time holds what its backward
        pass needs: a phase that trains the networks behind the passes makes them with it, and another one uses the
        passes that were made before, or makes them without. Passes are made from the same random numbers each time.
        """
        learns = alone or self._behind_passes is None or bool(self._behind_passes & set(phase.trains))
        learns = learns and not self._warms_up
        if piece.passed is not None and (alone or not learns):
            return
        self._let_learn(tuple(self._model.nets))
        random_numbers = contextlib.nullcontext() if alone else piece.random_numbers(self._device)
        with random_numbers, torch.set_grad_enabled(learns), autocast(self._precision, self._device):
            piece.passed = self._model.forward(piece.batch)
        if self._behind_passes is None and learns and not alone:
            self._behind_passes = networks_behind(piece.passed, self._model.nets)

    def _descend(self, phase: PhaseLike, optimizer: torch.optim.Adam, loss: Tensor) -> None:
        """Adam's update by the gradients that have come together, and with them every process's the same."""
        parameters = self._parameters(phase)
        if self._clip_grad:
            self._scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(parameters, self._clip_grad)
        if self._skip_non_finite and not self._scaler.is_enabled():  # which does so itself
            optimizer.found_inf = found_inf(loss, [parameter.grad for parameter in parameters])  # type: ignore[attr-defined]
        self._scaler.step(optimizer)
        torch.autograd.graph.increment_version(parameters)  # fused Adam does not tell that it has changed them

    def _parameters(self, phase: PhaseLike) -> list[nn.Parameter]:
        return [parameter for name in phase.trains for parameter in self._model.nets[name].parameters()]

    def _let_learn(self, names: tuple[str, ...]) -> None:
        """Only these networks' parameters take gradients; the others pass them on."""
        for name, network in self._model.nets.items():
            network.requires_grad_(name in names)

    def _gather(self, images: Tensor) -> tuple[Tensor, slice]:
        """What a part of the model's state uses that looks at the images of the whole batch, one after another."""
        return self._team.gather(images[:0] if self._stands_in else images)
