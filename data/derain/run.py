"""The whole job behind ``--input``."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data.derain.inputs import Job, find_inputs, give_places, input_name
from data.derain.pictures import Network, Report, derain_pictures
from data.derain.video import derain_video
from util.engine.oom import is_out_of_memory
from util.errors import UserError
from util.files import fitting_name
from util.images import save_png
from util.pages.html import SHOWN_BY_BROWSERS, relative_address
from util.pages.manifest import Column, ResultManifest, Row
from util.pages.result_page import write_result_page
from util.pictures import Picture
from util.pixels import to_eight_bit

logger = logging.getLogger(__name__)

INPUT, OUTPUT = "real_A", "fake_B"
PICTURES = "derained"
"""Folder of the results, next to the page."""

_PREVIEWS = "previews"
WHERE_INPUTS_ARE = "Inputs are shown from where they lie; the page finds them as long as neither is moved."


def derain(
    path: Path,
    network: Network,
    *,
    results: Path,
    output: Path | None = None,
    threads: int = 1,
    skip_bad: bool = False,
    title: str = "",
    words: Mapping[str, str],
    notes: Sequence[str] = (),
) -> tuple[str, Path]:
    """Derain an image, the images of a folder, or a video.

    Args:
        results: without ``output``, the results go to ``results/<name of the input>/derained``, with a page beside.
        output: folder for the results alone, or the file for a single one.
        threads: that read, and as many that write.
        skip_bad: leave out images that cannot be read.
        title, words, notes: of the page; ``words`` are headings for the labels ``real_A`` and ``fake_B``.

    Returns:
        A line about number and speed, and the page or the place of the results.

    Raises:
        UserError: of find_inputs, give_places, derain_pictures or derain_video. What was done until then is in its
            place, and on the page.
    """
    folder = results / input_name(path)
    inputs = find_inputs(path, not_below=output or folder, skip_bad=skip_bad)
    jobs = give_places(inputs, output or folder / PICTURES)
    page = PicturePage(folder) if output is None else None
    report = Report()
    with ExitStack() as stack:
        if page is not None:
            about = notes if inputs.is_video else (*notes, WHERE_INPUTS_ARE)
            stack.callback(_write_page, page, report, f"{title}: {path.name or path}", words, about)
        stack.enter_context(_memory_told())
        if inputs.is_video:
            _derain_video(jobs[0], network, report, page)
        else:
            _derain_images(jobs, network, report, page, threads=threads, skip_bad=skip_bad)
    for note, count in report.notes.items():
        logger.warning("%d of %d: %s", count, report.count, note)
    place = output or folder / "index.html"
    return report.summary, report.last if place == jobs[0].target and report.last else place


def _derain_images(
    jobs: Sequence[Job], network: Network, report: Report, page: PicturePage | None, *, threads: int, skip_bad: bool
) -> None:
    show = None if page is None else page.row
    with _progress(len(jobs), "image") as bar:
        derain_pictures(jobs, network, report, threads=threads, skip_bad=skip_bad, show=show, progress=bar.update)


def _derain_video(job: Job, network: Network, report: Report, page: PicturePage | None) -> None:
    def show(name: str, before: np.ndarray, after: np.ndarray) -> None:
        if page is not None:
            report.rows.append(page.frame_row(name, before, after))

    with _progress(None, "frame") as bar:

        def progress(total: int | None, count: int) -> None:
            bar.total = total
            bar.update(count)

        derain_video(job, network, report, show=show, progress=progress)


def _progress(total: int | None, unit: str) -> Any:
    """A bar on a terminal, nothing elsewhere."""
    return tqdm(total=total, desc="derain", unit=unit, disable=None)


@contextmanager
def _memory_told() -> Iterator[None]:
    """Say in one sentence that the memory ran out beside the network, which knows a way out itself."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            "--input: out of memory while reading or writing; lower --num_threads and --batch_size, or cut the largest "
            "picture."
        ) from error


def _write_page(page: PicturePage, report: Report, title: str, words: Mapping[str, str], notes: Sequence[str]) -> None:
    """Show what is done, also if something stopped the rest."""
    if report.rows:
        page.write(report.rows, title=title, words=words, notes=notes)


class PicturePage:
    """Rows for the page in ``folder``, which names the inputs where they are instead of copying them.

    Files that browsers do not show, such as TIFF, get an 8-bit preview next to the page.
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
        """The row of one frame of a video; both images [H, W, 3] uint8 are saved next to the page."""
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
