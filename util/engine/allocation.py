"""How the C library hands out memory to a training on a CPU."""

from __future__ import annotations

import ctypes
import os
import sys

_LARGE_PAGES = "THP_MEM_ALLOC_ENABLE"  # PyTorch's own variable, read when it first asks for memory of some size
_TRIM_THRESHOLD, _MAPPED_BLOCKS = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of glibc's mallopt
_NEVER, _NONE = -1, 0


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for its next tensors, and use large pages for them.

    glibc maps every large tensor anew and gives it back at once, so that the system zeroes each of its pages each
    time: a fifth of a step in fp32. To be called before the first tensor is made, or there will be no large pages.
    Elsewhere than with glibc nothing is done.
    """
    if not sys.platform.startswith("linux"):
        return
    os.environ.setdefault(_LARGE_PAGES, "1")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        mallopt(_MAPPED_BLOCKS, _NONE)
        mallopt(_TRIM_THRESHOLD, _NEVER)
