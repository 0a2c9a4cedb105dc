"""Whether what is asked for can fit into the memory at all, told before anything is allocated.

What is computed is the least that is needed, so that nothing is refused that might work; what is above it and still too
much is told when memory runs out (``util.engine.oom``).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from models.base_model import discriminator_from, generator_from
from options.schema import Options
from util.errors import UserError
from util.memory import GIB, whole_memory

_BYTES = 4  # of a number in fp32
_HALF = 2  # and in the shortest format, which activations may have
_COPIES_IN_TRAINING = 4  # of a weight: itself, its gradient, and Adam's two moments
_KEPT_PER_LAYER = 2  # the first layer's output, and what normalisation makes of it
_DECODED = 4  # bytes of a pixel while an image is resized
_HEADS = ("netF_nc", "inter_nc")  # widths of projection heads, each with a layer of width × width
_ENDLESS = 1 << 100


def check_room(opt: Options, device: torch.device, images_per_epoch: int = 1, *, processes: int = 1) -> None:
    """Compare the least that training or testing with ``opt`` needs with what ``device`` has in all.

    ``images_per_epoch`` bounds a batch, which so many ``processes`` share. Nothing is checked where the system does not
    tell how much there is.

    Raises:
        UserError: it cannot fit; the flag that takes most is named.
    """
    memory = whole_memory(device)
    if memory is None:
        return
    training = "n_epochs" in vars(opt)
    needs = _weights(opt, training)
    if training:
        needs += _images(opt, images_per_epoch, processes)
    for flags, size in needs:
        if size > memory:
            amount = "more memory than can be counted" if size >= _ENDLESS else f"{size / GIB:,.0f} GiB of memory"
            where = "the GPU" if device.type == "cuda" else "this computer"
            raise UserError(f"{flags}: takes at least {amount}, but {where} has {memory / GIB:.0f} GiB; choose less.")


def _weights(opt: Options, training: bool) -> list[tuple[str, int]]:
    """Bytes of a generator, a discriminator and heads, and the flags they come from."""
    flags = f"--netG {opt.netG} --ngf {opt.ngf} --input_nc {opt.input_nc} --output_nc {opt.output_nc}"
    found = [(flags, _size_of(lambda: generator_from(opt, opt.input_nc, opt.output_nc)))]
    if training:
        found.append((f"--netD {opt.netD} --ndf {opt.ndf}", _size_of(lambda: discriminator_from(opt, opt.output_nc))))
        widths = [(name, getattr(opt, name)) for name in _HEADS if hasattr(opt, name)]
        found += [(f"--{name} {width}", _BYTES * width**2) for name, width in widths]
    copies = _COPIES_IN_TRAINING if training else 1
    return [(flags, copies * size) for flags, size in found]


def _size_of(make: Callable[[], nn.Module]) -> int:
    """Bytes of a network's weights, without making them."""
    try:
        with torch.device("meta"):
            return _BYTES * sum(weight.numel() for weight in make().parameters())
    except (RuntimeError, OverflowError, TypeError):  # torch cannot even count them
        return _ENDLESS


def _images(opt: Options, images_per_epoch: int, processes: int) -> list[tuple[str, int]]:
    """Bytes of a batch of both domains with what the generator's first layer keeps of it, and of one image resized."""
    found = []
    if "crop" in opt.preprocess:
        batch = -(-min(opt.batch_size, images_per_epoch) // processes)
        at_once = -(-batch // opt.accumulate)
        pixels = opt.crop_size**2
        size = 2 * _BYTES * opt.input_nc * batch * pixels + _KEPT_PER_LAYER * _HALF * opt.ngf * at_once * pixels
        found.append((f"--crop_size {opt.crop_size} --batch_size {opt.batch_size} --ngf {opt.ngf}", size))
    if opt.preprocess == "resize_and_crop":
        found.append((f"--load_size {opt.load_size}", _DECODED * opt.load_size**2))
    return found
