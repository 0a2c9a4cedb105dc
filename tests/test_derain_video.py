"""Videos: frames, their times and the sound; skipped where PyAV is not installed."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from data.derain.inputs import Job
from data.derain.network import Network
from data.derain.pictures import Report
from data.derain.run import derain
from data.derain.video import derain_video, upright
from util.errors import UserError

RATE = Fraction(30000, 1001)
SIZE = (48, 64)  # height, width
FRAMES = 10
CODING_ERROR = 6.0  # mean grey levels that encoding twice may cost


def pyav() -> Any:
    return pytest.importorskip("av")


def identity(images: Tensor) -> Tensor:
    return images


def write_video(path: Path, *, sound: bool = True, size: tuple[int, int] = SIZE, codec: str = "libx264") -> Path:
    """Ten frames that brighten, in BT.709, with gaps of one and two frames between them."""
    av = pyav()
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=RATE)
        video.height, video.width = size
        video.pix_fmt = "yuv420p" if size[0] % 2 == 0 else "yuv444p"
        video.codec_context.colorspace = video.codec_context.color_primaries = 1
        video.codec_context.color_range = 1
        tone: Any = container.add_stream("aac", rate=44100) if sound else None
        ramp = np.linspace(0, 120, size[1])[None, :, None] * np.array([1.0, 0.5, 0.2])
        for number in range(FRAMES):
            pixels = np.broadcast_to(ramp + 8 * number, (*size, 3)).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame = frame.reformat(format=video.pix_fmt, dst_colorspace=1, dst_color_range=1)
            frame.pts = number + number // 3
            container.mux(video.encode(frame))
        for number in range(12) if tone else ():
            wave = np.sin(np.arange(1024) * 0.05, dtype=np.float32)[None]
            samples = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            samples.sample_rate, samples.pts = 44100, number * 1024
            container.mux(tone.encode(samples))
        for stream in (video, tone):
            container.mux(stream.encode() if stream else [])
    return path


def frames(path: Path) -> list[tuple[Fraction, np.ndarray]]:
    with pyav().open(str(path)) as container:
        return [(frame.pts * frame.time_base, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def sound_of(path: Path) -> list[bytes]:
    with pyav().open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.audio)]


def put_through(source: Path, target: Path, network: Network) -> Report:
    report = Report()
    derain_video(Job(source.name, source, target), network, report)
    return report


@pytest.mark.parametrize("kind", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_frames_times_and_sound_come_through(tmp_path: Path, kind: str, batch_size: int) -> None:
    source = write_video(tmp_path / f"in{kind}")
    report = put_through(source, tmp_path / f"out{kind}", Network(identity, batch_size=batch_size))
    before, after = frames(source), frames(tmp_path / f"out{kind}")
    assert report.count == FRAMES
    assert [time for time, _ in after] == [time for time, _ in before]
    for (_, old), (_, new) in zip(before, after, strict=True):
        assert np.abs(old.astype(int) - new.astype(int)).mean() < CODING_ERROR
    assert sound_of(tmp_path / f"out{kind}") == sound_of(source)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_frame_goes_through_the_network(tmp_path: Path, channels: int) -> None:
    source = write_video(tmp_path / "in.mp4", sound=False)
    put_through(source, tmp_path / "out.mp4", Network(lambda images: images + 0.2, channels))
    for (_, old), (_, new) in zip(frames(source), frames(tmp_path / "out.mp4"), strict=True):
        assert new.mean() - old.mean() == pytest.approx(0.2 * 127.5, abs=2.5)


def test_an_odd_size(tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mkv", size=(47, 63))
    put_through(source, tmp_path / "out.mkv", Network(identity))
    assert frames(tmp_path / "out.mkv")[0][1].shape == (47, 63, 3)


def test_avi_and_webm(tmp_path: Path) -> None:
    put_through(write_video(tmp_path / "in.avi"), tmp_path / "out.avi", Network(identity))
    put_through(write_video(tmp_path / "in.mkv", sound=False), tmp_path / "out.webm", Network(identity))
    assert len(frames(tmp_path / "out.avi")) == len(frames(tmp_path / "out.webm")) == FRAMES


@pytest.mark.parametrize("rotation", [0, 90, -90, 180])
def test_turned_frames_become_upright(rotation: int) -> None:
    """Where the upper left pixel of a stored frame (2 high, 3 wide) goes, turned anticlockwise by ``rotation``."""
    stored = np.zeros((2, 3, 3), np.uint8)
    stored[0, 0] = 255
    turned = upright(stored, rotation)
    where = np.argwhere(turned[..., 0] == 255)[0]
    height, width = turned.shape[:2]
    expected = {0: (0, 0), 90: (height - 1, 0), -90: (0, width - 1), 180: (height - 1, width - 1)}[rotation]
    assert tuple(where) == expected


def test_some_frames_are_on_the_page(tmp_path: Path) -> None:
    source = write_video(tmp_path / "drive.mp4")
    summary, page = derain(source, Network(identity), results=tmp_path / "results", words={})
    assert "10 frames" in summary
    assert "frame 000000" in page.read_text(encoding="utf-8")
    assert (page.parent / "derained" / "drive.mp4").is_file()


@pytest.mark.parametrize("content", [b"", b"no video at all"])
def test_what_is_no_video_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    pyav()
    (tmp_path / "in.mp4").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as a video"):
        put_through(tmp_path / "in.mp4", tmp_path / "out.mp4", Network(identity))


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mp4")
    (tmp_path / "out.mp4").write_bytes(b"earlier")

    def fail(images: Tensor) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        put_through(source, tmp_path / "out.mp4", Network(fail))
    assert (tmp_path / "out.mp4").read_bytes() == b"earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match="pip install av"):
        put_through(tmp_path / "in.mp4", tmp_path / "out.mp4", Network(identity))
