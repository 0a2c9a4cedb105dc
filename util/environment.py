"""Versions and device of a run, for its records: enough to repeat it, and nothing that names machine or user."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("torch", "torchvision", "numpy", "pillow", "scikit-image", "open_clip_torch", "timm")
GIT_SECONDS = 5.0
SHORT_HASH = 12


def describe_environment(device: torch.device) -> dict[str, str]:
    """Facts in words -> values: Python, packages, device, and the checkout's commit if it is one."""
    facts = {"commit": git_commit(ROOT), "Python": platform.python_version()}
    facts |= {name: _version(name) for name in PACKAGES}
    facts["device"] = _device(device)
    facts["CPU threads"] = f"{torch.get_num_threads()} of {os.cpu_count()} cores"
    facts["system"] = f"{platform.system()} {platform.machine()}"
    return {name: value for name, value in facts.items() if value}


def git_commit(folder: Path) -> str:
    """The commit that ``folder`` is a checkout of, with a note if files have changed since; empty if it is none."""
    if not (folder / ".git").exists():
        return ""
    try:
        commit = _git(folder, "rev-parse", f"--short={SHORT_HASH}", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{commit}, with local changes" if changed else commit


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=GIT_SECONDS)
    return done.stdout.strip()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _device(device: torch.device) -> str:
    if device.type != "cuda":
        return str(device)
    memory = torch.cuda.get_device_properties(device).total_memory / 2**30
    return f"{torch.cuda.get_device_name(device)}, {memory:.0f} GiB (CUDA {torch.version.cuda})"
