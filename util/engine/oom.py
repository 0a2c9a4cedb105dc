"""What goes wrong while a training runs and is no bug of ours, in one sentence each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from util.errors import UserError
from util.memory import GIB, whole_memory

_OUT_OF_MEMORY = (  # how the messages of torch, oneDNN, cuDNN and Metal say it, where the error has no type of its own
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "alloc_failed",
    "could not create a memory",
)


class OutOfMemory(UserError):
    """A step did not fit into the memory."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whichever device."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return any(words in str(error).lower() for words in _OUT_OF_MEMORY)


@contextmanager
def explain_oom(images: str, device: torch.device) -> Iterator[None]:
    """Around a step on ``images``, in words: memory that runs out becomes a sentence that says what to reduce.

    Raises:
        OutOfMemory: instead of what torch raises.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(_out_of_memory(images, device)) from error


@contextmanager
def explain_oom_building(device: torch.device) -> Iterator[None]:
    """Around making the networks; see :func:`explain_oom`.

    Raises:
        OutOfMemory: instead of what torch raises.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"out of memory: the networks do not fit in the memory {_place(device)}; lower --ngf, --ndf or --netF_nc."
        ) from error


def _out_of_memory(images: str, device: torch.device) -> str:
    return (
        f"out of memory: a step with {images} does not fit in the memory {_place(device)}; lower --batch_size, "
        "--crop_size or --ngf, or try --precision bf16, and continue from the last save with --continue_train."
    )


def _place(device: torch.device) -> str:
    memory = whole_memory(device)
    size = "" if memory is None else f" ({memory / GIB:.0f} GiB)"
    return f"of {'the GPU' if device.type == 'cuda' else 'the computer'}{size}"
