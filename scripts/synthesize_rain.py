"""Draw rain on clean photographs: a paired or an unpaired dataset, the same for the same seed.

  python scripts/synthesize_rain.py --clean photos --out datasets/rain --preset mixed --unpaired --phase train
  python scripts/synthesize_rain.py --clean photos --out datasets/rain_test --preset heavy --paired --phase test
  python scripts/synthesize_rain.py --clean leftImg8bit --depth depth --out datasets/rain_city --preset medium

Outputs are PNG, below <phase>A (rainy) and <phase>B (clean); docs/rain.md shows and explains the rain. What rain an
image gets depends on the seed, its file name and the settings, never on --workers.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file: Python put scripts/ there, not the checkout
    sys.path.insert(0, str(ROOT))

from data.files import PHASES, find_images, require_images
from data.manifest import existing
from data.rain.dataset import (
    MADE_BY,
    Inputs,
    Settings,
    check_headers,
    find_depths,
    fingerprint,
    make_plan,
    write_dataset,
)
from data.rain.presets import PRESETS
from util.command_line import CommandLine, set_up_logging
from util.errors import UserError, entry_point
from util.files import real_path

SIZE = re.compile(r"(\d{1,5})(?:x(\d{1,5}))?")
SMALLEST_SIDE = 16

MOST_PER_IMAGE = 1000
"""Rainy images of one photograph: more would fill a disk and teach nothing."""


def size(text: str) -> tuple[int, int]:
    """``512`` as (512, 0), ``640x480`` as (640, 480)."""
    found = SIZE.fullmatch(text)
    sides = [int(side) for side in found.groups() if side] if found else [0]
    if min(sides) < SMALLEST_SIDE:
        raise argparse.ArgumentTypeError(f"'{text}' is no size; give 512 or 640x480, {SMALLEST_SIDE} or more a side")
    return sides[0], sides[1] if len(sides) > 1 else 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line.

    Raises:
        UserError: a number out of range, or flags that contradict each other.
    """
    parser = CommandLine(description=__doc__)
    parser.add_argument(
        "--clean", type=Path, required=True, help="folder of clean photographs, searched with its sub-folders"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder to write; new, empty, or an earlier output of this script"
    )
    parser.add_argument("--preset", choices=PRESETS, default="mixed", help="which rain (%(default)s)")
    layout = parser.add_mutually_exclusive_group()
    layout.add_argument("--paired", dest="layout", action="store_const", const="paired", default="paired",
                        help="A and B show the same scenes under the same names (default)")  # fmt: skip
    layout.add_argument("--unpaired", dest="layout", action="store_const", const="unpaired",
                        help="half of the scenes are rained on for A, the others stay clean in B")  # fmt: skip
    parser.add_argument(
        "--phase", choices=PHASES, default="train", help="folders are called <phase>A and <phase>B (%(default)s)"
    )
    parser.add_argument(
        "--per_image", type=int, default=1, metavar="K", help="rainy images per clean one (%(default)s)"
    )
    parser.add_argument("--size", type=size, help="512: shorter side; 640x480: the middle in this shape (as they are)")
    parser.add_argument(
        "--depth", type=Path, help="folder of depth files named like the images (a road scene is assumed)"
    )
    parser.add_argument(
        "--depth_step", type=float, metavar="M", help="meters per step of depth files (8 bit: 1; 16 bit: 1/256)"
    )
    parser.add_argument("--no_fog", action="store_true", help="streaks alone, without fog and veil")
    parser.add_argument("--seed", type=int, default=0, help="decides the rain and the split; at least 0 (%(default)s)")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (%(default)s, one per core)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace another output of this script in --out")
    args = parser.parse_args(argv)
    for name, least in (("seed", 0), ("per_image", 1), ("workers", 1)):
        if getattr(args, name) < least:
            raise UserError(f"--{name} {getattr(args, name)}: must be {least} or more.")
    if args.per_image > MOST_PER_IMAGE:
        raise UserError(f"--per_image {args.per_image}: must be {MOST_PER_IMAGE} or less.")
    if args.depth_step is not None and not (args.depth and 0 < args.depth_step < math.inf):
        raise UserError(f"--depth_step {args.depth_step}: goes with --depth and is more than 0.")
    out, clean = real_path(args.out), real_path(args.clean)
    if out == clean or out in clean.parents or clean in out.parents:
        raise UserError(f"--out {args.out}: lies in --clean or around it; name a folder apart from the photographs.")
    return args


def read_inputs(args: argparse.Namespace, settings: Settings) -> Inputs:
    """Find the images, and their depth.

    Raises:
        UserError: a folder is missing or has no image, a file is no image, or depth is missing for an image.
    """
    for flag, folder in (("clean", args.clean), ("depth", args.depth)):
        if folder is not None and not folder.is_dir():
            raise UserError(f"--{flag} {folder}: there is no such folder; give one that holds images.")
    depths = None if args.depth is None else find_depths(args.depth)
    jobs = make_plan(require_images(args.clean, find_images(args.clean)), depths, settings)
    check_headers(jobs)
    return Inputs(args.clean, args.depth, jobs)


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, write the dataset, report."""
    args = parse(argv)
    set_up_logging()
    settings = Settings(
        preset=args.preset, layout=args.layout, phase=args.phase, seed=args.seed, per_image=args.per_image,
        size=args.size, fog=not args.no_fog, depth_step=args.depth_step,
    )  # fmt: skip
    inputs = read_inputs(args, settings)
    mark = fingerprint(inputs, settings)
    advice = "pass --overwrite to replace it, or name another folder"
    manifest = existing(args.out, MADE_BY, mark, flag="--out", replace=args.overwrite, advice=advice)
    start = time.perf_counter()
    if manifest is None:
        manifest = write_dataset(inputs, settings, args.out, mark=mark, workers=args.workers, progress=True)
        seconds = time.perf_counter() - start
        written = sum(manifest["counts"].values())
        print(f"wrote {args.out} in {seconds:.1f} s, {written / seconds:.1f} images/s")
    else:
        print(f"{args.out} is there already, complete and from the same images and settings: nothing to do")
    print("images:     " + ", ".join(f"{count} in {folder}" for folder, count in manifest["counts"].items()))
    print("input PSNR: " + ", ".join(f"{name} {value:.1f} dB" for name, value in manifest["input_psnr"].items()))
    print(f"sha256:     {manifest['sha256']['images']} (of all pixels and names)")


if __name__ == "__main__":
    sys.exit(main())
