"""The whole job behind ``--input``."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data.derain.inputs import Job, find_inputs, give_places, input_name
from data.derain.network import Network
from data.derain.page import PICTURES, WHERE_INPUTS_ARE, PicturePage
from data.derain.pictures import Report, derain_pictures
from data.derain.video import derain_video
from util.engine.oom import is_out_of_memory
from util.errors import UserError

logger = logging.getLogger(__name__)


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
