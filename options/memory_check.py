"""Refuses sizes that no memory holds, before anything is allocated.

What is counted is the least that is needed, so that nothing is refused that might work. What needs more
is explained when memory runs out (``util.engine.oom``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from options.flags import TRAIN, options_of
from options.schema import Options
from util.errors import UserError
from util.memory import GIB, whole_memory

_FLOAT = 4  # bytes of a number in fp32
_DECODED = 4  # bytes of a pixel while an image is resized


def check_images(opt: Options, device: torch.device, images_per_epoch: int, *, processes: int = 1) -> None:
    """Raise :class:`UserError` if the source images of one step, or one resized image, exceed the memory of ``device``.

    ``images_per_epoch`` bounds a batch, which is shared by ``processes``.
    """
    batch = -(-min(opt.batch_size, images_per_epoch) // processes)
    if "crop" in opt.preprocess:
        flags = f"--crop_size {opt.crop_size} --batch_size {opt.batch_size}"
        _compare(flags, _FLOAT * opt.input_nc * batch * opt.crop_size**2, device)
    if opt.preprocess == "resize_and_crop":
        _compare(f"--load_size {opt.load_size}", _DECODED * opt.load_size**2, device)


@contextmanager
def limited_weights(opt: Options, device: torch.device) -> Iterator[None]:
    """While a model is built: raise :class:`UserError` before its weights exceed the whole memory of ``device``."""
    options = (*TRAIN.options, *options_of("model", opt.model))
    sizes = [option.name for option in options if option.is_architecture and type(option.default) is int]
    flags = " ".join(f"--{name} {getattr(opt, name)}" for name in sizes if name in opt.given)
    with _Counting(lambda total: _compare(flags or "--model " + opt.model, total, device)):
        yield


class _Counting(TorchFunctionMode):
    """Calls ``check`` with the bytes of all tensors made by ``torch.empty``, as layers make weights, before each."""

    def __init__(self, check: Callable[[float], None]) -> None:
        super().__init__()
        self._check, self._total = check, 0.0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.empty and torch.device(kwargs.get("device") or "cpu").type != "meta":
            try:
                self._total += torch.empty(*args, **{**kwargs, "device": "meta"}).nbytes
            except (RuntimeError, OverflowError, TypeError):  # torch cannot even count them
                self._total = math.inf
            self._check(self._total)
        return func(*args, **kwargs)


def _compare(flags: str, size: float, device: torch.device) -> None:
    memory = whole_memory(device)
    if memory is not None and size > memory:
        amount = "more memory than can be counted" if math.isinf(size) else f"at least {size / GIB:,.0f} GiB of memory"
        where = "the GPU" if device.type == "cuda" else "this computer"
        raise UserError(f"{flags}: takes {amount}, but {where} has {memory / GIB:.0f} GiB; choose less.")
