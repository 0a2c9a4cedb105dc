"""One training step of any model: forward pass, then for each phase its losses, backward pass and optimizer."""

from __future__ import annotations

import contextlib
import copy
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from util.engine.compile import OFF, Compilation
from util.engine.cuda_graphs import Recorder
from util.engine.distributed import SHARE, Distributed, Share
from util.engine.ema import AveragedNets
from util.engine.nonfinite import found_inf
from util.engine.precision import autocast, loss_scaler
from util.engine.schedule import Active, Constant, Progress, Schedule, always
from util.errors import UserError
from util.kernels import accelerate

Losses = dict[str, Tensor]
"""Named, weighted scalars."""
OptimizerFactory = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
"""Makes an optimizer of parameter groups: a class of ``torch.optim``, with settings by :func:`functools.partial`."""

_IMAGE_DIMENSIONS = 4  # [N, C, H, W]
_SEED_STRIDE = 1_000_003  # keeps the steps' seeds of different runs apart


@dataclass(frozen=True)
class Phase:
    """One update within a training step.

    Attributes:
        name: in log lines and in the training state.
        trains: networks whose parameters the sum of the losses is minimized over. All others are frozen meanwhile.
        losses: maps what ``Model.forward`` returned to named, already weighted terms.
        optimizer: such as ``partial(torch.optim.AdamW, lr=1e-3, weight_decay=1e-2)``; None: Adam with ``--lr``,
            ``--beta1`` and ``--beta2``.
        lr: initial learning rates of those networks that have another one than the optimizer's.
        schedule: of the learning rate; None: that of ``--lr_policy``.
        active: in which steps the phase is computed: a warm-up, every n-th step, alternation, stages.
        needs_graph: whether gradients go back through the forward pass. False for a discriminator, which gets
            generated images detached: where only such phases are active, the forward pass is made without a graph.
    """

    name: str
    trains: tuple[str, ...]
    losses: Callable[[Any], Losses]
    optimizer: OptimizerFactory | None = None
    lr: Mapping[str, float] = field(default_factory=dict)
    schedule: Schedule | None = None
    active: Active = always
    needs_graph: bool = True


class Trainable(Protocol):
    """What a step needs of a model; see ``models.base_model.Model``."""

    nets: Any
    frozen: dict[str, Any]
    state: dict[str, Any]
    phases: tuple[Phase, ...]

    @property
    def inference_nets(self) -> tuple[str, ...]: ...
    @property
    def stride(self) -> int: ...
    def __call__(self, batch: Any) -> Any: ...
    def infer(self, source: Tensor) -> Tensor: ...
    def visuals(self, outputs: Any) -> dict[str, Tensor]: ...
    def on_epoch(self, progress: Progress) -> None: ...
    def use_gather(self, gather: Any) -> None: ...


@dataclass(frozen=True)
class StepResult:
    """What a training step gives back.

    ``losses`` are the weighted terms by name and ``generator_loss`` is the sum of those that train the networks which
    testing needs (detached scalars, on the device); ``visuals`` are images to look at by label, if wanted.
    """

    losses: Losses
    generator_loss: Tensor
    visuals: dict[str, Tensor]


@dataclass(frozen=True)
class StepSettings:
    """How steps are computed. None of it changes what is minimized.

    Args:
        accumulate: in how many micro-batches, one after another, each batch is computed for one update.
        clip_grad: the largest norm of a phase's gradient; 0 = as it is.
        ema: decay of the averaged networks; 0 = none.
        channels_last: whether networks and images are laid out with channels last.
        compile: which networks torch.compile is for; see :class:`util.engine.compile.Compilation`.
        cuda_graphs: whether whole steps are recorded; see :mod:`util.engine.cuda_graphs`.
    """

    accumulate: int = 1
    clip_grad: float = 0.0
    ema: float = 0.0
    channels_last: bool = False
    compile: str = OFF
    cuda_graphs: bool = False


@dataclass
class MicroBatch:
    """Some images of a batch, their ``share`` in it, and the ``outputs`` of the model's forward pass on them."""

    batch: Mapping[str, Any]
    share: float
    outputs: Any = None
    _random_state: list[Tensor] = field(default_factory=list)

    @contextlib.contextmanager
    def random_numbers(self, device: torch.device) -> Iterator[None]:
        """In this context the random numbers are the same each time; the first time, they are those that come next."""
        on_gpu = [device] if device.type == "cuda" else []
        if not self._random_state:
            self._random_state = [torch.get_rng_state(), *map(torch.cuda.get_rng_state, on_gpu)]
            yield
            return
        with torch.random.fork_rng(devices=on_gpu):
            torch.set_rng_state(self._random_state[0])
            for gpu, state in zip(on_gpu, self._random_state[1:], strict=True):
                torch.cuda.set_rng_state(state, gpu)
            yield


class Stepper:
    """Trains a model, one :meth:`step` at a time. It owns the networks' devices, modes and ``requires_grad`` flags.

    Each step draws its random numbers from a seed made of ``seed`` and the number of images seen, so a resumed run
    draws what the uninterrupted one would have drawn. It is the same in all processes: what is drawn once for a batch,
    such as PatchNCE's locations, is what one process would have drawn.
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
        schedule: Schedule | None = None,
        settings: StepSettings | None = None,
        skip_non_finite: bool = False,
        distributed: Distributed | None = None,
    ) -> None:
        """``learning_rate``, ``betas`` and ``schedule`` are for the Adam of phases without an optimizer of their own.

        ``skip_non_finite`` leaves out an update whose loss or gradient is not finite. ``distributed`` are the
        processes that train together; all of them make their steppers at the same time.
        """
        self.model, self.device, self.precision, self.seed = model, device, precision, seed
        self.settings = settings or StepSettings()
        self._distributed = distributed or Distributed()
        self._skip_non_finite = skip_non_finite
        self._memory_format = torch.channels_last if self.settings.channels_last else torch.contiguous_format
        for network in (*model.nets.values(), *model.frozen.values()):
            network.to(device, memory_format=self._memory_format)
        accelerate(model.nets.values(), device)
        self.averages: AveragedNets | None = None
        if self.settings.ema:
            self.averages = AveragedNets({name: model.nets[name] for name in model.inference_nets}, self.settings.ema)
        adam = partial(torch.optim.Adam, lr=learning_rate, betas=betas, fused=True)
        if self.settings.cuda_graphs:  # what is recorded reads the learning rate from memory
            adam = partial(adam, lr=torch.full((), learning_rate, device=device), capturable=True)
        self.optimizers = {
            phase.name: (phase.optimizer or adam)(parameter_groups(phase, model.nets)) for phase in model.phases
        }
        self._initial_lr = {
            name: [float(group["lr"]) for group in optimizer.param_groups]
            for name, optimizer in self.optimizers.items()
        }
        self.schedules = {phase.name: copy.deepcopy(phase.schedule or schedule or Constant()) for phase in model.phases}
        self._scaler = loss_scaler(precision, device)
        self._compilation = Compilation(self.settings.compile, device)
        self._recorder = Recorder(lambda batch: self._train(batch, self.model.phases))
        if self._distributed.world_size > 1:
            model.use_gather(self._distributed.gather)

    # A step -------------------------------------------------------------------------------------------

    def step(self, batch: Mapping[str, Any], progress: Progress, *, want_visuals: bool = False) -> StepResult:
        """Train on one batch.

        Raises:
            UserError: there is nothing to train, or ``compile="networks"`` does not work here.
        """
        active = tuple(phase for phase in self.model.phases if phase.active(progress))
        if not active:
            raise UserError(f"no phase of the model is active after {progress.images} images; check its 'active'.")
        # A step of discriminators alone tells nothing about the time of whole steps.
        is_typical = any(phase.needs_graph for phase in active)
        before: dict[str, Any] | None = None
        if is_typical and self._compilation.decide(progress.total_steps - progress.step):
            before = copy.deepcopy(self.state_dict())
            self._compilation.apply(self.model.nets)
        torch.manual_seed(self.seed * _SEED_STRIDE + progress.images)
        self._set_learning_rates(progress)
        started = time.perf_counter()
        on_device = to_device(batch, self.device, self._memory_format)
        records = self.settings.cuda_graphs and len(active) == len(self.model.phases)
        try:
            if records and not self._compilation.measuring:
                losses, generator_loss, outputs = self._recorder(on_device)
            else:
                losses, generator_loss, outputs = self._train(on_device, active)
        except Exception as error:  # torch.compile fails in many ways, some only in the backward pass
            if before is None or isinstance(error, UserError):
                raise
            self._compilation.undo(error)
            self.load_state_dict(before)  # and take the step as if nothing had been tried
            return self.step(batch, progress, want_visuals=want_visuals)
        self._scaler.update()
        if self.averages is not None and any(trains_tested(phase, self.model) for phase in active):
            self.averages.update(self.model.nets)
        if is_typical and self._compilation.measuring:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            self._compilation.add_step(time.perf_counter() - started)
        visuals = self.model.visuals(outputs) if want_visuals else {}
        return StepResult(losses, generator_loss, {label: image.detach() for label, image in visuals.items()})

    def _train(self, batch: Mapping[str, Any], active: tuple[Phase, ...]) -> tuple[Losses, Tensor, Any]:
        """Forward pass and updates: (losses by name, the sum of the generators', outputs of the first micro-batch).

        The phases share one forward pass. It is made anew for each phase that needs its graph where the batch comes in
        micro-batches, as only one graph is to be in memory, and where several phases need the graph, as a backward
        pass frees it.

        Losses are those of the whole batch, of which this process may have a part.
        """
        share = batch.get(SHARE) or Share.even(batch_images(batch), self._distributed.world_size)
        self._distributed.images_here = share.images
        # The same number in all processes: image pools are exchanged in each micro-batch.
        micro_batches = split_batch(batch, min(self.settings.accumulate, share.fewest))
        need_graph = [phase for phase in active if phase.needs_graph]
        is_shared = len(micro_batches) == 1 and len(need_graph) <= 1
        losses: Losses = {}
        generator_loss = torch.zeros((), device=self.device)
        for phase in active:
            self.optimizers[phase.name].zero_grad(set_to_none=True)
            terms: Losses = {}
            for micro_batch in micro_batches:
                if is_shared and micro_batch.outputs is None:
                    micro_batch.outputs = self._forward(micro_batch, need_graph)
                elif not is_shared and (micro_batch.outputs is None or phase.needs_graph):
                    with micro_batch.random_numbers(self.device):
                        micro_batch.outputs = self._forward(micro_batch, [phase] if phase.needs_graph else [])
                weight = micro_batch.share * share.weight
                terms = weighted_sum(terms, self._backward(phase, micro_batch.outputs, weight), weight)
            self._distributed.sum_gradients(phase.name, self._parameters(phase))
            terms = self._distributed.sum(terms)
            loss = torch.stack(list(terms.values())).sum()
            self._update(phase, loss)
            losses.update(terms)
            if trains_tested(phase, self.model):
                generator_loss = generator_loss + loss
        return losses, generator_loss, micro_batches[0].outputs

    def _forward(self, micro_batch: MicroBatch, graph_for: Sequence[Phase]) -> Any:
        """What the model's forward pass returns, with a graph of the networks that the phases ``graph_for`` train."""
        set_requires_grad(self.model.nets, [name for phase in graph_for for name in phase.trains])
        with torch.set_grad_enabled(bool(graph_for)), autocast(self.precision, self.device):
            return self.model(micro_batch.batch)

    def _backward(self, phase: Phase, outputs: Any, weight: float) -> Losses:
        """The phase's losses, whose gradients, times ``weight``, are added to those of its networks."""
        set_requires_grad(self.model.nets, phase.trains)
        with autocast(self.precision, self.device):
            losses = phase.losses(outputs)
        if not losses:
            raise UserError(f"every loss of phase {phase.name} has weight 0, which leaves nothing to train.")
        loss = torch.stack(list(losses.values())).sum()
        self._scaler.scale(loss if weight == 1 else loss * weight).backward()
        return losses

    def _update(self, phase: Phase, loss: Tensor) -> None:
        """The optimizer's step, by gradients that are now the whole batch's and every process's the same."""
        optimizer, parameters = self.optimizers[phase.name], self._parameters(phase)
        if self.settings.clip_grad:
            self._scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(parameters, self.settings.clip_grad)
        if self._skip_non_finite and not self._scaler.is_enabled():  # which does so itself
            broken = found_inf(loss, [parameter.grad for parameter in parameters])
            if optimizer.defaults.get("fused"):
                optimizer.found_inf = broken  # type: ignore[attr-defined]
            elif broken.item():  # other optimizers cannot leave a step out by themselves
                return
        self._scaler.step(optimizer)

    # What belongs to it -------------------------------------------------------------------------------

    def on_epoch(self, progress: Progress) -> None:
        """Tell the model that an epoch begins, or continues in a resumed run; its random numbers are the epoch's."""
        torch.manual_seed(self.seed * _SEED_STRIDE - progress.epoch)
        self.model.on_epoch(progress)

    def end_epoch(self, loss: float) -> None:
        """Tell the schedules an epoch's mean of :attr:`StepResult.generator_loss`."""
        for schedule in self.schedules.values():
            schedule.end_epoch(loss)

    def learning_rate(self, progress: Progress) -> float:
        """The rate of the first phase, to be reported."""
        name = self.model.phases[0].name
        return self._initial_lr[name][0] * self.schedules[name].factor(progress)

    @contextlib.contextmanager
    def ema_scope(self) -> Iterator[None]:
        """Within this context the model has the networks that testing shall use: the averaged ones, if there are any.

        For writing network files and for validation, so that both are about the same weights.
        """
        replaced: dict[str, nn.Module] = {}
        if self.averages is not None and self.averages.updates:
            replaced = {name: self.model.nets[name] for name in self.averages.nets}
            self.model.nets.update(self.averages.nets)
        try:
            with self._compilation.paused():
                yield
        finally:
            self.model.nets.update(replaced)

    def state_dict(self) -> dict[str, Any]:
        """Everything that steps change."""
        averages = {} if self.averages is None else {"averages": self.averages.state_dict()}
        return {
            "nets": {name: network.state_dict() for name, network in self.model.nets.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "stepper": {**averages, "scaler": self._scaler.state_dict()},
            "schedules": {name: schedule.state_dict() for name, schedule in self.schedules.items()},
            "model": {name: part.state_dict() for name, part in self.model.state.items()},
        }

    def load_state_dict(
        self, state: Mapping[str, Any], load_net: Callable[[nn.Module, Any], Any] = nn.Module.load_state_dict
    ) -> None:
        """Put it back; what an older run had not starts from its networks. ``load_net`` loads a network."""
        for name, network in self.model.nets.items():
            load_net(network, state["nets"][name])
        self.load_optimizers(state["optimizers"])
        if self.averages is not None and "averages" in state["stepper"]:
            self.averages.load_state_dict(state["stepper"]["averages"])
        if state["stepper"].get("scaler") and self._scaler.is_enabled():
            self._scaler.load_state_dict(state["stepper"]["scaler"])
        for name, schedule in self.schedules.items():
            schedule.load_state_dict(state["schedules"][name])
        for name, part in self.model.state.items():
            if name in state["model"]:
                part.load_state_dict(state["model"][name])

    def load_optimizers(self, states: Mapping[str, Any]) -> None:
        """Put the optimizers' moments back; learning rate and other settings stay those of the options."""
        for name, optimizer in self.optimizers.items():
            own = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
            optimizer.load_state_dict(states[name])
            for group, settings in zip(optimizer.param_groups, own, strict=True):
                group.update(settings)
            for parameter, moments in optimizer.state.items():  # the fused update wants them laid out like the weights
                for key, moment in moments.items():
                    if isinstance(moment, Tensor) and moment.shape == parameter.shape:
                        moments[key] = torch.empty_like(parameter).copy_(moment)

    def _set_learning_rates(self, progress: Progress) -> None:
        for name, optimizer in self.optimizers.items():
            factor = self.schedules[name].factor(progress)
            for group, initial in zip(optimizer.param_groups, self._initial_lr[name], strict=True):
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(initial * factor)
                else:
                    group["lr"] = initial * factor

    def _parameters(self, phase: Phase) -> list[nn.Parameter]:
        return [parameter for name in phase.trains for parameter in self.model.nets[name].parameters()]


def trains_tested(phase: Phase, model: Trainable) -> bool:
    """Whether a phase trains networks that testing needs, and not only those that judge them."""
    return not set(phase.trains).isdisjoint(model.inference_nets)


def set_requires_grad(nets: Mapping[str, nn.Module], names: Iterable[str]) -> None:
    """Only these networks' parameters take gradients; the others pass them on."""
    for name, network in nets.items():
        network.requires_grad_(name in names)


def parameter_groups(phase: Phase, nets: Mapping[str, nn.Module]) -> list[dict[str, Any]]:
    """The phase's parameters: one group, and one more for each network with a learning rate of its own."""
    common = [parameter for name in phase.trains if name not in phase.lr for parameter in nets[name].parameters()]
    groups: list[dict[str, Any]] = [{"params": common}] if common else []
    return groups + [{"params": list(nets[name].parameters()), "lr": rate} for name, rate in phase.lr.items()]


def batch_images(batch: Mapping[str, Any]) -> int:
    """How many images of each stream a batch holds, counted in its first stream."""
    return next(len(value) for value in batch.values() if isinstance(value, Tensor))


def split_batch(batch: Mapping[str, Any], count: int) -> list[MicroBatch]:
    """``batch`` in ``count`` micro-batches of nearly equal size, or as many as it has images."""
    images = batch_images(batch)
    count = min(count, images)
    if count <= 1:
        return [MicroBatch(batch, 1.0)]
    bounds = [images * number // count for number in range(count + 1)]
    return [
        MicroBatch({key: _part(value, images, start, stop) for key, value in batch.items()}, (stop - start) / images)
        for start, stop in itertools.pairwise(bounds)
    ]


def _part(value: Any, images: int, start: int, stop: int) -> Any:
    """Entries ``start`` to ``stop`` of a value with one for each image; other values as they are."""
    belongs = isinstance(value, (Tensor, list, tuple)) and len(value) == images
    return value[start:stop] if belongs else value


def weighted_sum(terms: Mapping[str, Tensor], more: Mapping[str, Tensor], share: float) -> Losses:
    """``terms`` + ``share`` × ``more``, name by name and detached."""
    return {name: terms.get(name, 0.0) + share * term.detach() for name, term in more.items()}


def to_device(batch: Mapping[str, Any], device: torch.device, memory_format: torch.memory_format) -> dict[str, Any]:
    """The batch with its tensors on ``device``, images [N, C, H, W] in ``memory_format``."""
    moved = {key: value.to(device, non_blocking=True) for key, value in batch.items() if isinstance(value, Tensor)}
    images = {key: value for key, value in moved.items() if value.ndim == _IMAGE_DIMENSIONS}
    return {**batch, **moved, **{key: value.contiguous(memory_format=memory_format) for key, value in images.items()}}
