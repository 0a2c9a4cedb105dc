"""How far one training step reaches: which files an image passes, and what lies between main and the model.

  python scripts/trace_step.py            # of this checkout
  python scripts/trace_step.py --list     # also which files and functions they are

One step of CCLGAN on small images, as train.py takes it. Counted are

  files    those of the project of which a function gets or returns pixels or what networks make of them (an image, an
           array or a tensor of at least three dimensions, no weight, alone or in a container), from the decoding of the
           first image to the first optimizer's step
  frames   the project's functions on the stack between main and the model's forward
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.optim.optimizer import register_optimizer_step_pre_hook

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file: Python put scripts/ there, not the checkout
    sys.path.insert(0, str(ROOT))

import train as train_program
from util.command_line import CommandLine
from util.errors import entry_point

SIZES = ("--ngf", "4", "--ndf", "4", "--load_size", "72", "--crop_size", "64", "--semantic_size", "32")
ONE_EPOCH = ("--n_epochs", "1", "--n_epochs_decay", "0", "--val_freq", "0", "--no_html", "--display_id", "0")
HERE = ("--semantic_encoder", "efficientnet_lite0", "--gpu_ids", "-1", "--num_threads", "0")
SIDE = 80  # pixels of the images
LEAST_DIMENSIONS = 3  # of what counts as pixels: [C, H, W] or [H, W, C]
DEPTH = 4  # of containers that are looked into


class _Stop(BaseException):
    """Ends the training after what is to be seen."""


class Trace:
    """What Python's profiler shows of a training: the files that pixels pass, and the stack of the model's forward."""

    def __init__(self) -> None:
        self.files: dict[str, set[str]] = {}
        self.frames: list[str] = []
        self._reads_images = False

    def __call__(self, frame: FrameType, event: str, value: Any) -> None:
        """To be given to :func:`sys.setprofile`."""
        if event not in ("call", "return"):
            return
        code = frame.f_code
        if not self._reads_images:  # only headers have been looked at
            self._reads_images = code.co_name == "load" and code.co_filename.endswith("ImageFile.py")
            return
        file = _file_of(code.co_filename)
        if file is None:
            return
        if event == "call":
            names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
            values = [frame.f_locals[name] for name in names if name in frame.f_locals]
        else:
            values = [value]
        if any(map(_has_pixels, values)):
            self.files.setdefault(file, set()).add(code.co_name)
        if not self.frames and code.co_name == "forward" and file.endswith("_model.py"):
            self.frames = _between_main_and(frame)


@functools.cache
def _file_of(path: str) -> str | None:
    """A file of the project, from its root; None for others, and for this script."""
    if not Path(path).is_relative_to(ROOT) or path == __file__:
        return None
    return Path(path).relative_to(ROOT).as_posix()


def _has_pixels(value: Any, depth: int = DEPTH) -> bool:
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return value.ndim >= LEAST_DIMENSIONS and not isinstance(value, torch.nn.Parameter)
    if isinstance(value, Image.Image):
        return True
    if depth == 0 or isinstance(value, (str, bytes, type, torch.nn.Module)):
        return False
    if isinstance(value, Mapping):
        return any(_has_pixels(item, depth - 1) for item in value.values())
    if isinstance(value, (list, tuple, set)):
        return any(_has_pixels(item, depth - 1) for item in value)
    if dataclasses.is_dataclass(value):
        fields = (getattr(value, field.name, None) for field in dataclasses.fields(value))
        return any(_has_pixels(item, depth - 1) for item in fields)
    return False


def _between_main_and(frame: FrameType) -> list[str]:
    found = []
    above = frame.f_back
    while above is not None and not (above.f_code.co_name == "main" and above.f_code.co_filename.endswith("train.py")):
        if file := _file_of(above.f_code.co_filename):
            found.append(f"{file}: {above.f_code.co_name}")
        above = above.f_back
    return found[::-1]


def trace() -> Trace:
    """Take the step."""

    def stop(*_: Any) -> None:
        raise _Stop

    found = Trace()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for part in ("trainA", "trainB"):
            (Path(folder) / part).mkdir()
            pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(Path(folder) / part / "image.png")
        where = ["--dataroot", folder, "--checkpoints_dir", str(Path(folder) / "checkpoints"), "--name", "trace"]
        handle = register_optimizer_step_pre_hook(stop)
        sys.setprofile(found)
        try:
            train_program.main([*where, "--model", "cclgan", *SIZES, *ONE_EPOCH, *HERE])
        except _Stop:
            pass
        finally:
            sys.setprofile(None)
            handle.remove()
    return found


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Count and print."""
    parser = CommandLine(description=__doc__)
    parser.add_argument("--list", action="store_true", help="also which files and functions they are")
    args = parser.parse_args(argv)
    found = trace()
    print(f"{len(found.files)} files from reading an image to the optimizer's step")
    if args.list:
        for path, functions in sorted(found.files.items()):
            print(f"  {path}: {', '.join(sorted(functions))}")
    print(f"{len(found.frames)} frames between main and the model's forward")
    if args.list:
        for line in found.frames:
            print(f"  {line}")


if __name__ == "__main__":
    sys.exit(main())
