"""Total and free RAM or GPU memory, if the OS reports it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import torch

GIB = 1024**3
_CONTROL_GROUP = Path("/sys/fs/cgroup")


def whole_memory(device: torch.device) -> int | None:
    """Total bytes of the device; None if the system does not report them.

    On a CPU the memory of the machine with what it may swap, or of this process's control group.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    sizes = [size for size in (_of_the_machine(), _of_the_group()) if size is not None]
    return min(sizes, default=None)


def free_memory() -> int | None:
    """Bytes of RAM that this process's control group may still take; None if the system does not report it."""
    free: list[int] = []
    with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
        free.append(_meminfo()["MemAvailable"])
    with contextlib.suppress(OSError, ValueError):
        current = int((_CONTROL_GROUP / "memory.current").read_text(encoding="ascii"))
        free.append(int((_CONTROL_GROUP / "memory.max").read_text(encoding="ascii")) - current)
    return max(0, min(free)) if free else None


def _meminfo() -> dict[str, int]:
    """Linux's table, in bytes."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines}


def _of_the_machine() -> int | None:
    with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
        total = _meminfo()
        return total["MemTotal"] + total["SwapTotal"]
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def _of_the_group() -> int | None:
    with contextlib.suppress(OSError, ValueError):  # no such group, or "max": no limit
        return int((_CONTROL_GROUP / "memory.max").read_text(encoding="ascii"))
    return None
