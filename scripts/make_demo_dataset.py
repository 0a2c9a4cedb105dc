"""Write the demo's dataset ``datasets/rain_demo`` by drawing rain on the photographs in ``datasets/photos``.

Each photograph in ``photos/train`` is cut into tiles like a chessboard: on the black ones rain is drawn (``trainA``),
the white ones stay clean (``trainB``). So the two sides are unpaired, no spot being on both, and yet show the same kind
of scenes: rain is all that tells them apart. The test pairs (``testA`` rainy, ``testB`` clean, same file names) come
from ``photos/test``, of which training shows nothing. File names start with the photograph's name.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file: Python put scripts/ there, not the checkout
    sys.path.insert(0, str(ROOT))

from data.manifest import existing, write_manifest
from data.rain import synthesis
from data.rain.presets import PRESETS
from data.rain.streaks import REFERENCE_SIDE
from data.rain.synthesis import generator_for
from util.command_line import CommandLine
from util.errors import UserError, entry_point
from util.staging import Staging

PHOTOS = ROOT / "datasets" / "photos"
DEFAULT_OUTPUT = ROOT / "datasets" / "rain_demo"
DEFAULT_SEED = 1
# Tiles are about this large and never longer, so that testing is quick and training decodes little.
TRAIN_SIDE, TEST_SIDE = 256, 384
# Different rain on the same tile of the training set.
RAIN_PER_TILE = 4
MADE_BY = "make_demo_dataset"
# Raise when the meaning of the files changes although photographs and settings stay, so that old ones are rewritten.
LAYOUT_VERSION = 3

RAIN = "demo"
# Tiles for training and for testing differ in size; streaks have the same size on both.
RAIN_SCALE = TRAIN_SIDE / REFERENCE_SIDE


@dataclass(frozen=True)
class Tile:
    """One rectangle of a photograph; ``pixels`` is uint8 [H, W, 3], ``black`` its color on the chessboard."""

    name: str
    pixels: NDArray[np.uint8]
    black: bool = False


def cut_tiles(name: str, photo: NDArray[np.uint8], side: int) -> list[Tile]:
    """Disjoint tiles of ``photo`` [H, W, 3], at most ``side`` pixels long, row by row."""
    height, width, _ = photo.shape
    rows, columns = max(1, round(height / side)), max(1, round(width / side))
    cell_height, cell_width = height // rows, width // columns
    tile_height, tile_width = min(cell_height, side), min(cell_width, side)
    tiles = []
    for number in range(rows * columns):
        row, column = divmod(number, columns)
        top = row * cell_height + (cell_height - tile_height) // 2
        left = column * cell_width + (cell_width - tile_width) // 2
        pixels = photo[top : top + tile_height, left : left + tile_width]
        tiles.append(Tile(f"{name}_{number + 1}", pixels, black=(row + column) % 2 == 0))
    return tiles


def rain_on(tile: Tile, seed: int, draw: int = 0) -> NDArray[np.uint8]:
    """``tile`` in the rain. What rain, depends on the seed, the tile's name and the number of the draw alone."""
    return synthesis.rain_on(tile.pixels, generator_for(seed, tile.name, draw), RAIN, scale=RAIN_SCALE).pixels


def _photos(folder: Path) -> list[Path]:
    paths = sorted(folder.glob("*.jpg"))
    if not paths:
        raise UserError(f"{folder} holds no .jpg photograph; is the checkout complete?")
    return paths


def _tiles(folder: Path, side: int) -> list[Tile]:
    tiles: list[Tile] = []
    for path in _photos(folder):
        with Image.open(path) as image:
            tiles += cut_tiles(path.stem, np.asarray(image.convert("RGB")), side)
    return tiles


def _fingerprint(photos: Path, seed: int) -> str:
    """Changes with everything the images depend on: photographs, rain, seed, layout."""
    digest = hashlib.sha256()
    settings = [LAYOUT_VERSION, seed, TRAIN_SIDE, TEST_SIDE, RAIN_PER_TILE, repr(PRESETS[RAIN])]
    digest.update(json.dumps(settings).encode())
    for side in ("train", "test"):
        for path in _photos(photos / side):
            digest.update(f"{side}/{path.name}".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _write_images(folder: Path, photos: Path, seed: int) -> None:
    def save(part: str, name: str, pixels: NDArray[np.uint8]) -> None:
        path = folder / part / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)

    for tile in _tiles(photos / "train", TRAIN_SIDE):
        if not tile.black:
            save("trainB", tile.name, tile.pixels)
            continue
        for draw in range(RAIN_PER_TILE):
            save("trainA", f"{tile.name}_rain{draw + 1}", rain_on(tile, seed, draw))
    for tile in _tiles(photos / "test", TEST_SIDE):
        save("testA", tile.name, rain_on(tile, seed))
        save("testB", tile.name, tile.pixels)


def make_dataset(output: Path = DEFAULT_OUTPUT, seed: int = DEFAULT_SEED, photos: Path = PHOTOS) -> bool:
    """Write the dataset to ``output``; return False when a complete, equal one was there already.

    Raises :class:`UserError` when ``output`` holds something that this function did not write.
    """
    fingerprint = _fingerprint(photos, seed)
    if existing(output, MADE_BY, fingerprint, flag="--output", replace=True):
        return False
    with Staging(output, "--output") as staging:
        _write_images(staging.folder, photos, seed)
        write_manifest(staging.folder, MADE_BY, fingerprint, {"seed": seed})
        staging.publish()
    return True


def count_images(folder: Path) -> dict[str, int]:
    """Images per part of the dataset."""
    return {part: len(list((folder / part).glob("*.png"))) for part in ("trainA", "trainB", "testA", "testB")}


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and write the dataset."""
    parser = CommandLine(description=__doc__)
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="folder to write (%(default)s)")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="decides the rain; at least 0 (%(default)s)")
    args = parser.parse_args(argv)
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: must be 0 or more.")
    written = make_dataset(args.output, args.seed)
    counts = ", ".join(f"{count} {part}" for part, count in count_images(args.output).items())
    print(f"{'wrote' if written else 'reused'} {args.output}: {counts}")


if __name__ == "__main__":
    sys.exit(main())
