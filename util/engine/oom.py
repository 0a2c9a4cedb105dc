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
    """Something did not fit in the memory."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whichever device."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return any(words in str(error).lower() for words in _OUT_OF_MEMORY)


@contextmanager
def explain_oom(what: str, device: torch.device, advice: str) -> Iterator[None]:
    """Around work that needs memory: where it runs out, say ``what`` did not fit, and the ``advice``.

    Raises:
        OutOfMemory: instead of what torch raises.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(f"out of memory: {what} in the memory {_place(device)}; {advice}.") from error


def _place(device: torch.device) -> str:
    memory = whole_memory(device)
    size = "" if memory is None else f" ({memory / GIB:.0f} GiB)"
    return f"of {'the GPU' if device.type == 'cuda' else 'the computer'}{size}"
