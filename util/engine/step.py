"""One training step of any model: a shared forward pass, then its phases."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from util.engine.compile import OFF, Compilation
from util.engine.cuda_graphs import Recorder
from util.engine.device import to_device
from util.engine.distributed import Distributed
from util.engine.ema import AveragedNets
from util.engine.precision import loss_scaler
from util.engine.trainable import PhaseLike, Trainable
from util.engine.updates import Updates, trains_tested
from util.errors import UserError

_SEED_STRIDE = 1_000_003  # keeps the steps' seeds of different runs apart


@dataclass(frozen=True)
class StepResult:
    """What a training step gives back.

    ``losses`` are the weighted terms by name and ``watched`` is the sum of those that train the networks which
    testing needs (detached scalars, on the device); ``visuals`` are images to look at by label, if wanted.
    """

    losses: dict[str, Tensor]
    watched: Tensor
    visuals: dict[str, Tensor]


@dataclass(frozen=True)
class StepSettings:
    """How steps are computed. None of it changes what is minimised.

    Args:
        accumulate: in how many pieces, one after another, each batch is computed for one update.
        clip_grad: the largest norm of a phase's gradient; 0 = as it is.
        ema: decay of the averaged networks; 0 = none.
        channels_last: whether networks and images are laid out with channels last.
        compile: which networks torch.compile is for; see :class:`util.engine.compile.Compilation`.
        warmup_D: in so many images at the beginning only the discriminators learn.
        cuda_graphs: whether whole steps are recorded; see :mod:`util.engine.cuda_graphs`.
    """

    accumulate: int = 1
    clip_grad: float = 0.0
    ema: float = 0.0
    channels_last: bool = False
    compile: str = OFF
    cuda_graphs: bool = False
    warmup_D: int = 0


class Stepper:
    """Applies everything that is not mathematics to a model, in this order:

    networks to the device and into their memory format → averaged copies → one fused Adam per phase → compiled
    networks (with ``auto``, after a few steps) → a recorded step, if it is to be;
    per step: seed, inputs to the device (uint8 images scaled there), then for each phase: freeze the other networks;
    for each piece of the batch: forward pass and losses under autocast, scaled backward, and with the last piece's the
    mean over the team's processes; unscale, clip, found_inf, update; then the loss scale and the averages.

    Each step draws its random numbers from a seed made of ``seed`` and the number of images seen, so a
    resumed run draws what the uninterrupted one would have drawn. It is the same in all processes: what is drawn once
    for a batch, such as PatchNCE's locations, is what one process would have drawn.
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
        settings: StepSettings | None = None,
        skip_non_finite: bool = False,
        team: Distributed | None = None,
    ) -> None:
        """``skip_non_finite`` leaves out an update whose loss or gradient is not finite, without waiting for a GPU.

        ``team`` are the processes that train together; all of them make their steppers at the same time.
        """
        self.model, self.device, self.precision, self.seed = model, device, precision, seed
        self.settings = settings or StepSettings()
        self._betas = betas
        self._memory_format = torch.channels_last if self.settings.channels_last else torch.contiguous_format
        for network in (*model.nets.values(), *model.frozen.values()):
            network.to(device, memory_format=self._memory_format)  # type: ignore[call-overload]
        self.averages: AveragedNets | None = None
        if self.settings.ema:
            used = {name: model.nets[name] for name in model.inference_nets}
            self.averages = AveragedNets(used, self.settings.ema)
        if self.settings.warmup_D and all(trains_tested(phase, model) for phase in model.phases):
            raise UserError("--warmup_D: this training has no discriminator that could learn alone; leave it out.")
        self.optimizers = {phase.name: self._adam(phase, learning_rate) for phase in model.phases}
        self._scaler = loss_scaler(precision, device)
        self._compilation = Compilation(self.settings.compile, device)
        self._on_device = Updates(
            model,
            self.optimizers,
            self._scaler,
            team or Distributed(),
            device=device,
            precision=precision,
            accumulate=self.settings.accumulate,
            clip_grad=self.settings.clip_grad,
            skip_non_finite=skip_non_finite,
        )
        self._recorded = Recorder(self._on_device)

    def _adam(self, phase: PhaseLike, learning_rate: float) -> torch.optim.Adam:
        """One fused kernel per update: on small networks the elementwise one costs as much as a convolution."""
        recorded = self.settings.cuda_graphs  # what is recorded reads the learning rate from memory
        return torch.optim.Adam(
            [parameter for name in phase.trains for parameter in self.model.nets[name].parameters()],
            lr=torch.tensor(learning_rate, device=self.device) if recorded else learning_rate,
            betas=self._betas,
            fused=True,
            capturable=recorded,
        )

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs beside networks and optimizers: the averages and float16's loss scale."""
        averages = {} if self.averages is None else {"averages": self.averages.state_dict()}
        return {**averages, "scaler": self._scaler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put it back; what an older run had not starts from its networks."""
        if self.averages is not None and "averages" in state:
            self.averages.load_state_dict(state["averages"])
        if state.get("scaler") and self._scaler.is_enabled():
            self._scaler.load_state_dict(state["scaler"])

    def load_optimizers(self, states: Mapping[str, Any]) -> None:
        """Put the optimizers' moments back; learning rate and betas stay those of the options."""
        for name, optimizer in self.optimizers.items():
            own = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
            optimizer.load_state_dict(states[name])
            for group, settings in zip(optimizer.param_groups, own, strict=True):
                group.update(settings)
            for parameter, moments in optimizer.state.items():  # the fused update wants them laid out like the weights
                for key, moment in moments.items():
                    if moment.shape == parameter.shape:
                        moments[key] = torch.empty_like(parameter).copy_(moment)

    def set_learning_rate(self, learning_rate: float) -> None:
        """For all optimizers, from the next step on."""
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(learning_rate)
                else:
                    group["lr"] = learning_rate

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

    def expect(self, steps: int) -> None:
        """How many steps are still to come, by which ``compile="auto"`` decides."""
        self._compilation.steps_left = steps

    def step(self, batch: Mapping[str, Any], images_seen: int, *, want_visuals: bool = False) -> StepResult:
        """Train on one batch, the ``images_seen``-th of the run.

        Raises:
            UserError: there is nothing to train, or ``compile="networks"`` does not work here.
        """
        if images_seen < self.settings.warmup_D:  # nothing to be learnt about the time of whole steps
            return self._step(batch, images_seen, want_visuals)
        if self._compilation.decide():
            return self._first_compiled_step(batch, images_seen, want_visuals)
        started = time.perf_counter()
        result = self._step(batch, images_seen, want_visuals)
        if self._compilation.measuring and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self._compilation.add_step(time.perf_counter() - started)
        return result

    def _first_compiled_step(self, batch: Mapping[str, Any], images_seen: int, want_visuals: bool) -> StepResult:
        """Compile, and see whether it works; if not, take this step as if nothing had been tried."""
        nets, state = self.model.nets, self.model.state
        before = copy.deepcopy(
            (
                {name: network.state_dict() for name, network in nets.items()},
                {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
                {name: part.state_dict() for name, part in state.items()},
                self.state_dict(),
            )
        )
        self._compilation.apply(nets)
        try:
            return self._step(batch, images_seen, want_visuals)
        except UserError:
            raise
        except Exception as error:  # torch.compile fails in many ways, some only in the backward pass
            self._compilation.undo(error)
        for name, network in nets.items():
            network.load_state_dict(before[0][name])
        self.load_optimizers(before[1])
        for name, part in state.items():
            part.load_state_dict(before[2][name])
        self.load_state_dict(before[3])
        return self._step(batch, images_seen, want_visuals)

    def _step(self, batch: Mapping[str, Any], images_seen: int, want_visuals: bool) -> StepResult:
        torch.manual_seed(self.seed * _SEED_STRIDE + images_seen)
        warm_up = images_seen < self.settings.warmup_D
        recording = self.settings.cuda_graphs and not self._compilation.measuring
        on_device = to_device(batch, self.device, self._memory_format)
        if recording and not warm_up:
            losses, watched, passed = self._recorded(on_device)
        else:
            losses, watched, passed = self._on_device(on_device, warm_up=warm_up)
        self._scaler.update()
        if self.averages is not None and not warm_up:
            self.averages.update(self.model.nets)
        visuals = self.model.visuals(passed) if want_visuals else {}
        return StepResult(losses, watched, {label: image.detach() for label, image in visuals.items()})
