"""Videos, with FFmpeg itself as the judge of what came out; skipped where imageio-ffmpeg is not installed.

The sources are made by FFmpeg from its test pictures, and damaged or bent here.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from data.derain.ffmpeg import matroska_frame, matroska_head, probe
from data.derain.inputs import Job
from data.derain.pictures import Network, Report
from data.derain.run import derain
from data.derain.video import derain_video
from util.errors import UserError

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")

FIXTURES = Path(__file__).parent / "fixtures" / "videos"
WIDTH, HEIGHT, RATE = 64, 48, 10
PICTURE = ("-f", "lavfi", "-i", f"testsrc2=s={WIDTH}x{HEIGHT}:r={RATE}:d=1")
SOUND = ("-f", "lavfi", "-i", "sine=d=1")
BARS = ("-f", "lavfi", "-i", f"smptehdbars=s=128x96:r={RATE}:d=0.5")
H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")
CODING_ERROR = 4.0  # mean levels that encoding twice may cost
TEN_TIMES = [number / RATE for number in range(10)]


def ffmpeg(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-y", *arguments]
    return subprocess.run(command, capture_output=True, check=False)


def make(path: Path, *arguments: str) -> Path:
    done = ffmpeg("-v", "error", *arguments, f"file:{path}")
    assert done.returncode == 0, done.stderr.decode()
    return path


def described(path: Path) -> str:
    """What FFmpeg prints about a file and its first frames."""
    probing = ("-i", f"file:{path}", "-map", "0:V:0", "-vf", "showinfo=checksum=0", "-fps_mode", "passthrough")
    return ffmpeg(*probing, "-f", "rawvideo", "-").stderr.decode(errors="replace")


def times(path: Path) -> list[float]:
    return [float(found) for found in re.findall(r"pts_time:(\S+)", described(path))]


def frames(path: Path, *filters: str) -> np.ndarray:
    """[N, H, W, 3] as FFmpeg converts them."""
    height, width = (int(size) for size in re.findall(r" s:(\d+)x(\d+) i:", described(path))[0][::-1])
    vf = ",".join((*filters, "scale=flags=neighbor+accurate_rnd+full_chroma_int"))
    decoded = ("-i", f"file:{path}", "-map", "0:V:0", "-fps_mode", "passthrough", "-vf", vf, "-pix_fmt", "rgb24")
    raw = ffmpeg("-v", "error", *decoded, "-f", "rawvideo", "-").stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3).astype(int)


def packets(path: Path, stream: str) -> list[str]:
    """Times and checksums of a stream's packets."""
    listed = ffmpeg("-v", "error", "-i", f"file:{path}", "-map", stream, "-c", "copy", "-f", "framemd5", "-").stdout
    return [line.split(",")[-1] for line in listed.decode().splitlines() if not line.startswith("#")]


def identity(images: Tensor) -> Tensor:
    return images


def put_through(source: Path, target: Path, network: Network | None = None) -> Report:
    report = Report()
    derain_video(Job(source.name, source, target), network or Network(identity, batch_size=4), report)
    return report


@pytest.mark.parametrize("kind", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_frames_times_and_sound_come_through(tmp_path: Path, kind: str, batch_size: int) -> None:
    gaps = ("-vf", "setpts=(N+floor(N/3))/(10*TB)", "-fps_mode", "passthrough")
    source = make(tmp_path / f"in{kind}", *PICTURE, *SOUND, *gaps, *H264, "-c:a", "aac")
    report = put_through(source, tmp_path / f"out{kind}", Network(identity, batch_size=batch_size))
    assert report.count == 10
    assert times(tmp_path / f"out{kind}") == times(source) == [(n + n // 3) / RATE for n in range(10)]
    assert np.abs(frames(source) - frames(tmp_path / f"out{kind}")).mean() < CODING_ERROR
    assert packets(tmp_path / f"out{kind}", "0:a") == packets(source, "0:a") != []


@pytest.mark.parametrize("channels", [1, 3])
def test_every_frame_goes_through_the_network(tmp_path: Path, channels: int) -> None:
    source = make(tmp_path / "in.mp4", "-f", "lavfi", "-i", "color=gray:s=64x48:r=10:d=1", *H264)
    put_through(source, tmp_path / "out.mp4", Network(lambda images: images + 0.2, channels))
    brighter = (frames(tmp_path / "out.mp4") - frames(source)).mean((1, 2, 3))
    assert brighter == pytest.approx(np.full(10, 0.2 * 127.5), abs=2.5)


def test_picture_keeps_its_place_in_time_next_to_the_sound(tmp_path: Path) -> None:
    late = ("-itsoffset", "0.5", *PICTURE, *SOUND)
    source = make(tmp_path / "in.mkv", *late, *H264, "-c:a", "aac")
    put_through(source, tmp_path / "out.mkv")
    assert times(tmp_path / "out.mkv") == pytest.approx(times(source), abs=0.0015)
    assert times(source)[0] == pytest.approx(0.5, abs=0.03)


# -- sound, subtitles, chapters -------------------------------------------------------------------------------------


def test_languages_subtitles_chapters_and_title_are_kept(tmp_path: Path) -> None:
    (tmp_path / "s.srt").write_text("1\n00:00:00,100 --> 00:00:00,900\nrain\n", encoding="utf-8")
    (tmp_path / "c.txt").write_text(
        ";FFMETADATA1\ntitle=My drive\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=500\ntitle=first\n", encoding="utf-8"
    )
    inputs = (*PICTURE, *SOUND, *SOUND, "-i", str(tmp_path / "s.srt"), "-i", str(tmp_path / "c.txt"))
    maps = ("-map", "0", "-map", "1", "-map", "2", "-map", "3", "-map_metadata", "4")
    languages = ("-metadata:s:a:0", "language=ger", "-metadata:s:a:1", "language=eng")
    source = make(tmp_path / "in.mkv", *inputs, *maps, *languages, *H264, "-c:a", "aac", "-c:s", "srt")
    put_through(source, tmp_path / "out.mkv")
    said = described(tmp_path / "out.mkv")
    for kept in (r"\(ger\): Audio", r"\(eng\): Audio", "Subtitle: subrip", "Chapter #0:0", "My drive", ": first"):
        assert re.search(kept, said), kept


@pytest.mark.parametrize(
    ("made", "codec", "result", "expected", "says"),
    [
        ("in.mov", ("-c:a", "pcm_alaw", "-ar", "8000"), "out.mov", "pcm_alaw", ""),
        ("in.mov", ("-c:a", "pcm_alaw", "-ar", "8000"), "out.mp4", "aac", "audio track 1 (pcm_alaw) is encoded anew"),
        ("in.mkv", ("-c:a", "libopus"), "out.m4v", "opus", ""),
        ("in.mkv", ("-c:a", "wmav2"), "out.mkv", "wmav2", ""),
        ("in.mkv", ("-c:a", "aac"), "out.webm", "opus", "audio track 1 (aac) is encoded anew"),
    ],
)
def test_sound_is_copied_or_encoded_anew(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    made: str,
    codec: tuple[str, ...],
    result: str,
    expected: str,
    says: str,
) -> None:
    source = make(tmp_path / made, *PICTURE, *SOUND, *H264, *codec)
    assert put_through(source, tmp_path / result).count == 10
    assert f"Audio: {expected}" in described(tmp_path / result)
    assert says in caplog.text and bool(says) == bool(caplog.text)


def test_a_track_of_an_unknown_kind_does_not_cost_the_picture(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    known = make(
        tmp_path / "known.mov", *PICTURE, *SOUND, *SOUND, "-map", "0", "-map", "1", "-map", "2", *H264, "-c:a", "aac"
    )
    head, last = known.read_bytes().rsplit(b"stsd", 1)
    (tmp_path / "in.mov").write_bytes(head + b"stsd" + last.replace(b"mp4a", b"zzzz").replace(b"esds", b"zzds"))
    assert put_through(tmp_path / "in.mov", tmp_path / "out.mp4").count == 10
    assert packets(tmp_path / "out.mp4", "0:a:0") == packets(known, "0:a:0")
    assert "audio track 2 (none) is left out" in caplog.text


# -- shape and time -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rotation", [None, 90, 180])
def test_the_shape_of_pixels_is_kept_and_turned_frames_become_upright(tmp_path: Path, rotation: int | None) -> None:
    source = make(tmp_path / "flat.mp4", *PICTURE, "-vf", "setsar=4/3", *H264)
    if rotation is not None:
        source = make(tmp_path / "in.mp4", "-display_rotation", str(rotation), "-i", str(source), "-c", "copy")
    put_through(source, tmp_path / "out.mp4")
    expected = "48x64 [SAR 3:4" if rotation == 90 else "64x48 [SAR 4:3"
    assert expected in described(tmp_path / "out.mp4").split("Stream mapping")[0]
    assert np.abs(frames(source) - frames(tmp_path / "out.mp4")).mean() < CODING_ERROR  # upright by FFmpeg's own rule


def test_an_odd_size_plays_everywhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    odd = ("-vf", "format=rgb24,crop=63:47:0:0,boxblur=1,format=yuv420p", "-c:v", "ffv1")
    source = make(tmp_path / "in.mkv", *PICTURE, *odd)
    put_through(source, tmp_path / "out.mkv")
    assert "yuv420p" in described(tmp_path / "out.mkv") and "64x48" in described(tmp_path / "out.mkv")
    assert np.abs(frames(tmp_path / "out.mkv")[:, :46, :62] - frames(source)[:, :46, :62]).mean() < CODING_ERROR
    assert "63×47 pixels become 64×48" in caplog.text


def test_a_size_that_changes_is_scaled_to_the_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    parts = [
        make(tmp_path / f"{width}.h264", "-f", "lavfi", "-i", f"testsrc2=s={width}x48:r=10:d=1", *H264)
        for width in (64, 96)
    ]
    source = tmp_path / "in.mkv"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert put_through(source, tmp_path / "out.mkv").count == 20
    assert frames(tmp_path / "out.mkv").shape == (20, 48, 64, 3)
    assert "its frames have the sizes 64x48, 96x48; all were scaled to the first" in caplog.text


@pytest.mark.parametrize("kind", [".mkv", ".mp4"])
def test_equal_times_become_distinct(tmp_path: Path, kind: str) -> None:
    single = make(tmp_path / "single.mkv", *PICTURE, "-c:v", "mjpeg")
    twice = ("-c", "copy", "-bsf:v", "setts=ts=200*floor(N/2)", "-f", "matroska")
    source = make(tmp_path / f"in{kind}", "-i", str(single), *twice)
    assert times(source) == [0, 0, 0.2, 0.2, 0.4, 0.4, 0.6, 0.6, 0.8, 0.8]
    assert put_through(source, tmp_path / f"out{kind}").count == 10
    assert times(tmp_path / f"out{kind}") == pytest.approx(TEN_TIMES)


def test_absent_times_follow_the_rate(tmp_path: Path) -> None:
    raw = make(tmp_path / "in.h264", *PICTURE, *H264, "-bf", "0").rename(tmp_path / "in.mp4")
    assert put_through(raw, tmp_path / "out.mp4").count == 10
    assert times(tmp_path / "out.mp4") == pytest.approx(TEN_TIMES)


def test_times_that_run_backward_go_on(tmp_path: Path) -> None:
    assert put_through(FIXTURES / "times_run_backward.mov", tmp_path / "out.mov").count == 20
    assert times(tmp_path / "out.mov") == pytest.approx([number / 10 for number in range(20)])


def test_avi_and_webm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = make(tmp_path / "in.mkv", *PICTURE, *SOUND, *H264, "-c:a", "aac")
    for kind in (".avi", ".webm"):
        put_through(source, tmp_path / f"out{kind}")
        assert times(tmp_path / f"out{kind}") == pytest.approx(TEN_TIMES, abs=0.03)
    assert "AVI holds no times of frames" in caplog.text


# -- colors ---------------------------------------------------------------------------------------------------------

TAGS = {
    "bt601": ("smpte170m", "smpte170m", "smpte170m", "tv", "yuv420p"),
    "bt709": ("bt709", "bt709", "bt709", "tv", "yuv420p"),
    "full range": ("bt709", "bt709", "bt709", "pc", "yuv420p"),
    "hlg": ("bt2020nc", "bt2020", "arib-std-b67", "tv", "yuv420p10le"),
}


@pytest.mark.parametrize("name", TAGS)
def test_colors_tags_and_depth_are_kept(tmp_path: Path, name: str) -> None:
    matrix, primaries, transfer, range_, pixels = TAGS[name]
    convert = f"scale=out_color_matrix={matrix.replace('nc', '')}:out_range={range_},format={pixels}"
    tagged = f"setparams=colorspace={matrix}:color_primaries={primaries}:color_trc={transfer}:range={range_}"
    codec = ("-c:v", "libx265" if "10" in pixels else "libx264")
    source = make(tmp_path / "in.mp4", *BARS, "-vf", f"{convert},{tagged}", *codec, "-crf", "10")
    put_through(source, tmp_path / "out.mp4")
    before, after = frames(source), frames(tmp_path / "out.mp4")
    assert np.abs(after - before).mean() < 3
    bars = np.abs(after - before)[:, 10:40, 20:-20].mean((0, 1))  # each column of the upper bars
    assert np.percentile(bars, 90) < 8
    tags = f"color_range:{range_} color_space:{matrix} color_primaries:{primaries} color_trc:{transfer}"
    assert tags in described(source) and tags in described(tmp_path / "out.mp4")
    assert probe(tmp_path / "out.mp4").depth == (10 if "10" in pixels else 8)


def test_colors_that_only_the_container_tells(tmp_path: Path) -> None:
    source = FIXTURES / "tag_only_in_container.mp4"
    put_through(source, tmp_path / "out.mp4")
    before = frames(source, "setparams=colorspace=bt709")
    assert np.abs(frames(tmp_path / "out.mp4") - before).mean() < 3
    assert "bt709" in described(tmp_path / "out.mp4").split("Stream mapping")[0]


def test_rgb_keeps_its_look(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = make(tmp_path / "in.mkv", *PICTURE, "-c:v", "libx264rgb", "-crf", "10")
    put_through(source, tmp_path / "out.mkv")
    assert np.abs(frames(source) - frames(tmp_path / "out.mkv")).mean() < 3
    assert "become YUV 4:4:4" in caplog.text


def test_depth_that_is_lost_is_told_before_the_work(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = make(tmp_path / "in.mkv", *PICTURE, "-c:v", "ffv1", "-pix_fmt", "yuv420p10le")

    def stop(images: Tensor) -> Tensor:
        assert "the 10 bits of its colors become 8" in caplog.text
        return images

    put_through(source, tmp_path / "out.avi", Network(stop))


# -- damage and interruption ----------------------------------------------------------------------------------------


def long_film(path: Path) -> Path:
    film = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=10:d=4")
    return make(path, *film, *H264, "-g", "10", "-bf", "0", "-movflags", "+faststart")


def test_frames_before_and_after_damage_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = bytearray(long_film(tmp_path / "whole.mp4").read_bytes())
    middle = (content.index(b"mdat") + len(content)) // 2
    content[middle : middle + 400] = b"\xff" * 400
    (tmp_path / "in.mp4").write_bytes(content)
    report = put_through(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert 20 <= report.count < 40
    assert times(tmp_path / "out.mp4")[-1] == pytest.approx(3.9)
    assert re.search(rf"is damaged: {40 - report.count} of about 40 frames are lost", caplog.text)


def test_a_missing_end_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = long_film(tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "in.mkv").write_bytes(content[: len(content) * 2 // 3])
    report = put_through(tmp_path / "in.mkv", tmp_path / "out.mkv")
    assert 20 <= report.count < 40
    assert f"{40 - report.count} of about 40 frames are lost" in caplog.text


def test_an_interruption_leaves_what_was_done(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = make(tmp_path / "in.mp4", "-f", "lavfi", "-i", "testsrc2=s=64x48:r=10:d=4", *SOUND, *H264, "-c:a", "aac")
    (tmp_path / "out.mp4").write_bytes(b"earlier")
    calls = iter(range(100))

    def stop(images: Tensor) -> Tensor:
        if next(calls) == 5:
            raise KeyboardInterrupt
        return images

    with pytest.raises(KeyboardInterrupt):
        put_through(source, tmp_path / "out.mp4", Network(stop))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4", "out.partial.mp4"]
    assert (tmp_path / "out.mp4").read_bytes() == b"earlier"
    assert times(tmp_path / "out.partial.mp4") == pytest.approx(TEN_TIMES[:5])
    assert "Audio: aac" in described(tmp_path / "out.partial.mp4")
    assert "stopped after 5 frames" in caplog.text


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", *PICTURE, *H264)
    (tmp_path / "out.mp4").write_bytes(b"earlier")

    def fail(images: Tensor) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        put_through(source, tmp_path / "out.mp4", Network(fail))
    assert (tmp_path / "out.mp4").read_bytes() == b"earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def corrupted(content: bytes, seed: int) -> bytes:
    chance = random.Random(seed)
    kind = chance.choice(["bytes", "cut", "zeros", "twice"])
    at = chance.randrange(len(content))
    if kind == "cut":
        return content[: max(at, 200)]
    if kind == "zeros":
        return content[:at] + bytes(min(500, len(content) - at)) + content[at + 500 :]
    if kind == "twice":
        return content[:at] + content[max(at - 300, 0) :]
    changed = bytearray(content)
    for _ in range(20):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


@pytest.mark.heavy
@pytest.mark.parametrize("seed", range(60))
def test_any_damage_gives_a_video_or_a_sentence(tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    kind = [".mp4", ".mkv", ".webm", ".avi", ".mov"][seed % 5]
    codec = ("-c:v", "libvpx-vp9") if kind == ".webm" else H264
    whole = make(tmp_path / f"whole{kind}", *PICTURE, *SOUND, *codec)
    source = tmp_path / f"in{kind}"
    source.write_bytes(corrupted(whole.read_bytes(), seed))
    try:
        report = put_through(source, tmp_path / f"out{kind}")
    except UserError as error:
        assert source.name in str(error)
        return
    assert len(times(tmp_path / f"out{kind}")) == report.count > 0
    assert report.count >= 10 or "frames" in caplog.text


# -- names and mistakes ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="no colons in names")
@pytest.mark.parametrize("name", ["cam1:front.mp4", "file:x.mp4", "http:x.mp4", "pipe:1.mp4", "-y.mp4", "50%d.mp4"])
def test_names_are_names(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("plain.mp4"), *PICTURE, *H264).rename(name)
    assert put_through(Path(name), Path("out:1") / name).count == 10
    assert (tmp_path / "out:1" / name).is_file()


def test_a_playlist_does_not_reach_further_files(tmp_path: Path) -> None:
    make(tmp_path / "secret.mp4", *PICTURE, *H264)
    (tmp_path / "in.mp4").write_text("ffconcat version 1.0\nfile secret.mp4\n", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be read as a video"):
        put_through(tmp_path / "in.mp4", tmp_path / "out.mp4")


def test_some_frames_are_on_the_page(tmp_path: Path) -> None:
    source = make(tmp_path / "drive.mp4", *PICTURE, *H264)
    summary, page = derain(source, Network(identity), results=tmp_path / "results", words={})
    assert "10 frames" in summary
    assert "frame 000000" in page.read_text(encoding="utf-8")
    assert (page.parent / "derained" / "drive.mp4").is_file()


@pytest.mark.parametrize("content", [b"", b"no video at all"])
def test_what_is_no_video_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in.mp4").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as a video"):
        put_through(tmp_path / "in.mp4", tmp_path / "out.mp4")


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", *SOUND, "-c:a", "aac")
    with pytest.raises(UserError, match="holds no pictures, only sound"):
        put_through(source, tmp_path / "out.mp4")


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UserError, match="pip install imageio-ffmpeg"):
        put_through(tmp_path / "in.mp4", tmp_path / "out.mp4")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_frames_reach_ffmpeg_as_they_are(tmp_path: Path, dtype: type) -> None:
    """The stream that carries frames and times to the encoder, read by FFmpeg."""
    pixels: np.ndarray = np.random.default_rng(1).integers(0, 65536, (5, 7, 3)).astype(dtype)
    stream = tmp_path / "stream.mkv"
    stream.write_bytes(matroska_head(pixels) + matroska_frame(pixels, 0) + matroska_frame(pixels, 123_456_789))
    raw: Callable[..., bytes] = lambda *arguments: ffmpeg("-v", "error", "-i", str(stream), *arguments).stdout  # noqa: E731
    assert raw("-fps_mode", "passthrough", "-f", "rawvideo", "-") == 2 * pixels.tobytes()
    assert times(stream) == pytest.approx([0, 0.123457], abs=1e-5)
