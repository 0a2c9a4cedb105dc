"""Telling processes and machines apart, to see whether one that left something behind still lives."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

_WINDOWS_MAY_LOOK = 0x1000  # PROCESS_QUERY_LIMITED_INFORMATION
_WINDOWS_STILL_ACTIVE = 259
_START_FIELD = 19  # of /proc/<pid>/stat after the name in parentheses, which may hold blanks


def machine_of_this_process() -> str:
    """A name that is the same for processes that can see each other: host, boot and container where that is known."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))  # noqa: PTH115 - no path, but a name like pid:[4026531836]
    return " ".join(parts)


def start_of(pid: int) -> str:
    """When a process began, in the system's own unit: tells it from a later one of the same number; else empty."""
    with contextlib.suppress(OSError, IndexError):
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return status.rpartition(")")[2].split()[_START_FIELD]
    return ""


def is_alive(pid: int) -> bool:
    """Whether there is a process of this number on this machine; one that has ended but was not waited for is none."""
    if os.name == "nt":
        return _is_alive_on_windows(pid)
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    with contextlib.suppress(OSError, IndexError):
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return status.rpartition(")")[2].split()[0] not in ("Z", "X")
    return True


def _is_alive_on_windows(pid: int) -> bool:
    import ctypes

    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined]
    handle = kernel.OpenProcess(_WINDOWS_MAY_LOOK, False, pid)
    if not handle:
        return False
    code = ctypes.c_ulong()
    known = kernel.GetExitCodeProcess(handle, ctypes.byref(code))
    kernel.CloseHandle(handle)
    return not known or code.value == _WINDOWS_STILL_ACTIVE
