"""A video through the network frame by frame; the sound and the times of the frames stay as they are."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import repeat, takewhile
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from data.derain.inputs import Job
from data.derain.network import GREY, Network, with_colours
from data.derain.pictures import Report
from data.derain.pipeline import Clock, Task, WriteBehind, read_ahead
from util.errors import UserError
from util.files import cannot_write
from util.images import to_uint8
from util.pixels import luma, to_tensor

FRAMES_SHOWN = 8
UNKNOWN_COUNT = 400  # frames assumed where the file does not say, to choose those to show
DEFAULT_RATE = Fraction(25)
CODECS = {".webm": "libvpx-vp9"}
USUAL_CODEC = "libx264"
QUALITY = {"libx264": {"crf": "16", "preset": "medium"}, "libvpx-vp9": {"crf": "20", "b": "0", "row-mt": "1"}}
"""Constant quality, nearly without visible loss."""

WITHOUT_TIMES = (".avi",)  # containers that hold no times of frames but only their order and rate
IN_ORDER = {"bf": "0"}

COLOUR_TAGS = ("color_range", "colorspace", "color_primaries", "color_trc")

ShowFrame = Callable[[str, np.ndarray, np.ndarray], None]
"""Takes a frame's name and its [H, W, 3] uint8 pixels before and after."""


@dataclass(frozen=True)
class Piece:
    """What comes out of a file next: a packet of sound, or a frame with its [H, W, 3] uint8 pixels."""

    origin: Any
    pixels: np.ndarray | None = None


def derain_video(
    job: Job,
    network: Network,
    report: Report,
    *,
    show: ShowFrame = lambda name, before, after: None,
    progress: Callable[[int], object] = lambda count: None,
) -> None:
    """Derain every frame of a video and write it as the same kind of file.

    Frames are 8-bit RGB and upright; H.264 comes out (VP9 in ``.webm``), at a high quality. The frames' times, the
    tags of their colours and the sound are copied. The file appears when it is whole.

    Args:
        show: gets some frames, spread over the video.
        progress: called with the number of frames that have just been done.

    Raises:
        UserError: PyAV is not installed, the file is no readable video, or the result cannot be written.
    """
    av = import_av()
    unfinished = job.target.with_name(f".{secrets.token_hex(8)}{job.target.suffix}")
    with _opened(av, job.source) as source:
        try:
            size = _first_frame(av, job.source).shape[:2]
            job.target.parent.mkdir(parents=True, exist_ok=True)
            with av.open(str(unfinished), "w") as container:
                _Conversion(source, _Sink(av, container, source, size), network, report).run(show, progress)
            unfinished.replace(job.target)
        except av.FFmpegError as error:
            reason = error.strerror or type(error).__name__
            raise UserError(f"'{job.source}': cannot be made into '{job.target}' ({reason}).") from error
        except OSError as error:
            raise cannot_write(job.target, error) from error
        finally:
            unfinished.unlink(missing_ok=True)


def import_av() -> Any:
    """PyAV, the optional package; :class:`UserError` if it is missing."""
    try:
        import av
    except ImportError as error:
        raise UserError("--input is a video, which needs the package PyAV; install it with: pip install av") from error
    return av


def frame_count(path: Path) -> int | None:
    """About how many frames a video has; None if its file does not say."""
    with _opened(import_av(), path) as source:
        return _count(source.streams.video[0])


def _opened(av: Any, path: Path) -> Any:
    """The container, sure to hold pictures; the caller closes it."""
    try:
        source = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        reason = error.strerror or type(error).__name__
        raise UserError(f"'{path}' cannot be read as a video ({reason}); repair or convert it.") from error
    if not source.streams.video:
        source.close()
        raise UserError(f"'{path}' holds no pictures, only sound; give a video.")
    return source


def _first_frame(av: Any, path: Path) -> np.ndarray:
    with _opened(av, path) as source:
        for frame in source.decode(source.streams.video[0]):
            return _pixels(frame)
    raise UserError(f"'{path}' holds not a single frame; repair or convert it.")


def _pixels(frame: Any) -> np.ndarray:
    """[H, W, 3] uint8, upright."""
    return upright(frame.to_ndarray(format="rgb24"), frame.rotation)


def _count(video: Any) -> int | None:
    if video.frames:
        return int(video.frames)
    if video.duration and video.average_rate:
        return round(video.duration * video.time_base * video.average_rate)
    return None


class _Conversion:
    """One video on its way: decoding, network and encoding at the same time, each in order."""

    def __init__(self, source: Any, sink: _Sink, network: Network, report: Report) -> None:
        self._source, self._sink, self._network, self._report = source, sink, network, report
        self._video = source.streams.video[0]
        self._step = max((_count(self._video) or UNKNOWN_COUNT) // FRAMES_SHOWN, 1)

    def run(self, show: ShowFrame, progress: Callable[[int], object]) -> None:
        pixels = self._video.codec_context.width * self._video.codec_context.height
        clock = Clock()
        pieces = self._pieces()
        with (
            ThreadPoolExecutor(1) as reader,
            ThreadPoolExecutor(1) as writer,
            WriteBehind[int](writer, progress) as behind,
        ):
            reads = repeat(Task(pixels, lambda: next(pieces, None)))
            decoded = takewhile(lambda piece: piece is not None, read_ahead(reader, reads))
            for batch in self._batches(decoded):
                images = [self._tensor(piece.pixels) for piece in batch if piece.pixels is not None]
                with clock.network():
                    outputs = self._network(images) if images else []
                behind.submit(Task(pixels * len(batch), partial(self._finish, batch, outputs, show)))
        self._sink.flush()
        self._report.summary = clock.summary(self._report.count, "frames")

    def _pieces(self) -> Iterator[Piece]:
        sounds = [stream for stream in self._source.streams.audio if stream in self._sink.copied]
        for packet in self._source.demux(self._video, *sounds):
            if packet.stream is not self._video and packet.stream.type == "audio":
                if packet.dts is not None:  # None: the empty packet that ends a stream
                    yield Piece(packet)
                continue
            for frame in packet.decode():
                yield Piece(frame, _pixels(frame))

    def _batches(self, pieces: Iterable[Piece | None]) -> Iterator[list[Piece]]:
        """As many frames as the network takes at once, with the sound between them."""
        batch: list[Piece] = []
        frames = 0
        for piece in pieces:
            assert piece is not None
            batch.append(piece)
            frames += piece.pixels is not None
            if frames == self._network.batch_size:
                yield batch
                batch, frames = [], 0
        if batch:
            yield batch

    def _tensor(self, pixels: np.ndarray) -> Tensor:
        image = to_tensor(pixels)[None]
        return luma(image) if self._network.channels == GREY else image

    def _finish(self, batch: list[Piece], outputs: list[Tensor], show: ShowFrame) -> int:
        remaining = iter(outputs)
        for piece in batch:
            if piece.pixels is None:
                self._sink.copy(piece.origin)
                continue
            output = next(remaining)
            if self._network.channels == GREY and output.shape[1] == GREY:
                output = with_colours(output, to_tensor(piece.pixels)[None])
            derained = to_uint8(output)
            self._sink.encode(derained, piece.origin)
            number = self._report.count
            if number % self._step == 0 and number // self._step < FRAMES_SHOWN:
                show(f"frame {number:06d}", piece.pixels, derained)
            self._report.count += 1
        return len(outputs)


def upright(pixels: np.ndarray, rotation: int) -> np.ndarray:
    """Turn a frame [H, W, 3] by what its file says it must be turned by to be shown, in degrees anticlockwise."""
    return np.ascontiguousarray(np.rot90(pixels, round(rotation / 90) % 4))


class _Sink:
    """The video that is written: frames encoded anew, sound as it comes."""

    def __init__(self, av: Any, container: Any, source: Any, size: tuple[int, int]) -> None:
        """``size`` is the frames' height and width, which must be known before anything is written."""
        self._av, self._container = av, container
        suffix = Path(container.name).suffix.lower()
        video = source.streams.video[0]
        rate = video.average_rate or video.guessed_rate or DEFAULT_RATE
        in_order = IN_ORDER if suffix in WITHOUT_TIMES else {}
        codec = CODECS.get(suffix, USUAL_CODEC)
        self._video = container.add_stream(codec, rate=rate, options={**QUALITY[codec], **in_order})
        self._video.height, self._video.width = size
        self._video.pix_fmt = "yuv420p" if size[0] % 2 == size[1] % 2 == 0 else "yuv444p"
        self._counted = 1 / rate if in_order else None
        self._frames = 0
        self._video.codec_context.time_base = self._counted or video.time_base
        for tag in COLOUR_TAGS:
            setattr(self._video.codec_context, tag, getattr(video.codec_context, tag))
        container.metadata.update(source.metadata)
        self.copied = {stream: container.add_stream_from_template(stream) for stream in source.streams.audio}

    def encode(self, pixels: np.ndarray, origin: Any) -> None:
        """Add a frame with the time and the colour space of ``origin``, the frame that it was made from."""
        stream = self._video
        frame = self._av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
            format=stream.pix_fmt, dst_colorspace=origin.colorspace, dst_color_range=origin.color_range
        )
        if self._counted is None:
            frame.pts, frame.time_base = origin.pts, origin.time_base
        else:
            frame.pts, frame.time_base = self._frames, self._counted
        self._frames += 1
        self._container.mux(stream.encode(frame))

    def copy(self, packet: Any) -> None:
        """Pass a packet of sound on."""
        packet.stream = self.copied[packet.stream]
        self._container.mux(packet)

    def flush(self) -> None:
        """Write what the encoder still holds."""
        self._container.mux(self._video.encode())
