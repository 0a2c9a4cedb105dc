"""A worker of a benchmark with our own code: a training, a translation, or a data loader.

python scripts/_benchmark/worker.py train|naive|infer|load FLAGS_OF_TRAIN...
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # run as a file: Python put scripts/ there, not the checkout
    sys.path.insert(0, str(ROOT))

from data.creation import create_training_loader
from models import Model, create_model
from options import Options, parse_train
from scripts._benchmark.naive import NaiveCCLGAN, NaiveStep
from scripts._benchmark.original import Commands, own_output, peak_bytes, random_batch, reset_peak, serve, timed
from scripts.count_flops import attach_encoder, without_encoder
from train import build_training_state
from util.engine.device import choose_device, keep_freed_memory
from util.engine.distributed import Distributed
from util.engine.precision import autocast, set_precision
from util.engine.schedule import Progress
from util.errors import entry_point
from util.kernels import accelerate

_CEILING = {"cpu": (2, 64), "cuda": (32, 64)}  # images and side of the convolution that the ceiling is measured with
_CEILING_CHANNELS = 256
_CEILING_CALLS = {"cpu": 3, "cuda": 20}
_COPIED_BYTES = {"cpu": 1 << 28, "cuda": 1 << 30}
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Ceiling:
    """What this machine can do at most: a 3×3 convolution of 256 channels, and copying memory."""

    def __init__(self, precision: str, device: torch.device) -> None:
        self.device = device
        count, side = _CEILING[device.type]
        shape = (count, _CEILING_CHANNELS, side, side)
        self._flops = 2 * count * side**2 * _CEILING_CHANNELS**2 * 9
        dtype = _DTYPES.get(precision, torch.float32)
        self._pairs = []
        for layout in (torch.contiguous_format, torch.channels_last):
            image = torch.ones(shape, dtype=dtype, device=device)
            kernel = torch.ones((_CEILING_CHANNELS, _CEILING_CHANNELS, 3, 3), dtype=dtype, device=device)
            self._pairs.append((image.contiguous(memory_format=layout), kernel.contiguous(memory_format=layout)))

    @torch.inference_mode()
    def measure(self) -> dict[str, float]:
        """FLOP/s of the faster memory format, and bytes/s read and written."""
        calls = _CEILING_CALLS[self.device.type]
        seconds = []
        for image, kernel in self._pairs:
            convolve = partial(F.conv2d, image, kernel, padding=1)
            convolve()
            seconds += [timed(convolve, self.device) for _ in range(calls)]
        size = _COPIED_BYTES[self.device.type]
        source = torch.ones(size, dtype=torch.uint8, device=self.device)
        target = torch.ones_like(source)
        copying = min(timed(lambda: target.copy_(source), self.device) for _ in range(calls))
        return {"flops": self._flops / min(seconds), "bytes": 2 * size / copying}


class BytesMoved(TorchDispatchMode):
    """Counts the bytes of the tensors that operations read and write, each as often as it does.

    What an operation copies within itself is not seen, nor that small tensors stay in the processor's cache: this is
    the traffic of a step whose operations are not fused.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        makes_view = any(out.alias_info is not None and not out.alias_info.is_write for out in func._schema.returns)
        if not makes_view and "empty" not in func.__name__:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
            self.total += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result


class Training:
    """One model under the engine, as ``train.py`` builds it."""

    def __init__(self, opt: Options) -> None:
        self._device = choose_device(opt.gpu_ids)
        if self._device.type == "cpu":
            keep_freed_memory()
        torch.manual_seed(opt.seed)
        self._model = build(opt)
        self._batch = random_batch((opt.batch_size, opt.input_nc, opt.crop_size, opt.crop_size))
        self._stepper = build_training_state(opt, self._model, Distributed(device=self._device)).stepper
        self._ceiling = Ceiling(self._stepper.precision, self._device)
        self._steps = 0

    def step(self) -> None:
        """One training step."""
        self._steps += 1
        self._stepper.step(self._batch, Progress(images=self._steps, step=self._steps, total_steps=sys.maxsize))

    def cost(self) -> dict[str, int]:
        """FLOPs and bytes that one step moves, of its passes without the engine, in the precision chosen."""
        batch = {side: self._batch[side].to(self._device) for side in "AB"}
        with FlopCounterMode(display=False) as counter, BytesMoved() as moved:
            with autocast(self._stepper.precision, self._device):
                passed = self._model.forward(batch)  # type: ignore[arg-type]
            for phase in self._model.phases:
                for name, network in self._model.nets.items():
                    network.requires_grad_(name in phase.trains)
                with autocast(self._stepper.precision, self._device):
                    losses = phase.losses(passed)
                torch.stack(list(losses.values())).sum().backward()
        for network in self._model.nets.values():
            network.requires_grad_(True).zero_grad(set_to_none=True)
        reset_peak(self._device)
        return {"flops": counter.get_total_flops(), "bytes": moved.total}

    def commands(self) -> Commands:
        """What the driver may ask for."""
        return {
            "step": lambda repeat=1: timed(self.step, self._device, repeat),
            "peak": lambda: peak_bytes(self._device),
            "cost": self.cost,
            "ceiling": self._ceiling.measure,
            "precision": lambda: self._stepper.precision,
        }


def build(opt: Options) -> Model:
    """The model that ``opt`` describes; a pretrained encoder has random weights, which take the same time."""
    model = create_model(without_encoder(opt), training=True)
    attach_encoder(model, opt, "cpu")
    return model


class NaiveTraining:
    """The naive implementation of CCLGAN."""

    def __init__(self, opt: Options) -> None:
        self._device = choose_device(opt.gpu_ids)
        torch.manual_seed(opt.seed)
        model = NaiveCCLGAN(without_encoder(opt), training=True)
        attach_encoder(model, opt, "cpu")
        for network in (*model.nets.values(), *model.frozen.values()):
            network.to(self._device)
        self._naive = NaiveStep(model, learning_rate=opt.lr, betas=(opt.beta1, opt.beta2))
        batch = random_batch((opt.batch_size, opt.input_nc, opt.crop_size, opt.crop_size))
        self._batch = {side: batch[side].to(self._device) for side in "AB"}

    def step(self) -> None:
        """One training step."""
        self._naive.step(self._batch)

    def commands(self) -> Commands:
        """What the driver may ask for."""
        return {
            "step": lambda repeat=1: timed(self.step, self._device, repeat),
            "peak": lambda: peak_bytes(self._device),
        }


class Translation:
    """The trained direction of a model on images of any size."""

    def __init__(self, opt: Options) -> None:
        self._device = choose_device(opt.gpu_ids)
        self._precision = set_precision(opt.precision, self._device)
        self._model = create_model(opt, training=False)
        self._channels = opt.input_nc
        for network in self._model.nets.values():
            network.to(self._device).eval()
        accelerate(self._model.nets.values(), self._device)

    @torch.inference_mode()
    def translate(self, width: int, height: int, repeat: int = 1) -> float:
        """Seconds for one image."""
        image = torch.zeros(1, self._channels, height, width, device=self._device)
        with autocast(self._precision, self._device):
            return timed(lambda: self._model.infer(image), self._device, repeat)

    def commands(self) -> Commands:
        """What the driver may ask for."""
        return {
            "translate": self.translate,
            "peak": lambda: peak_bytes(self._device),
            "reset": lambda: reset_peak(self._device),
        }


class Loading:
    """The training images of a folder, epoch by epoch."""

    def __init__(self, opt: Options) -> None:
        self._loader = create_training_loader(opt, device_type=choose_device(opt.gpu_ids).type)

    def epoch(self, number: int) -> dict[str, float]:
        """Seconds until the epoch's last batch was there, and its images, of both sides."""
        count = 0

        def read() -> None:
            nonlocal count
            for batch in self._loader.epoch(number):
                count += sum(len(batch[side]) for side in "AB" if side in batch)

        seconds = timed(read, torch.device("cpu"))
        return {"seconds": seconds, "images": count}

    def commands(self) -> Commands:
        """What the driver may ask for."""
        return {"epoch": self.epoch}


ROLES: dict[str, Callable[[Options], Training | NaiveTraining | Translation | Loading]] = {
    "train": Training,
    "naive": NaiveTraining,
    "infer": Translation,
    "load": Loading,
}


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Take the role that the command line names."""
    answers = own_output()
    logging.basicConfig(level=logging.ERROR)
    role, *flags = sys.argv[1:] if argv is None else argv
    serve(ROLES[role](parse_train(flags)).commands(), answers)


if __name__ == "__main__":
    sys.exit(main())
