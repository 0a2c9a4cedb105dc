"""The direction of the rain in images: from a file, from the record of drawn rain, or estimated from the picture.

A label a in [0, 1] means streaks in the direction of 45 + 90 a degrees, counterclockwise from the right: 0.5 is
vertical, 1 runs from the top left to the bottom right. In degrees from vertical, as ``images.csv`` of
``scripts/synthesize_rain.py`` has them (positive towards the right), that is 0.5 + angle / 90.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from models.losses.rain_exchange import streaks
from util.errors import UserError

logger = logging.getLogger(__name__)

RECORD = "images.csv"
VERTICAL, RANGE = 0.5, 90.0  # label of vertical streaks, and degrees from 0 to 1


class RainAngles:
    """Labels of a training's rainy images.

    Args:
        dataroot, folder: where the images lie, and the folder's name in it, such as ``trainA``.
        place: a folder of ``.npy`` files with one label each, named like the images; or a table (CSV) with the columns
            ``file``, below ``dataroot``, and ``angle`` in degrees from vertical. None: the record of drawn rain in
            ``dataroot``, if there is one, else every picture's own streaks tell.

    Raises:
        UserError: ``place`` has no labels.
    """

    def __init__(self, dataroot: str, folder: str, place: str | None = None) -> None:
        self.folder = folder
        source = (Path(place) if place else Path(dataroot) / RECORD).expanduser()
        self.labels: dict[str, float] | None = None
        if place is not None or source.is_file():
            self.labels = self._read(source)
            if place is not None and not self.labels:
                raise UserError(f"--angles {place}: has no angle for an image of '{folder}'; see docs/methods.md.")
        if not self.labels:
            self.labels = None
        where = f"from {source}" if self.labels else "estimated from the pictures"
        logger.info("angles of the rain: %s", where)

    @property
    def are_known(self) -> bool:
        """Whether there are labels, which belong to images that are not mirrored."""
        return self.labels is not None

    def of(self, images: Tensor, paths: Sequence[str]) -> Tensor:
        """Labels [N] of ``images`` [N, C, H, W] in [-1, 1], which come from the files ``paths``."""
        if self.labels is None:
            return estimated(images)
        missing = [path for path in paths if self._key(path) not in self.labels]
        if missing:
            raise UserError(f"--angles: there is none for '{missing[0]}'; add it, or leave all out to estimate them.")
        return images.new_tensor([self.labels[self._key(path)] for path in paths])

    def _read(self, source: Path) -> dict[str, float]:
        try:
            if source.is_dir():
                files = sorted(source.rglob("*.npy"))
                return {
                    file.relative_to(source).with_suffix("").as_posix(): float(np.load(file, allow_pickle=False).item())
                    for file in files
                }
            with source.open(newline="", encoding="utf-8") as table:
                rows = [row for row in csv.DictReader(table) if row["file"].startswith(f"{self.folder}/")]
                return {
                    self._key(row["file"]): VERTICAL + float(row["angle"]) / RANGE for row in rows if row.get("angle")
                }
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"--angles {source}: cannot be read ({error}); see docs/methods.md.") from error

    def _key(self, path: str) -> str:
        """What follows the folder, without the extension."""
        parts = PurePosixPath(Path(path).as_posix()).with_suffix("").parts
        start = max((place for place, part in enumerate(parts) if part == self.folder), default=len(parts) - 2)
        return "/".join(parts[start + 1 :])


@torch.no_grad()
def estimated(images: Tensor) -> Tensor:
    """Labels [N] by the structure tensor of what is narrow and brighter than its surroundings: across a streak the
    brightness changes most."""
    rain = streaks(images.float().mean(1, keepdim=True))
    right, down = rain[:, :, 1:-1, 2:] - rain[:, :, 1:-1, :-2], rain[:, :, 2:, 1:-1] - rain[:, :, :-2, 1:-1]
    xx, yy, xy = (product.sum((1, 2, 3)) for product in (right * right, down * down, right * down))
    across = torch.rad2deg(torch.atan2(2 * xy, xx - yy)) / 2  # from the right, clockwise as y points down
    return (VERTICAL - across / RANGE).clamp(0, 1)
