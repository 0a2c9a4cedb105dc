"""The machine: Python and its packages, processors and GPUs, shared memory, disks, and Visdom's server and page.

Standard library only until a check runs.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts import _visdom
from scripts._bootstrap import python_of, wrong_python
from scripts._doctor.checks import OK, PROBLEM, WARNING, Finding
from util.errors import UserError
from util.text import first_names

if TYPE_CHECKING:
    import torch

PARSERS = ("packaging.requirements", "pip._vendor.packaging.requirements")
INSTALL = "install requirements.txt again (README, 'Install into your own environment')"
NAMED = 4  # as many packages or files are named in a line
CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")
Version = tuple[int, int]

DRIVER_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
FLOAT32_ERROR, BFLOAT16_ERROR = 1e-2, 5e-2
"""Relative; the former leaves room for the TF32 arithmetic of graphics processors, the latter for 8 bits of
mantissa."""

GIB = 2**30
LITTLE = 4 * GIB  # free memory; so little is left where something else uses the processor
MEGABYTE, GIGABYTE = 10**6, 10**9
LEAST, COMFORTABLE = GIGABYTE, 10 * GIGABYTE
"""CCLGAN's training state has half a gigabyte at the default sizes, and is written anew before the old one goes; each
numbered checkpoint adds a tenth of one."""

PROBE_BYTES = 16 * MEGABYTE
SLOW = 20 * MEGABYTE  # a second; half a gigabyte then takes half a minute
START = "python scripts/visdom_server.py"


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


def driver_version(library: str = DRIVER_LIBRARY) -> Version | None:
    """The newest CUDA that the installed NVIDIA driver supports; None without a driver."""
    try:
        version = ctypes.c_int()
        ctypes.CDLL(library).cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return None
    return version.value // 1000, version.value % 1000 // 10


def has_nvidia() -> bool:
    """Whether the machine looks as if it had a graphics processor of NVIDIA."""
    return shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia").is_dir()


def check_driver() -> Iterator[Finding]:
    """PyTorch's CUDA against the driver's."""
    import torch

    yield judge_driver(
        torch.version.cuda,
        driver_version(),
        present=has_nvidia(),
        usable=torch.cuda.is_available(),
        rocm=bool(torch.version.hip),
    )


def judge_driver(
    build: str | None, driver: Version | None, *, present: bool, usable: bool, rocm: bool = False
) -> Finding:
    """What the versions mean.

    Args:
        build: the CUDA version PyTorch is made for, such as ``"12.6"``; None for the CPU alone.
        driver: the newest CUDA the driver supports.
        present: whether there seems to be a graphics processor of NVIDIA.
        usable: whether PyTorch can use it.
        rocm: whether PyTorch is made for AMD's processors.
    """
    facts = f"driver for CUDA {'.'.join(map(str, driver))}" if driver else "no NVIDIA driver"
    facts += f", PyTorch for {'ROCm' if rocm else f'CUDA {build}' if build else 'the CPU alone'}"
    if usable:
        return Finding(OK, "CUDA", facts)
    if not present and driver is None:
        return Finding(OK, "CUDA", f"{facts}: everything runs on the CPU")
    if build is None:
        todo = "install the PyTorch build for CUDA (pytorch.org says how), of the version in requirements.txt"
        return Finding(WARNING, "CUDA", f"{facts}: the graphics processor stays unused", todo)
    if driver is None:
        return Finding(PROBLEM, "CUDA", facts, "install NVIDIA's driver, or in a container: docker run --gpus all")
    if driver[0] < int(build.partition(".")[0]):
        todo = f"update the driver, or install a PyTorch made for CUDA {driver[0]}"
        return Finding(PROBLEM, "CUDA", f"{facts}, which is too new for it", todo)
    todo = "see whether nvidia-smi lists it, whether CUDA_VISIBLE_DEVICES hides it, and reboot after a driver update"
    return Finding(PROBLEM, "CUDA", f"{facts}, but no processor can be used", todo)


def check_devices() -> Iterator[Finding]:
    """Each graphics processor by name, memory and a convolution; where there is none, the CPU by its own."""
    import torch

    if not torch.cuda.is_available():
        yield judge_convolution("CPU", "", torch.device("cpu"))
        return
    for index in range(torch.cuda.device_count()):
        device = torch.device("cuda", index)
        properties = torch.cuda.get_device_properties(device)
        bf16 = properties.major >= 8  # older ones only imitate it, slowly
        free, total = torch.cuda.mem_get_info(device)
        facts = f"{properties.name}, {free / GIB:.0f} of {total / GIB:.0f} GiB free, bf16 {'yes' if bf16 else 'no'}; "
        subject = f"GPU {index}"
        if free < LITTLE:
            todo = "end what else uses it (nvidia-smi), or take a smaller --crop_size, --batch_size or --ngf"
            yield Finding(WARNING, subject, f"{facts}little memory", todo)
        yield judge_convolution(subject, facts, device, bf16=bf16)


def judge_convolution(subject: str, facts: str, device: torch.device, *, bf16: bool = False) -> Finding:
    """A convolution forwards and backwards, in float32 and bfloat16, against float64 on the CPU."""
    import torch

    limits = {torch.float32: FLOAT32_ERROR} | ({torch.bfloat16: BFLOAT16_ERROR} if bf16 else {})
    for dtype, limit in limits.items():
        error = convolution_error(device, dtype)
        if not error < limit:  # NaN is not
            found = f"{facts}a convolution in {str(dtype).removeprefix('torch.')} is off by {error:.2g}"
            return Finding(PROBLEM, subject, found, "do not train on it: update the driver, test its memory")
    return Finding(OK, subject, f"{facts}convolutions forwards and backwards are right")


def convolution_error(device: torch.device, dtype: torch.dtype) -> float:
    """Largest difference of output and gradients from float64 on the CPU, relative to the largest value there."""
    import torch
    import torch.nn.functional as F

    generator = torch.Generator().manual_seed(0)
    image, kernel = (torch.randn(shape, generator=generator) for shape in ((2, 8, 24, 24), (16, 8, 3, 3)))

    def results(where: torch.device, kind: torch.dtype) -> list[torch.Tensor]:
        # Rounded to the same numbers first, so that the difference is the arithmetic's.
        inputs = [tensor.to(dtype).to(where, kind).requires_grad_() for tensor in (image, kernel)]
        output = F.conv2d(inputs[0], inputs[1], padding=1)
        output.square().mean().backward()
        return [output.detach(), *(tensor.grad for tensor in inputs if tensor.grad is not None)]

    pairs = zip(results(torch.device("cpu"), torch.float64), results(device, dtype), strict=True)
    errors = [(right - found.cpu().double()).abs().max() / right.abs().max() for right, found in pairs]
    return float(torch.stack(errors).max())  # NaN if any of them is


def existing_part(folder: Path) -> Path:
    """``folder``, or the closest folder above it that exists."""
    folder = folder.expanduser().absolute()
    return next(place for place in (folder, *folder.parents) if place.exists())


def write_speed(folder: Path) -> float:
    """Bytes a second that reach the disk in ``folder``; the file has no name or is gone afterwards.

    Raises:
        OSError: nothing can be written there.
    """
    block = os.urandom(MEGABYTE)
    with tempfile.TemporaryFile(dir=folder) as file:
        start = time.perf_counter()
        for _ in range(PROBE_BYTES // MEGABYTE):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        return PROBE_BYTES / (time.perf_counter() - start)


def check_folder(
    flag: str,
    folder: Path,
    usage: Callable[[Path], Any] = shutil.disk_usage,
    speed: Callable[[Path], float] = write_speed,
) -> Iterator[Finding]:
    """Free space, permission and speed of the place that ``flag`` names."""
    place = existing_part(folder)
    subject = f"{flag} {folder}"
    if not place.is_dir():
        yield Finding(PROBLEM, subject, f"{place} is a file", "choose another folder")
        return
    free = usage(place).free
    facts = f"{free / GIGABYTE:,.1f} GB free"
    if free < LEAST:
        yield Finding(PROBLEM, subject, f"{facts}, too little to save a training", "free space, or choose another disk")
        return
    try:
        rate = speed(place)
    except OSError as error:
        yield Finding(
            PROBLEM, subject, f"{place} cannot be written ({error.strerror or error})", "choose another folder"
        )
        return
    facts += f", writes {rate / MEGABYTE:,.0f} MB/s"
    if free < COMFORTABLE:
        todo = "keep fewer checkpoints (--save_epoch_freq), or choose another disk"
        yield Finding(WARNING, subject, f"{facts}, which a long training may fill", todo)
    elif rate < SLOW:
        yield Finding(WARNING, subject, f"{facts}, so every save takes long", "prefer a disk of this machine")
    else:
        yield Finding(OK, subject, facts)


def check_server(address: str, port: int) -> Iterator[Finding]:
    """A server is not needed: everything it shows is in files as well."""
    from util.trackers.visdom import VisdomServer, answers, connect

    server = VisdomServer(address, port, env="main", ncols=0)
    where = f"{server.host}:{port}"
    if not answers(server):
        todo = f"for live plots: {START} --port {port}; to train without: --display_id 0"
        yield Finding(WARNING, "Visdom server", f"none answers at {where}; trainings write files all the same", todo)
        return
    try:
        environments = connect(server).get_env_list()
    except ImportError:
        raise
    except Exception as error:  # whatever Visdom's client makes of an answer that is not Visdom's
        todo = "choose another port: --display_port, and --port of the server"
        yield Finding(WARNING, "Visdom server", f"what answers at {where} is none ({type(error).__name__})", todo)
        return
    yield Finding(OK, "Visdom server", f"answers at {where}, {len(environments)} environments")


def check_page() -> Iterator[Finding]:
    """The files that the page needs and Visdom's package lacks."""
    try:
        static = _visdom.static_folder()
    except UserError as error:  # it is not installed
        yield Finding(WARNING, "Visdom page", str(error))
        return
    missing = _visdom.missing_files(static)
    if missing:
        found = f"{len(missing)} of its files are missing in {static}, so it would stay blank"
        yield Finding(WARNING, "Visdom page", found, f"{START} --fetch_browser_files (npm, 25 MB, once)")
    else:
        yield Finding(OK, "Visdom page", f"complete in {static}")
