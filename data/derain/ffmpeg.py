"""What FFmpeg does for a video: look at it, decode its picture, encode a new one, and put that next to all the rest.

FFmpeg runs as a program, with argument lists and pipes and without a shell: the one of the package imageio-ffmpeg,
else that of the system.
"""

from __future__ import annotations

import functools
import queue
import re
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from util.errors import UserError

DEFAULT_RATE = Fraction(25)
HIGHEST_RATE = 240  # frames per second; a file that claims more does not know its rate
LATE = 10  # seconds after the stated end from which a frame's time is not believed
HD_HEIGHT = 720  # from which players take an untagged video for BT.709
NANOSECONDS = 10**9

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,h264,hevc,m4v,mjpeg,ivf,nut,mxf,dv,"
    "av1,obu,gif,apng"
)
"""Demuxers that read one file alone. Playlists, which name further files and addresses, are not among them."""

X264 = ("-c:v", "libx264", "-crf", "16", "-preset", "medium")
X265 = ("-c:v", "libx265", "-crf", "17", "-preset", "medium", "-x265-params", "log-level=error")
VP9 = ("-c:v", "libvpx-vp9", "-crf", "20", "-b:v", "0", "-row-mt", "1")
"""Constant quality, nearly without visible loss."""

TO_RGB, FROM_RGB = "flags=neighbor+accurate_rnd+full_chroma_int", "flags=area+accurate_rnd"
"""Chroma is repeated on the way in and averaged on the way out, so that an unchanged frame keeps its values."""

UNKNOWN = "unknown"
MATRICES = ("bt709", "smpte170m", "bt470bg", "bt2020nc", "fcc", "smpte240m")
"""Color matrices that FFmpeg's scaler computes with."""

SUBTITLES = {".mp4": "mov_text", ".m4v": "mov_text", ".mov": "mov_text", ".webm": "webvtt", ".mkv": "srt"}
"""What text subtitles become in each container."""

APPLE = (".mp4", ".m4v", ".mov")  # where QuickTime plays HEVC under one tag only
REWRITTEN = ("tmcd", "bin_data (text")  # tracks of time codes and of chapter titles, which FFmpeg makes anew
NO_TIME = "NOPTS"


class Stream(NamedTuple):
    """One stream of a file: ``kind`` is FFmpeg's word (Video, Audio, Subtitle, Data, Attachment)."""

    number: int
    kind: str
    description: str

    @property
    def is_cover(self) -> bool:
        """Whether it is a still picture that stands for the file."""
        return "(attached pic)" in self.description

    def __str__(self) -> str:
        """As in "audio track 2 (opus)"."""
        return f"{self.kind.lower()} track {self.number} ({re.split('[ ,(]', self.description, maxsplit=1)[0]})"


@dataclass(frozen=True)
class Film:
    """What FFmpeg says about a video, in its words for colors and pixels.

    ``size`` is width and height, upright. ``picture`` is the stream that is derained, ``others`` are the rest.
    """

    path: Path
    picture: Stream
    others: tuple[Stream, ...]
    size: tuple[int, int]
    pixel_format: str
    depth: int
    has_alpha: bool
    aspect: str
    range: str
    matrix: str
    primaries: str
    transfer: str
    fields: str
    time_base: Fraction
    rate: Fraction
    seconds: float | None

    @property
    def count(self) -> int | None:
        """About how many frames there are; None if the file does not say."""
        return None if self.seconds is None else max(1, round(self.seconds * self.rate))

    @property
    def is_rgb(self) -> bool:
        """Whether its pixels are red, green and blue."""
        return self.pixel_format.startswith(("rgb", "bgr", "gbr", "argb", "abgr", "0", "x2", "pal"))

    @property
    def computed_matrix(self) -> str:
        """The matrix to convert with, also where the file names none."""
        if self.is_rgb or self.matrix not in (*MATRICES, UNKNOWN):
            return "bt709"
        if self.matrix != UNKNOWN:
            return self.matrix
        return "bt709" if self.size[1] >= HD_HEIGHT else "smpte170m"


class Coding(NamedTuple):
    """How a result is encoded: arguments for FFmpeg, bits per channel, and whether chroma has full resolution.

    ``counted``: the container knows the order and the rate of its frames, but no times.
    """

    arguments: tuple[str, ...]
    depth: int
    full_chroma: bool = False
    odd_sizes: bool = False
    counted: bool = False

    @classmethod
    def of(cls, film: Film, suffix: str) -> Coding:
        """What a file of this suffix gets."""
        full = film.is_rgb or "444" in film.pixel_format
        deep = 10 if film.depth > 8 else 8
        if suffix == ".webm":
            return cls(VP9, deep, full, odd_sizes=True)
        if suffix == ".avi":
            return cls((*X264, "-bf", "0"), 8, full, odd_sizes=full, counted=True)
        if deep > 8:
            return cls((*X265, "-tag:v", "hvc1") if suffix in APPLE else X265, 10, full, odd_sizes=full)
        return cls((*X264, "-flags", "+ilme+ildct") if film.fields else X264, 8, full, odd_sizes=full)

    @property
    def pixel_format(self) -> str:
        """FFmpeg's name."""
        return ("yuv444p" if self.full_chroma else "yuv420p") + ("10le" if self.depth > 8 else "")

    def losses(self, film: Film) -> Iterator[str]:
        """What of the picture cannot be kept, one clause each."""
        width, height = film.size
        if film.depth > self.depth:
            yield f"the {film.depth} bits of its colors become {self.depth}"
        if film.is_rgb:
            yield f"its colors ({film.pixel_format}) become YUV 4:4:4"
        elif re.search("440|422|411|410", film.pixel_format):
            yield f"its colors ({film.pixel_format}) become YUV 4:2:0, which every player shows"
        if not film.is_rgb and film.matrix not in (*MATRICES, UNKNOWN):
            yield f"its color matrix {film.matrix} becomes bt709"
        if film.has_alpha:
            yield "its transparency is left out"
        if film.transfer == "smpte2084":
            yield "its notes on the mastering display are left out; the HDR picture is kept"
        if not self.odd_sizes and (width % 2 or height % 2):
            yield f"{width}×{height} pixels become {width + width % 2}×{height + height % 2}; the last line is repeated"
        if self.counted:
            yield "AVI holds no times of frames, so they follow each other at one rate"


class Tracks(NamedTuple):
    """What goes into the result next to the picture: arguments for FFmpeg; and what is left out or encoded anew."""

    arguments: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Frame(NamedTuple):
    """One frame: [H, W, 3] uint8 or uint16 RGB, and when it is shown, in seconds after the first."""

    pixels: np.ndarray
    time: Fraction


def ffmpeg() -> str:
    """The program; :class:`UserError` if there is none."""
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise UserError("--input is a video, which needs FFmpeg: pip install imageio-ffmpeg") from error


def probe(path: Path) -> Film:
    """Look at the head and the first frame of a video.

    Raises:
        UserError: there is no FFmpeg, or the file is no readable video.
    """
    said = _run(*_reading(path), "-map", "0:V:0", "-frames:v", "1", "-vf", "showinfo=checksum=0", "-f", "null", "-")[1]
    described = said.split("[info] Stream mapping:")[0]
    streams = [
        Stream(int(number), kind, description)
        for number, kind, description in re.findall(
            r"^\[info\]   Stream #0:(\d+)(?:\[\w+\])?(?:\([^)]*\))?: (\w+): (.*)$", described, re.M
        )
    ]
    picture = next((stream for stream in streams if stream.kind == "Video" and not stream.is_cover), None)
    if picture is None and any(stream.kind == "Audio" for stream in streams):
        raise UserError(f"'{path}' holds no pictures, only sound; give a video.")
    if picture is None:
        raise UserError(f"'{path}' cannot be read as a video ({_reason(said)}); repair or convert it.")
    config = re.search(r"config in time_base: (\d+)/(\d+), frame_rate: (\d+)/(\d+)", said)
    frame = re.search(r" n: .* fmt:(\S+) .*sar:(\S+) s:(\d+)x(\d+) i:(\S)", said)
    tags = re.search(r"color_range:(\S+) color_space:(\S+) color_primaries:(\S+) color_trc:(\S+)", said)
    if config is None or frame is None or tags is None:
        raise UserError(f"'{path}' holds not a single frame ({_reason(said)}); repair or convert it.")
    stated = _stated_colors(picture.description)
    range_, matrix, primaries, transfer = (
        tag if tag != UNKNOWN else other for tag, other in zip(tags.groups(), stated, strict=True)
    )
    time_base, rate = (Fraction(int(config[at]), int(config[at + 1]) or 1) for at in (1, 3))
    duration = re.search(r"Duration: (\d+):(\d+):(\d+\.\d+)", said)
    depth, has_alpha = _depth_and_alpha(frame[1])
    return Film(
        path=path,
        picture=picture,
        others=tuple(stream for stream in streams if stream is not picture),
        size=(int(frame[3]), int(frame[4])),
        pixel_format=frame[1],
        depth=depth,
        has_alpha=has_alpha,
        aspect=frame[2],
        range="pc" if range_ == "pc" or frame[1].startswith("yuvj") else "tv",
        matrix=matrix,
        primaries=primaries,
        transfer=transfer,
        fields={"T": "tff", "B": "bff"}.get(frame[5], ""),
        time_base=time_base,
        rate=rate if 0 < rate <= HIGHEST_RATE else DEFAULT_RATE,
        seconds=int(duration[1]) * 3600 + int(duration[2]) * 60 + float(duration[3]) if duration else None,
    )


def _stated_colors(description: str) -> tuple[str, str, str, str]:
    """Range, matrix, primaries, transfer that a container states, as in "h264 (High), yuv420p(tv, bt709)"."""
    stated = [UNKNOWN] * 4
    for words in re.findall(r"\w\(([^()]*)\)", description):
        for word in words.split(", "):
            names = word.split("/")
            if word in ("tv", "pc"):
                stated[0] = word
            elif len(names) == 3:
                stated[1:] = names
            elif word in MATRICES:
                stated[1:] = [word] * 3
    return tuple(stated)  # type: ignore[return-value]


@functools.cache
def _depth_and_alpha(pixel_format: str) -> tuple[int, bool]:
    """Bits per channel, and whether one of them is alpha, by FFmpeg's table of pixel formats."""
    listed = subprocess.run([ffmpeg(), "-v", "error", "-pix_fmts"], capture_output=True, text=True, check=False).stdout
    row = re.search(rf"^\S+ {re.escape(pixel_format)} +(\d) +\d+ +([\d-]+)", listed, re.M)
    return (max(int(bits) for bits in row[2].split("-")), row[1] in "24") if row else (8, False)


def choose_tracks(film: Film, place: Path) -> Tracks:
    """Find out by trying how each other stream gets into a file like ``place``: copied, encoded anew, or not at all."""
    notes = []
    chosen: list[tuple[str, Stream]] = []
    others = [stream for stream in film.others if not any(word in stream.description for word in REWRITTEN)]
    copied = [("copy", stream) for stream in others if stream.kind != "Video" or stream.is_cover]
    if len(copied) == len(others) and _takes(film, place, copied):
        return Tracks(tuple(_mapped(copied)))
    for stream in others:
        anew = SUBTITLES.get(place.suffix, "") if stream.kind == "Subtitle" else ""
        if stream.kind == "Video" and not stream.is_cover:
            notes.append(f"{stream} is left out; only the first picture is derained")
        elif _takes(film, place, [("copy", stream)]):
            chosen.append(("copy", stream))
        elif stream.kind in ("Audio", "Subtitle") and _takes(film, place, [(anew, stream)]):
            chosen.append((anew, stream))
            notes.append(f"{stream} is encoded anew, because {place.suffix} does not hold it as it is")
        else:
            notes.append(f"{stream} is left out, because FFmpeg cannot put it into {place.suffix}")
    return Tracks(tuple(_mapped(chosen)), tuple(notes))


def _mapped(chosen: Sequence[tuple[str, Stream]], first: int = 1) -> list[str]:
    """Arguments for streams of the last input, which become output streams ``first`` …; no codec: the usual one."""
    arguments: list[str] = []
    for number, (codec, stream) in enumerate(chosen, first):
        arguments += ["-map", f"{first}:{stream.number}", f"-map_metadata:s:{number}", f"{first}:s:{stream.number}"]
        arguments += [f"-c:{number}", codec] if codec else []
    return arguments


def _takes(film: Film, place: Path, chosen: Sequence[tuple[str, Stream]]) -> bool:
    return not chosen or _run(*_reading(film.path), *_mapped(chosen, 0), "-t", "1", *_writing(place))[0] == 0


def join(film: Film, picture: Path, target: Path, tracks: Tracks, start: Fraction, *, length: Fraction | None) -> bool:
    """Put an encoded picture, which starts at ``start``, and the source's other streams into one file.

    ``length`` in seconds cuts what is longer. Returns whether it worked.
    """
    code, _ = _run(
        *("-itsoffset", f"{float(start):.9f}", "-i", f"file:{picture}", *_reading(film.path)),
        *("-map", "0:v", "-c:v:0", "copy", *tracks.arguments),
        *("-map_metadata", "1", "-map_metadata:s:0", f"1:s:{film.picture.number}", "-metadata:s:0", "encoder="),
        *("-map_chapters", "1"),
        *(("-t", f"{float(start + length):.6f}") if length is not None else ()),
        *(("-avoid_negative_ts", "disabled") if target.suffix == ".avi" else ()),  # or its frames would lose step
        *_writing(target),
    )
    return code == 0


def _reading(path: Path) -> list[str]:
    """Arguments that read a file, whatever its name looks like, and no other file."""
    return ["-protocol_whitelist", "file,pipe", "-format_whitelist", FORMATS, "-i", f"file:{path}"]


def _writing(path: Path) -> list[str]:
    return [*(["-f", "mp4"] if path.suffix == ".m4v" else []), "-y", f"file:{path}"]


def _run(*arguments: str) -> tuple[int, str]:
    """Exit code and messages, each line with its level in front."""
    command = [ffmpeg(), "-nostdin", "-hide_banner", "-v", "level+info", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.returncode, done.stderr.decode(errors="replace")


def _reason(said: str) -> str:
    """The first error of a file that could not be opened."""
    errors = re.findall(r"^(?:\[[^\]]*@[^\]]*\] )*\[(?:error|fatal)\] (?:Error opening input: )?(.*)$", said, re.M)
    telling = [error for error in errors if not error.startswith(("Error opening input file", "Not detecting"))]
    return (telling or ["no reason given"])[0].rstrip(".").lower()


class _Process:
    """FFmpeg at work, in a session of its own, so that Ctrl+C on a terminal reaches only us, who end it in order."""

    def __init__(self, *arguments: str, stdin: int, stdout: int) -> None:
        self.last_words = "no reason given"
        self._process = subprocess.Popen(
            [ffmpeg(), "-hide_banner", "-nostdin", *arguments],
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._hear(line.decode(errors="replace").strip())
        self._hear("")

    def _hear(self, line: str) -> None:
        """Take in one message; an empty one at the end."""
        self.last_words = re.sub(r"^(\[[^\]]*\] )+", "", line) or self.last_words

    def wait(self) -> bool:
        """Wait until it ends; whether it ended well."""
        self._listener.join()
        return self._process.wait() == 0

    def close(self) -> None:
        """End it, whether or not it is done."""
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if stream is not None:
                    stream.close()
        self.wait()


class Decoder(_Process):
    """The frames of a picture, one after the other; afterwards :meth:`damage` tells what was wrong with the file."""

    def __init__(self, film: Film) -> None:
        self.start = Fraction(0)  # when the first frame is shown, in seconds
        self._film = film
        self._frames = 0
        self._last = Fraction(-1)
        self._stamps: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._sizes: list[str] = []
        self._errors: list[str] = []
        self._packets = 0
        self._type = np.dtype("u1" if film.depth <= 8 else "<u2")
        computes = film.matrix in (*MATRICES, UNKNOWN) and not film.is_rgb
        tags = f",setparams=colorspace={film.computed_matrix}:range={film.range}" if computes else ""
        pixels = "rgb24" if self._type.itemsize == 1 else "rgb48le"
        super().__init__(
            *("-v", "level+verbose", *_reading(film.path), "-map", "0:V:0", "-fps_mode", "passthrough"),
            *("-vf", f"showinfo=checksum=0{tags},scale={TO_RGB},format={pixels}", "-f", "rawvideo", "-"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )

    def _hear(self, line: str) -> None:
        if found := re.search(r"\] n: *\d+ pts: *(\S+) .* s:(\d+x\d+)", line):
            self._stamps.put(found[1])
            if found[2] not in self._sizes:
                self._sizes.append(found[2])
        elif found := re.search(r"Input stream #0:\d+ \(video\): (\d+) packets read", line):
            self._packets = int(found[1])
        elif found := re.match(r"\[(?:\w+|in#.*|vist#.*) @ .*\[(?:error|fatal)\] (.*)", line):
            if "to muxer" not in found[1]:  # which complains of times that are put right here
                self._errors.append(found[1])
        elif not line:
            self._stamps.put(NO_TIME)

    def __iter__(self) -> Iterator[Frame]:
        width, height = self._film.size
        while True:
            pixels = np.empty((height, width, 3), self._type)
            if self._process.stdout.readinto(pixels.data.cast("B")) < pixels.nbytes:  # type: ignore[union-attr]
                return
            yield Frame(pixels, self._time(self._stamps.get()))

    def _time(self, stamp: str) -> Fraction:
        """When a frame is shown: as the file says, or right after the one before where that makes no sense."""
        time = None if stamp == NO_TIME else int(stamp) * self._film.time_base
        if self._frames == 0:
            self.start, time = time or Fraction(0), Fraction(0)
        else:
            time = None if time is None else time - self.start
            latest = self._film.seconds and self._film.seconds + LATE
            if time is None or time <= self._last or (latest and time > latest):
                time = self._last + 1 / self._film.rate
        self._frames += 1
        self._last = time
        return time

    def damage(self) -> list[str]:
        """What was wrong with the file, one clause each."""
        self.wait()
        clauses = []
        if len(self._sizes) > 1:
            clauses.append(f"its frames have the sizes {', '.join(self._sizes)}; all were scaled to the first")
        if self._errors:
            expected = max(self._packets, self._film.count or 0)
            lost = f"{expected - self._frames} of about {expected} frames are lost, " if expected > self._frames else ""
            clauses.append(f"is damaged: {lost}{self._frames} frames were read and are kept ({self._errors[0]})")
        return clauses


class Encoder(_Process):
    """Frames on their way into a picture file, ``target``, which can be read as far as it was written at any time.

    They are sent as an endless Matroska file, which holds the time of each.
    """

    def __init__(self, film: Film, coding: Coding, target: Path) -> None:
        self.frames = 0
        self.length = Fraction(0)  # seconds
        self._film, self._coding = film, coding
        time_base = 1 / film.rate if coding.counted else film.time_base
        super().__init__(
            *("-v", "error", "-f", "matroska", "-i", "pipe:0", "-vf", ",".join(_filters(film, coding))),
            *("-fps_mode", "passthrough", "-enc_time_base", f"{time_base.numerator}:{time_base.denominator}"),
            *coding.arguments,
            *(("-movflags", "+frag_keyframe+empty_moov") if target.suffix in APPLE else ()),
            *_writing(target),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )

    def encode(self, frame: Frame) -> None:
        """Add a frame.

        Raises:
            OSError: FFmpeg ended; :attr:`last_words` says why.
        """
        assert self._process.stdin is not None
        pixels, time = frame
        height, width = pixels.shape[:2]
        if not self._coding.odd_sizes and (height % 2 or width % 2):
            pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._coding.counted:
            time = self.frames / self._film.rate
        if self.frames == 0:
            self._process.stdin.write(matroska_head(pixels))
        self._process.stdin.write(matroska_frame(pixels, round(time * NANOSECONDS)))
        self.frames += 1
        self.length = time + 1 / self._film.rate

    def finish(self) -> bool:
        """Encode what is left; whether all went well."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        return self.wait()


def _filters(film: Film, coding: Coding) -> Iterator[str]:
    """From RGB to the source's colors, tags and shape of pixels."""
    matrix = film.computed_matrix
    full = film.range == "pc" and not film.is_rgb
    scaler = {"bt2020nc": "bt2020"}.get(matrix, matrix)
    yield f"scale=out_color_matrix={scaler}:out_range={'pc' if full else 'tv'}:{FROM_RGB}"
    yield f"format={coding.pixel_format}"
    tagged = matrix if film.is_rgb or film.matrix != UNKNOWN else UNKNOWN
    yield (
        f"setparams=colorspace={tagged}:color_primaries={film.primaries}:color_trc={film.transfer}"
        f":range={'pc' if full else 'tv'}"
    )
    if not film.aspect.startswith("0"):
        yield f"setsar={film.aspect}"
    if film.fields:
        yield f"setfield={film.fields}"


def matroska_head(pixels: np.ndarray) -> bytes:
    """The beginning of a Matroska file of uncompressed frames like ``pixels`` ([H, W, 3] uint8 or uint16)."""
    height, width = pixels.shape[:2]
    shape = _element("B0", _number(width)) + _element("BA", _number(height))
    video = _element("E0", shape + _element("2EB524", b"RGB" + bytes([24 * pixels.itemsize])))
    track = _element("D7", b"\1") + _element("73C5", b"\1") + _element("83", b"\1") + _element("86", b"V_UNCOMPRESSED")
    return (
        _element("1A45DFA3", _element("4282", b"matroska"))
        + bytes.fromhex("18538067 01FFFFFFFFFFFFFF")  # a segment of unknown length
        + _element("1549A966", _element("2AD7B1", b"\1"))  # times in nanoseconds
        + _element("1654AE6B", _element("AE", track + video))
    )


def matroska_frame(pixels: np.ndarray, nanoseconds: int) -> bytes:
    """One further frame of such a file: a cluster with a single block."""
    block = _element("A3", b"\x81\0\0\x80" + pixels.tobytes())
    return _element("1F43B675", _element("E7", _number(nanoseconds)) + block)


def _element(name: str, content: bytes) -> bytes:
    return bytes.fromhex(name) + (1 << 56 | len(content)).to_bytes(8, "big") + content


def _number(value: int) -> bytes:
    return value.to_bytes(8, "big")
