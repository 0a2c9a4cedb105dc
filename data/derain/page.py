"""The page that shows inputs and results of ``--input`` side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.derain.inputs import Job
from util.errors import UserError
from util.files import fitting_name
from util.images import save_png
from util.pages.html import SHOWN_BY_BROWSERS, relative_address
from util.pages.manifest import Column, ResultManifest, Row
from util.pages.result_page import write_result_page
from util.pictures import Picture
from util.pixels import to_eight_bit

INPUT, OUTPUT = "real_A", "fake_B"
PICTURES = "derained"
"""The folder of the results beside the page."""

_PREVIEWS = "previews"
WHERE_INPUTS_ARE = "Inputs are shown from where they lie; the page finds them as long as neither is moved."


class PicturePage:
    """Rows for the page in ``folder``, which names the inputs where they are instead of copying them.

    Files that browsers do not show, such as TIFF, get a preview of 8 bits beside the page.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def row(self, job: Job, before: Picture, target: Path, after: Picture) -> Row:
        """The row of one picture. May be called from several threads at once."""
        row = Row(job.name, {}, sizes={INPUT: before.size, OUTPUT: after.size})
        for label, file, picture in ((INPUT, job.source, before), (OUTPUT, target, after)):
            row = self._with(row, label, file, picture)
        return row

    def frame_row(self, name: str, before: np.ndarray, after: np.ndarray) -> Row:
        """The row of one frame of a video; both images [H, W, 3] uint8 are saved beside the page."""
        shown = {INPUT: Picture(before), OUTPUT: Picture(after)}
        return Row(
            name,
            {label: self._preview(name, label, picture) for label, picture in shown.items()},
            sizes={label: picture.size for label, picture in shown.items()},
        )

    def _with(self, row: Row, label: str, file: Path, picture: Picture) -> Row:
        try:
            address = relative_address(self.folder, file)
        except UserError:  # on another drive
            return replace(row, images={**row.images, label: self._preview(row.name, label, picture)})
        if picture.format in SHOWN_BY_BROWSERS:
            return replace(row, images={**row.images, label: address})
        return replace(
            row,
            images={**row.images, label: self._preview(row.name, label, picture)},
            originals={**row.originals, label: address},
        )

    def _preview(self, name: str, label: str, picture: Picture) -> str:
        path = fitting_name(Path(_PREVIEWS) / label / f"{name}.png").as_posix()
        pixels = to_eight_bit(picture.pixels)
        save_png(pixels[..., 0] if picture.channels == 1 else pixels, self.folder / path)
        return path

    def write(self, rows: Sequence[Row], *, title: str, words: Mapping[str, str], notes: Sequence[str]) -> Path:
        """Write the page with ``rows`` in the order of their names, and return its path."""
        manifest = ResultManifest(
            title=title,
            columns=tuple(Column(label, words.get(label, label)) for label in (INPUT, OUTPUT)),
            rows=tuple(sorted(rows, key=lambda row: row.name)),
            notes=tuple(notes),
            before=INPUT,
            after=OUTPUT,
            reaches_out=True,
        )
        return write_result_page(self.folder, manifest)
