"""Python, the packages and whether they fit each other and the machine. Standard library only until a check runs."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from scripts._bootstrap import python_of, wrong_python
from scripts._doctor.report import OK, PROBLEM, WARNING, Finding
from util.text import first_names

PARSERS = ("packaging.requirements", "pip._vendor.packaging.requirements")
INSTALL = "install requirements.txt again (README, 'Install into your own environment')"
NAMED = 4  # as many packages or files are named in a line
CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def check_python(root: Path, version: tuple[int, int] = sys.version_info[:2]) -> Iterator[Finding]:
    """The version, and whether it is the Python of the checkout's own environment if there is one."""
    shown = f"{platform.python_version()}, {platform.system()} {platform.machine()}, {sys.executable}"
    if wrong := wrong_python(version):
        yield Finding(PROBLEM, "Python", shown, wrong)
        return
    own = root / ".venv"
    python = python_of(own)
    if python.exists() and Path(sys.prefix).resolve() != own.resolve():
        yield Finding(
            WARNING, "Python", f"{shown}; this checkout has an environment of its own", f"use it: {python} train.py …"
        )
        return
    yield Finding(OK, "Python", shown)


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_packages(requirements: Path, installed: Callable[[str], str | None] = _installed) -> Iterator[Finding]:
    """The versions installed against those of the requirement file, whose markers choose by Python's version."""
    wanted = _requirements(requirements)
    versions = {requirement.name: installed(requirement.name) for requirement in wanted}
    missing = [str(requirement) for requirement in wanted if versions[requirement.name] is None]
    other = [
        f"{requirement.name} {versions[requirement.name]} (tested: {str(requirement.specifier).removeprefix('==')})"
        for requirement in wanted
        if versions[requirement.name] and not requirement.specifier.contains(versions[requirement.name], True)
    ]
    if missing:
        yield Finding(PROBLEM, "packages", f"not installed: {first_names(missing, NAMED, quote='')}", INSTALL)
    if other:
        found = f"of other versions than tested: {first_names(other, NAMED, quote='')}"
        yield Finding(WARNING, "packages", found, f"if they fail, {INSTALL}")
    if not missing and not other:
        yield Finding(OK, "packages", f"all {len(wanted)} of {requirements.name} in the versions that it names")


def _requirements(path: Path) -> list[Any]:
    """The lines of a requirement file that hold for this Python, as ``packaging`` reads them, without their markers."""
    for module in PARSERS:
        try:
            parse = importlib.import_module(module).Requirement
            break
        except ImportError:
            continue
    else:
        raise ImportError("this Python has neither packaging nor pip")
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in path.read_text(encoding="utf-8").splitlines())
    read = [parse(line) for line in lines if line and not line.startswith("-")]
    wanted = [requirement for requirement in read if requirement.marker is None or requirement.marker.evaluate()]
    for requirement in wanted:
        requirement.marker = None
    return wanted


def check_torch() -> Iterator[Finding]:
    """PyTorch by itself; that it can be imported was seen to before."""
    import torch

    cuda = torch.version.cuda
    yield Finding(OK, "PyTorch", f"{torch.__version__}, made for {f'CUDA {cuda}' if cuda else 'the CPU alone'}")


def check_torchvision() -> Iterator[Finding]:
    """Whether torchvision is made for this PyTorch: by its own word, and by one of its compiled functions."""
    import torch
    import torchvision
    from torchvision.ops import nms

    fits = f"{torchvision.__version__} with PyTorch {torch.__version__}"
    wanted = [text for text in importlib.metadata.requires("torchvision") or () if re.match(r"torch\b", text)]
    specifier = re.sub(r"^torch\s*|;.*", "", wanted[0]) if wanted else ""
    if specifier.startswith("==") and torch.__version__.partition("+")[0] != specifier[2:].partition("+")[0]:
        yield Finding(PROBLEM, "torchvision", f"{fits}, but it is made for torch{specifier}", INSTALL)
        return
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
    if nms(boxes, torch.tensor([0.9, 0.8]), 0.5).tolist() != [0]:
        yield Finding(PROBLEM, "torchvision", f"{fits}; its compiled functions compute wrongly", INSTALL)
        return
    yield Finding(OK, "torchvision", fits)


def check_processor() -> Iterator[Finding]:
    """Threads against the processors that this process may use."""
    import torch

    allowed = usable_processors()
    threads = torch.get_num_threads()
    facts = f"{threads} threads of PyTorch, {allowed:g} of {os.cpu_count()} processors for this process"
    yield judge_threads(threads, allowed, facts)


def judge_threads(threads: int, allowed: float, facts: str) -> Finding:
    """More threads than processors slow each other down."""
    wanted = max(1, int(allowed))
    if threads > max(wanted, allowed):
        return Finding(WARNING, "processor", f"{facts}, which slows it down", f"set OMP_NUM_THREADS={wanted}")
    return Finding(OK, "processor", facts)


def usable_processors(limit_file: Path = CPU_LIMIT) -> float:
    """Processors that this process may use, of a container's share if that is smaller."""
    count = float(len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else float(os.cpu_count() or 1)
    try:
        quota, period = limit_file.read_text(encoding="ascii").split()
        return min(count, int(quota) / int(period))
    except (OSError, ValueError):  # no container, or one without a limit, which says "max"
        return count


def shared_memory_needed(*, workers: int, batch_size: int, crop_size: int) -> int:
    """Bytes of batches that wait in shared memory: two for each worker, of two domains, float32 in three channels."""
    return workers * 2 * batch_size * 2 * 3 * crop_size**2 * 4


def check_shared_memory(
    needed: Callable[[], int],
    folder: Path = Path("/dev/shm"),
    usage: Callable[[Path], Any] = shutil.disk_usage,
) -> Iterator[Finding]:
    """Room for the batches that the reading processes hand over; containers often have 64 MB."""
    if not folder.is_dir():
        yield Finding(OK, "shared memory", "is not limited by a folder on this system")
        return
    free, wanted = usage(folder).free, needed()
    facts = f"{free / 1e6:,.0f} MB free in {folder}, where waiting batches take {wanted / 1e6:,.0f} MB"
    todo = "give more (docker run --shm-size 2g), or fewer readers: --num_threads 1, or 0 for none"
    if free < wanted:
        yield Finding(PROBLEM, "shared memory", facts, todo)
    elif free < 2 * wanted:
        yield Finding(WARNING, "shared memory", facts, todo)
    else:
        yield Finding(OK, "shared memory", facts)
