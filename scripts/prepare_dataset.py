"""Prepare a published deraining set, or your own pairs: trainA and trainB (unpaired), testA and testB (paired).

  python scripts/prepare_dataset.py raincityscapes --out datasets/raincityscapes \\
      --source leftImg8bit_trainval_rain.zip leftImg8bit_trainvaltest.zip
  python scripts/prepare_dataset.py spa --out datasets/spa --val 100 \\
      --source real_world.zip real_world.txt real_test_1000.zip real_test_1000.txt
  python scripts/prepare_dataset.py rain100l --source RainTrainL.zip Rain100L.zip --out datasets/rain100l
  python scripts/prepare_dataset.py folder-pairs --source photos/rainy photos/clean --out datasets/mine --test 0.1

Sources are zip or tar archives as downloaded, or unpacked folders; they are only read. An interrupted run continues
when started again; a finished one is left alone. docs/datasets.md tells where each set comes from and its split.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file: Python put scripts/ there, not the checkout
    sys.path.insert(0, str(ROOT))

from data.published import LAYOUTS, Prepared, Request, Share, prepare
from data.published.layouts import FolderPairs, Layout, Rain800
from util.command_line import CommandLine
from util.errors import UserError, entry_point
from util.text import did_you_mean

OWN_FLAGS = {"test": "folder-pairs", "rainy_suffix": "folder-pairs", "clean_suffix": "folder-pairs",
             "rainy_half": "rain800"}  # fmt: skip
"""Flags that only one data set has."""


def build_parser() -> CommandLine:
    """The command line."""
    parser = CommandLine(description=__doc__)
    parser.add_argument("dataset", help=f"which data set the source is: {', '.join(LAYOUTS)}")
    parser.add_argument("--source", type=Path, nargs="+", required=True, help="archives, folders and list files")
    parser.add_argument("--out", type=Path, required=True, help="folder to write, for --dataroot")
    parser.add_argument("--val", help="validation pairs (valA, valB) from training scenes: a number or a fraction")
    parser.add_argument("--full", action="store_true", help="keep all images instead of 1400/175 or 2000/200")
    parser.add_argument("--copy", action="store_true", help="copy unpacked files instead of making hard links")
    parser.add_argument("--allow_incomplete", action="store_true", help="use what is there; the manifest says so")
    parser.add_argument("--test", help="folder-pairs: test scenes, a number or a fraction (0.1)")
    parser.add_argument("--rainy_suffix", help="folder-pairs: what ends rainy names, such as _rain or '_*'")
    parser.add_argument("--clean_suffix", help="folder-pairs: what ends clean names, such as _clean")
    parser.add_argument("--rainy_half", choices=("left", "right"), help="rain800: rainy half of the files (right)")
    return parser


def create_layout(args: argparse.Namespace) -> Layout:
    """The chosen layout with its own flags.

    Raises:
        UserError: there is no such data set, or a flag of another one was given.
    """
    if args.dataset not in LAYOUTS:
        raise UserError(
            f"dataset {args.dataset}: is not known{did_you_mean(args.dataset, LAYOUTS)}; "
            f"choose from {', '.join(LAYOUTS)}."
        )
    for flag, owner in OWN_FLAGS.items():
        if getattr(args, flag) is not None and args.dataset != owner:
            raise UserError(f"--{flag}: is for {owner} only; leave it out for {args.dataset}.")
    layout = LAYOUTS[args.dataset]()
    if isinstance(layout, FolderPairs):
        layout = replace(layout, rainy_suffix=args.rainy_suffix or "", clean_suffix=args.clean_suffix or "")
        if args.test is not None:
            layout = replace(layout, test=Share.parse(args.test, "--test"))
    elif isinstance(layout, Rain800) and args.rainy_half:
        layout = replace(layout, rainy_half=args.rainy_half)
    return layout


def report(args: argparse.Namespace, prepared: Prepared) -> None:
    """Print what is there now."""
    counts = ", ".join(f"{count} {part}" for part, count in prepared.counts.items())
    done = "wrote" if prepared.changed else "nothing to do, is complete already:"
    print(f"{done} {args.out}: {counts}")
    for note in prepared.notes:
        print(f"note: {note}")
    print(f"sha256 of the file list: {prepared.sha256}")


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, prepare, report."""
    args = build_parser().parse_args(argv)
    val = None if args.val is None else Share.parse(args.val, "--val")
    request = Request(val=val, full=args.full, copy=args.copy, allow_incomplete=args.allow_incomplete)
    try:
        prepared = prepare(args.dataset, create_layout(args), args.source, args.out, request)
    except KeyboardInterrupt:
        print("stopped; the same command continues from here", file=sys.stderr)
        raise
    report(args, prepared)


if __name__ == "__main__":
    sys.exit(main())
