"""Pictures through the network, with their decoding and encoding beside it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from data.derain.inputs import Job
from data.derain.pipeline import Clock, Task, WriteBehind, read_ahead
from data.files import UnreadableImage
from util.errors import UserError
from util.files import fitting_name
from util.pages.manifest import Row
from util.pictures import SUFFIXES, Picture, UnreadablePicture, read_picture, write_picture
from util.pixels import COLOR_CHANNELS, luma

logger = logging.getLogger(__name__)

GRAY = 1


@dataclass(frozen=True)
class Network:
    """Something that derains images [N, ``channels``, H, W] in [-1, 1] on the CPU.

    ``channels`` is 1 or 3, ``batch_size`` how many images of one size it gets together at most.
    """

    translate: Callable[[Tensor], Tensor]
    channels: int = COLOR_CHANNELS
    batch_size: int = 1

    def __post_init__(self) -> None:
        """Raises UserError for a network that no picture fits."""
        if self.channels not in (GRAY, COLOR_CHANNELS):
            raise UserError(f"--input: pictures have 1 channel (gray) or 3, but this network takes {self.channels}.")

    def __call__(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Derain images [1, C, H, W] of one size; a list of as many."""
        together = images[0] if len(images) == 1 else torch.cat(list(images))  # a copy, which may be large
        return list(self.translate(together).split(1))


def with_colors(output: Tensor, source: Tensor) -> Tensor:
    """Give the output of a gray network the colors of its source.

    What the network changed in the luma is changed in red, green and blue alike, which leaves the chroma as it was.

    Args:
        output: [1, 1, H, W] in [-1, 1], made from the luma of ``source``.
        source: [1, 3, H, W].
    """
    return source + (output - luma(source))


Show = Callable[[Job, Picture, Path, Picture], Row]
"""From a job, its input, and its result's file and content to a row of the result page."""


@dataclass
class Report:
    """What became of the files: how many are done, rows for a page, and what is not as it was, with its count.

    ``last`` is the newest result, whose name may differ from its job's by an extension that fits its format.
    """

    count: int = 0
    last: Path | None = None
    rows: list[Row] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    summary: str = ""


class Loaded(NamedTuple):
    """A picture that is ready for the network: [1, C, H, W]."""

    job: Job
    picture: Picture
    tensor: Tensor


class Written(NamedTuple):
    """A result in its place, its row on the page if there is one, and what is not as it was."""

    target: Path
    row: Row | None
    notes: tuple[str, ...]


def derain_pictures(
    jobs: Sequence[Job],
    network: Network,
    report: Report,
    *,
    threads: int = 1,
    skip_bad: bool = False,
    show: Show | None = None,
    progress: Callable[[int], object] = lambda count: None,
) -> None:
    """Derain every picture and write it under its name, of the same kind; ``report`` grows with each.

    Args:
        threads: that read, and as many that write.
        skip_bad: go on without files that cannot be read.
        show: makes a row of the page.
        progress: called with the number of pictures that have just been done.

    Raises:
        UserError: a picture cannot be read or written; those before it are written and in the report.
    """

    def written(result: Written) -> None:
        report.count += 1
        report.last = result.target
        report.rows += [] if result.row is None else [result.row]
        report.notes.update(result.notes)
        progress(1)

    if network.batch_size > 1:
        jobs = sorted(jobs, key=lambda job: job.size)
    clock = Clock()
    taken = frozenset(job.target for job in jobs)
    with (
        ThreadPoolExecutor(threads) as readers,
        ThreadPoolExecutor(threads) as writers,
        WriteBehind(writers, written) as behind,
    ):
        tasks = (Task(_pixels(job), partial(_load, job, network.channels)) for job in jobs)
        readable = _readable(read_ahead(readers, tasks), skip_bad=skip_bad)
        for batch in _batches(readable, network.batch_size):
            with clock.network():
                outputs = network([loaded.tensor for loaded in batch])
            while batch:  # nothing that was handed on is kept here: it may be large
                job, picture, _ = batch.pop(0)
                gray = network.channels == GRAY
                finish = partial(_finish, job, picture, outputs.pop(0), show, taken, gray=gray)
                behind.submit(Task(_pixels(job), finish))
                del picture, finish
    report.summary = clock.summary(report.count, "images")


def _pixels(job: Job) -> int:
    return job.size[0] * job.size[1]


def _load(job: Job, channels: int) -> Loaded | UnreadablePicture:
    """Decode; an error is returned, so that the pictures before it are still computed."""
    try:
        picture = read_picture(job.source)
    except UnreadablePicture as error:
        return error
    return Loaded(job, picture, picture.tensor(channels))


def _readable(results: Iterable[Loaded | UnreadablePicture], *, skip_bad: bool) -> Iterator[Loaded]:
    for result in results:
        if isinstance(result, Loaded):
            yield result
            continue
        if not skip_bad:
            raise UnreadableImage(result.path, result.reason) from result.__cause__
        logger.warning("--skip_bad leaves out '%s' (%s)", result.path, result.reason)


def _batches(loaded: Iterable[Loaded], batch_size: int) -> Iterator[list[Loaded]]:
    """Neighbors of equal size together."""
    batch: list[Loaded] = []
    for each in loaded:
        if batch and each.tensor.shape != batch[0].tensor.shape:
            yield batch
            batch = []
        batch.append(each)
        if len(batch) == batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


def _finish(
    job: Job, before: Picture, output: Tensor, show: Show | None, taken: Collection[Path], *, gray: bool
) -> Written:
    """Write a result: of ``photo.gif`` as ``photo.gif.png``, or ``photo.gif~2.png`` where that is another's place."""
    if gray and before.channels > GRAY and output.shape[1] == GRAY:
        output = with_colors(output, before.tensor())
    after = before.with_tensor(output)
    target = job.target
    if target.suffix.lower() not in SUFFIXES[after.format]:
        names = chain([target.name], (f"{target.name}~{number}" for number in count(2)))
        places = (fitting_name(target.parent / (name + after.suffix)) for name in names)
        target = next(place for place in places if place not in taken)
    write_picture(after, target)
    return Written(target, None if show is None else show(job, before, target, after), before.notes)
