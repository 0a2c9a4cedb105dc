"""Training steps on a GPU that is not there: the engine's own step on fake CUDA tensors, which have shapes, types and a
device, but no content.

What the autograd engine would do on the device is left out, as it asks the driver: gradients are there without a
backward pass. Backward passes are for :func:`backward`, on fake CPU tensors, through the same layers as on a GPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models import Model, create_model
from options import parse_train
from tests.conftest import SMALL_NETWORKS, at
from train import delay_generators
from util.engine.precision import autocast
from util.engine.step import Phase, Stepper, StepSettings, set_requires_grad

GPU = torch.device("cuda", 0)
SIDE = 32  # that most methods are built for
LARGEST = 128  # of the images; fake ones cost nothing
_SMALL = (*SMALL_NETWORKS, "--load_size", str(SIDE), "--crop_size", str(SIDE), "--display_id", "0")
_OWN = {
    "cclgan": ("--num_patches", "16", "--inter_patches", "16", "--semantic_size", "32"),
    "csud": ("--lambda_VGG", "0"),
    "derain_cyclegan": ("--load_size", "64", "--crop_size", "64", "--lambda_VGG", "0"),
    "syn2real": ("--lambda_VGG", "0"),
    "udgnet": ("--load_size", "128", "--crop_size", "128"),
}
"""What a method needs: larger images, or to do without weights that would have to be fetched."""

_READS_CONTENT = {
    "_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2", "unique_consecutive",
    "repeat_interleave",
}  # fmt: skip


class HostWaits(TorchDispatchMode):
    """Notes where the host waits for the device, and other mistakes that no CPU minds.

    ``waits``: numbers read off the device, operations whose result's shape depends on content, and copies from or to
    memory that is not pinned. ``wrong_generators``: random numbers for the device drawn from a generator of the CPU.
    What reads a number gets 1, so that the step goes on.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.wrong_generators: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func.__name__.split(".")[0]
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        on_gpu = [tensor for tensor in tensors if tensor.is_cuda]
        if name in _READS_CONTENT and on_gpu:
            self.waits.append(name)
        if name == "_local_scalar_dense":
            return {torch.bool: True}.get(tensors[0].dtype, 1.0 if tensors[0].is_floating_point() else 1)
        if name == "_fused_adam_" and func._overloadname == "tensor_lr":
            return None  # in place, and without a form for fake tensors
        result = func(*args, **kwargs)
        device = result.device if isinstance(result, Tensor) else None
        if name in ("_to_copy", "copy_") and not (kwargs.get("non_blocking") or args[2:] == (True,)):
            source = tensors[-1].device
            if device != source:
                self.waits.append(f"{name} {source} to {device}")
        generator = kwargs.get("generator")
        if generator is not None and device is not None and generator.device.type != device.type:
            self.wrong_generators.append(name)
        return result


@contextlib.contextmanager
def fake_gpu(*, capturing: bool = False) -> Iterator[HostWaits]:
    """In this context ``cuda`` is a device of fake tensors, and every :class:`Stepper` trains there.

    ``capturing``: optimizers hear that a CUDA graph is being recorded.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(FakeTensorMode())  # sees that there is no GPU, and makes do
        for name, replacement in {
            "torch.cuda.is_available": lambda: True,
            "torch.cuda.amp.common.amp_definitely_not_available": lambda: False,
            "torch.cuda.is_bf16_supported": lambda *_: True,
            "torch.cuda.is_current_stream_capturing": lambda: capturing,
            "torch.cuda.get_rng_state": lambda *_: torch.empty(16, dtype=torch.uint8, device="cpu"),
            "torch.cuda.set_rng_state": lambda *_: None,
            "torch.random.fork_rng": lambda **_: contextlib.nullcontext(),
            "torch.nn.Module.to": place,
            "torch.Tensor.backward": lambda loss: None,
            "torch.autograd.grad": lambda output, inputs, **_: (torch.zeros_like(inputs, requires_grad=True),),
            "util.engine.cuda_graphs.Recorder.__call__": lambda recorder, batch: recorder._function(batch),
            "util.engine.step.Stepper._backward": _backward,
        }.items():
            stack.enter_context(mock.patch(name, replacement))
        # What the engine copies stays in this mode.
        stack.enter_context(mock.patch.object(FakeTensorMode, "__deepcopy__", lambda mode, _: mode, create=True))
        yield stack.enter_context(HostWaits())


_real_backward = Stepper._backward


def _backward(stepper: Stepper, phase: Any, outputs: Any, weight: float) -> Any:
    """The losses, and gradients for what the phase trains."""
    losses = _real_backward(stepper, phase, outputs, weight)
    for parameter in stepper._parameters(phase):
        assert parameter.requires_grad
        parameter.grad = torch.zeros_like(parameter)
    return losses


def place(module: nn.Module, device: Any, **_: Any) -> nn.Module:
    """In place of ``Module.to``, which cannot swap tensors for fake ones."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                fake = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
                part._parameters[name] = nn.Parameter(fake, requires_grad=parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device=device)
    return module


def build(model: str, *flags: str) -> Model:
    """A small model on the CPU."""
    opt = parse_train(["--dataroot", ".", "--model", model, *_SMALL, *_OWN.get(model, ()), *flags])
    built = create_model(opt, training=True)
    built.phases = delay_generators(built, warmup_D=opt.warmup_D, n_critic=opt.n_critic)
    return built


def make_stepper(model: Model, precision: str, **settings: Any) -> Stepper:
    """Of a fake GPU."""
    return Stepper(
        model,
        device=GPU,
        precision=precision,
        learning_rate=2e-4,
        betas=(0.5, 0.999),
        seed=1,
        settings=StepSettings(**settings),
    )


def make_batch(model: Model, images: int = 2) -> dict[str, Any]:
    """As the loader gives it. Made in the context of a fake mode it is fake."""
    names = [stream.name for stream in model.streams]
    paths = {f"{name}_paths": [f"{number}.png" for number in range(images)] for name in names}
    return {**paths, **{name: torch.zeros(images, 3, LARGEST, LARGEST) for name in names}}


def first_phases(model: Model) -> list[Phase]:
    """That are active in the first step."""
    return [phase for phase in model.phases if phase.active(at(0))]


def backward(model: Model, precision: str) -> dict[str, Tensor]:
    """All passes of a step on fake CPU tensors, in plain layers: gradients by the names of their parameters."""
    cpu = torch.device("cpu")
    gradients: dict[str, Tensor] = {}
    with FakeTensorMode():
        for network in (*model.nets.values(), *model.frozen.values()):
            place(network, cpu)
        set_requires_grad(
            model.nets, [name for phase in first_phases(model) if phase.needs_graph for name in phase.trains]
        )
        with autocast(precision, cpu):
            outputs = model(make_batch(model))
        for phase in first_phases(model):
            set_requires_grad(model.nets, phase.trains)
            with autocast(precision, cpu):
                losses = phase.losses(outputs)
            torch.stack(list(losses.values())).sum().backward()
            for name in phase.trains:
                for key, parameter in model.nets[name].named_parameters():
                    if parameter.grad is not None:
                        gradients[f"{name}.{key}"] = parameter.grad
                        parameter.grad = None
    return gradients
