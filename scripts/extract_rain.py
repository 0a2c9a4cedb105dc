"""Take the rain off rainy photographs as layers, with which to train on clean photographs.

  python test.py --input rain_photos --output derained
  python scripts/extract_rain.py --rainy rain_photos --derained derained --out rain_layers
  python train.py --model restoration --dataset_mode rain --rain_layers rain_layers --dataroot photos --name next

Rounds of this improve a derainer on real rain, whichever method it was trained by. Photographs with hardly any rain
give no layer.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file: Python put scripts/ there, not the checkout
    sys.path.insert(0, str(ROOT))

import numpy as np
from PIL import Image

from data.files import find_images, match, require_images
from data.rain.layers import holds_rain, rain_layer
from util.command_line import CommandLine
from util.errors import UserError, entry_point
from util.pictures import read_eight_bit

logger = logging.getLogger(__name__)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line.

    Raises:
        UserError: a folder is missing.
    """
    parser = CommandLine(description=__doc__)
    parser.add_argument("--rainy", type=Path, required=True, help="folder of rainy photographs")
    parser.add_argument("--derained", type=Path, required=True, help="folder of what a derainer made of them")
    parser.add_argument("--out", type=Path, required=True, help="folder of layers to write, new or empty")
    args = parser.parse_args(argv)
    for name in ("rainy", "derained"):
        if not getattr(args, name).is_dir():
            raise UserError(f"--{name} {getattr(args, name)}: there is no such folder; give one that holds images.")
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise UserError(f"--out {args.out}: is not an empty folder; name another one.")
    return args


def extract(rainy: Path, derained: Path, out: Path) -> int:
    """Write the layers of the photographs that are in both folders; how many.

    Raises:
        UserError: no photograph is in both, or two of one name differ in size.
    """
    found = match(require_images(rainy, find_images(rainy)), require_images(derained, find_images(derained)))
    if not found.pairs:
        raise UserError(f"--derained {derained}: has no image named like one in {rainy}; give the results of those.")
    out.mkdir(parents=True, exist_ok=True)
    written = 0
    for before, after in found.pairs:
        pixels = [np.asarray(read_eight_bit(file.path)) for file in (before, after)]
        if pixels[0].shape != pixels[1].shape:
            raise UserError(f"'{after.path}' differs in size from '{before.path}'; derain it at its own size.")
        layer = rain_layer(pixels[0], pixels[1])
        if holds_rain(layer):
            target = out / Path(before.name).with_suffix(".png")
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(layer).save(target)
            written += 1
    return written


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Extract and report."""
    args = parse(argv)
    count = extract(args.rainy, args.derained, args.out)
    if count == 0:
        raise UserError(
            f"--rainy {args.rainy}: no photograph gave a layer; the derainer takes hardly anything off them."
        )
    print(f"{count} layers of rain in {args.out}")


if __name__ == "__main__":
    sys.exit(main())
