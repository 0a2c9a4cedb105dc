"""What the web demo does with one uploaded picture."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from data.derain.pictures import GREY, Network, with_colours
from util.pictures import Picture, read_picture, write_picture
from util.pixels import COLOUR_CHANNELS, to_eight_bit

PREVIEW_SIDE = 1600  # pixels; the slider shows no more, the download has all
SUFFIX = "_derained"
KEPT_SECONDS = 3600.0


@dataclass(frozen=True)
class Derained:
    """A finished picture: its file, and 8-bit RGB previews [H, W, 3] before and after."""

    file: Path
    before: np.ndarray
    after: np.ndarray
    about: str


def derain_upload(path: Path, network: Network, folder: Path) -> Derained:
    """Derain the picture ``path`` into a new folder in ``folder``, as the same kind of file.

    Raises:
        UnreadablePicture: it is no picture, or a damaged one.
        UserError: the result cannot be written, or memory does not suffice.
    """
    start = time.perf_counter()
    before = read_picture(path)
    tensor = before.tensor(network.channels)
    (output,) = network([tensor])
    if tensor.shape[1] == GREY < before.channels and output.shape[1] == GREY:
        output = with_colours(output, before.tensor())
    after = before.with_tensor(output)
    target = folder / secrets.token_hex(8) / f"{path.stem}{SUFFIX}{after.suffix}"
    write_picture(after, target)
    seconds = time.perf_counter() - start
    return Derained(target, preview(before), preview(after), _about(after, seconds))


def preview(picture: Picture) -> np.ndarray:
    """[H, W, 3] uint8, made smaller where a side is longer than a screen."""
    pixels = to_eight_bit(picture.pixels)
    if picture.channels == 1:
        pixels = np.repeat(pixels, COLOUR_CHANNELS, axis=2)
    image = Image.fromarray(pixels)
    image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _about(picture: Picture, seconds: float) -> str:
    width, height = picture.size
    kind = f"{picture.format}, {picture.bits} bit" + (" with alpha" if picture.alpha is not None else "")
    shown = "" if max(width, height) <= PREVIEW_SIDE else "The slider shows it smaller; the download has its full size."
    notes = [f"{note[0].upper()}{note[1:]}." for note in picture.notes]
    return " ".join([f"{width} × {height} pixels, {kind}, in {seconds:.1f} s.", shown, *notes]).strip()


def forget_old(folders: Iterable[Path], seconds: float = KEPT_SECONDS) -> None:
    """Remove what was put into these folders longer ago than that."""
    limit = time.time() - seconds
    for entry in (entry for folder in folders if folder.is_dir() for entry in folder.iterdir()):
        with contextlib.suppress(OSError):
            if entry.stat().st_mtime >= limit:
                continue
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()
