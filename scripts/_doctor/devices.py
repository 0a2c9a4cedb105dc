"""The graphics processors, their driver, and whether a device computes rightly."""

from __future__ import annotations

import ctypes
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from scripts._doctor.report import OK, PROBLEM, WARNING, Finding

if TYPE_CHECKING:
    import torch

Version = tuple[int, int]

DRIVER_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
FLOAT32_ERROR, BFLOAT16_ERROR = 1e-2, 5e-2
"""Relative; the former leaves room for the TF32 arithmetic of graphics processors, the latter for 8 bits of
mantissa."""

GIB = 2**30
LITTLE = 4 * GIB  # free memory; so little is left where something else uses the processor


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
