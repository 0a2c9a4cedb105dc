"""A video through the network frame by frame; FFmpeg keeps everything else as it was."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from fractions import Fraction
from functools import partial
from itertools import islice, repeat, takewhile

import numpy as np
from torch import Tensor

from data.derain.ffmpeg import Coding, Decoder, Encoder, Film, Frame, Tracks, choose_tracks, join, probe
from data.derain.inputs import Job
from data.derain.pictures import GRAY, Network, Report, with_colors
from data.derain.pipeline import Clock, Task, WriteBehind, read_ahead
from util.errors import UserError
from util.files import cannot_write
from util.pixels import from_tensor, luma, to_eight_bit, to_tensor

logger = logging.getLogger(__name__)

FRAMES_SHOWN = 8
UNKNOWN_COUNT = 400  # frames assumed where the file does not say, to choose those to show

ShowFrame = Callable[[str, np.ndarray, np.ndarray], None]
"""Takes a frame's name and its [H, W, 3] uint8 pixels before and after."""


def derain_video(
    job: Job,
    network: Network,
    report: Report,
    *,
    show: ShowFrame = lambda name, before, after: None,
    progress: Callable[[int | None, int], object] = lambda total, count: None,
) -> None:
    """Derain every frame of a video and write it as the same kind of file.

    Frames are RGB of 8 or 16 bits, and upright. The picture is encoded at a high quality with the source's colors,
    depth and times; sound, subtitles, chapters and metadata are copied, or encoded anew where the container does not
    hold them. What cannot be kept is logged before the work begins. The file appears when it is whole. If something
    ends the work early, the part that is done appears as ``<name>.partial<suffix>``.

    Args:
        show: gets some frames, spread over the video.
        progress: called with the expected number of frames and the number of those that have just been done.

    Raises:
        UserError: there is no FFmpeg, the file is no readable video, or the result cannot be written.
    """
    film = probe(job.source)
    suffix = job.target.suffix.lower()
    coding = Coding.of(film, suffix)
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(job.target, error) from error
    picture, unfinished = (job.target.with_name(f".{secrets.token_hex(8)}{suffix}") for _ in range(2))
    with ExitStack() as stack:
        stack.callback(picture.unlink, missing_ok=True)
        stack.callback(unfinished.unlink, missing_ok=True)
        tracks = choose_tracks(film, unfinished)
        for note in (*coding.losses(film), *tracks.notes):
            logger.warning("'%s': %s", film.path, note)
        decoder = Decoder(film)
        stack.callback(decoder.close)
        encoder = Encoder(film, coding, picture)
        stack.callback(encoder.close)

        def finish(tracks: Tracks, *, cut: bool = False) -> bool:
            start = Fraction(0) if coding.counted else decoder.start
            return join(film, picture, unfinished, tracks, start, length=encoder.length if cut else None)

        try:
            _convert(film, decoder, encoder, network, report, show, progress)
            encoded = encoder.finish()
        except OSError:  # the encoder ended
            encoded = False
        except BaseException:
            part = job.target.with_name(f"{job.target.stem}.partial{job.target.suffix}")
            if encoder.finish() and finish(tracks, cut=True):
                unfinished.replace(part)
                logger.warning("stopped after %d frames, which are in '%s'", encoder.frames, part)
            raise
        whole = encoded and finish(tracks)
        if encoded and not whole:
            logger.warning("'%s': FFmpeg could not copy sound and other tracks; only the picture is kept", film.path)
            whole = finish(Tracks())
        if not whole:
            raise UserError(f"'{film.path}': cannot be made into '{job.target}' ({encoder.last_words}).")
        for clause in decoder.damage():
            logger.warning("'%s': %s", film.path, clause)
        unfinished.replace(job.target)


def _convert(
    film: Film,
    decoder: Decoder,
    encoder: Encoder,
    network: Network,
    report: Report,
    show: ShowFrame,
    progress: Callable[[int | None, int], object],
) -> None:
    """Decoding, network and encoding at the same time, each in order."""
    pixels = film.size[0] * film.size[1]
    step = max((film.count or UNKNOWN_COUNT) // FRAMES_SHOWN, 1)
    clock = Clock()

    def finish(batch: list[Frame], outputs: list[Tensor]) -> int:
        for frame, output in zip(batch, outputs, strict=True):
            derained = _pixels(output, frame.pixels, network)
            encoder.encode(Frame(derained, frame.time))
            number = report.count
            if number % step == 0 and number // step < FRAMES_SHOWN:
                show(f"frame {number:06d}", to_eight_bit(frame.pixels), to_eight_bit(derained))
            report.count += 1
        return len(batch)

    frames = iter(decoder)
    with (
        ThreadPoolExecutor(1) as reader,
        ThreadPoolExecutor(1) as writer,
        WriteBehind[int](writer, lambda count: progress(film.count, count)) as behind,
    ):
        reads = repeat(Task(pixels, lambda: next(frames, None)))
        decoded = takewhile(lambda frame: frame is not None, read_ahead(reader, reads))
        for batch in _batches(decoded, network.batch_size):
            with clock.network():
                outputs = network([_tensor(frame.pixels, network) for frame in batch])
            behind.submit(Task(pixels * len(batch), partial(finish, batch, outputs)))
    report.summary = clock.summary(report.count, "frames")


def _batches(frames: Iterable[Frame | None], size: int) -> Iterator[list[Frame]]:
    remaining = iter(frames)
    while batch := [frame for frame in islice(remaining, size) if frame is not None]:
        yield batch


def _tensor(pixels: np.ndarray, network: Network) -> Tensor:
    image = to_tensor(pixels)[None]
    return luma(image) if network.channels == GRAY else image


def _pixels(output: Tensor, before: np.ndarray, network: Network) -> np.ndarray:
    """[H, W, 3] of the type of ``before``."""
    if network.channels == GRAY and output.shape[1] == GRAY:
        output = with_colors(output, to_tensor(before)[None])
    values = from_tensor(output, before.dtype)
    return values if values.shape[2] == before.shape[2] else np.repeat(values, before.shape[2], axis=2)
