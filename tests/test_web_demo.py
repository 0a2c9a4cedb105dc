"""scripts/web_demo.py: one upload in, the same kind of file out; the page itself where Gradio is installed."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from data.derain.pictures import Network
from models.networks.resnet import ResnetGenerator
from scripts import web_demo
from scripts._trained import load_trained
from scripts._web_demo import (
    PREVIEW_SIDE,
    Derained,
    build_page,
    derain_upload,
    forget_old,
    import_gradio,
    preview,
    serve,
)
from util.errors import EXIT_USER_ERROR, UserError
from util.pictures import Metadata, Picture, UnreadablePicture, read_picture, write_picture

SETTINGS = ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY", "no_proxy", "NO_PROXY")
with_gradio = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="needs the optional Gradio")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the demo sets for its process ends with the test."""
    for name in SETTINGS:
        monkeypatch.setenv(name, os.environ.get(name, ""))


def darker(image: Tensor) -> Tensor:
    """A network that halves every value."""
    return (image + 1) / 2 - 1


def gray_levels(channels: int, dtype: Any = np.uint8) -> np.ndarray:
    """[4, 6, channels], even values only."""
    values = np.arange(4 * 6 * channels).reshape(4, 6, channels) * 2
    return values.astype(dtype)


@pytest.mark.parametrize(("channels", "dtype"), [(3, np.uint8), (1, np.uint8), (3, np.uint16)])
def test_a_picture_comes_back_as_the_same_kind(tmp_path: Path, channels: int, dtype: Any) -> None:
    alpha = np.full((4, 6), 77, dtype=dtype)
    path = tmp_path / "Regen & Straße #1.png"
    write_picture(Picture(gray_levels(channels, dtype), alpha=alpha), path)
    done = derain_upload(path, Network(darker), tmp_path / "results")
    assert done.file.name == "Regen & Straße #1_derained.png"
    result = read_picture(done.file)
    assert np.array_equal(result.pixels, gray_levels(channels, dtype) // 2)
    assert result.alpha is not None and np.array_equal(result.alpha, alpha)


def test_a_jpeg_stays_one_with_its_profile(tmp_path: Path) -> None:
    path = tmp_path / "a.JPG"
    write_picture(Picture(gray_levels(3), format="JPEG", suffix=".jpg", metadata=Metadata(dpi=(123.0, 123.0))), path)
    done = derain_upload(path, Network(darker), tmp_path)
    result = read_picture(done.file)
    assert (result.format, result.metadata.dpi, done.file.suffix) == ("JPEG", (123.0, 123.0), ".JPG")


def test_two_uploads_of_one_name_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_picture(Picture(gray_levels(3)), path)
    files = {derain_upload(path, Network(darker), tmp_path / "results").file for _ in range(2)}
    assert len(files) == 2 and all(file.is_file() for file in files)


def test_a_gray_network_leaves_the_colors(tmp_path: Path) -> None:
    pixels = np.full((4, 6, 3), (100, 120, 140), dtype=np.uint8)
    path = tmp_path / "a.png"
    write_picture(Picture(pixels), path)
    done = derain_upload(path, Network(lambda image: image + 20 / 127.5, channels=1), tmp_path)
    assert np.array_equal(read_picture(done.file).pixels, pixels + 20)


def test_the_previews_are_before_and_after(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_picture(Picture(gray_levels(1)), path)
    done = derain_upload(path, Network(darker), tmp_path)
    assert np.array_equal(done.before, gray_levels(1).repeat(3, axis=2))
    assert np.array_equal(done.after, gray_levels(1).repeat(3, axis=2) // 2)


def test_a_preview_is_no_larger_than_a_screen() -> None:
    pixels = np.full((10, 2 * PREVIEW_SIDE, 3), 90, dtype=np.uint8)
    assert preview(Picture(pixels)).shape == (5, PREVIEW_SIDE, 3)
    assert preview(Picture(pixels[:, :50])).shape == (10, 50, 3)


def test_about_says_size_kind_and_what_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write_picture(Picture(gray_levels(3, np.uint16), format="TIFF", suffix=".tif"), path)
    about = derain_upload(path, Network(darker), tmp_path).about
    assert about.startswith("6 × 4 pixels, TIFF, 16 bit, in ") and "slider" not in about


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_text("no picture", encoding="utf-8")
    with pytest.raises(UnreadablePicture):
        derain_upload(path, Network(darker), tmp_path)


def test_only_what_is_old_is_removed(tmp_path: Path) -> None:
    hour_ago = time.time() - 3700
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "picture.png").touch()
        (tmp_path / f"{name}.tmp").touch()
    for name in ("old", "old.tmp"):
        os.utime(tmp_path / name, (hour_ago, hour_ago))
    forget_old((tmp_path, tmp_path / "missing"))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["new", "new.tmp"]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A network's file without a run."""
    torch.manual_seed(0)
    path = tmp_path / "small.pth"
    torch.save(ResnetGenerator(3, 3, 2, 6).state_dict(), path)
    return path


@pytest.mark.parametrize(("flags", "tile"), [([], 1536), (["--tile", "256"], 256), (["--tile", "0"], None)])
def test_large_pictures_are_tiled(
    weights: Path, flags: list[str], tile: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    class Recorded:
        def __init__(self, model: Any, *, tile: int, **others: Any) -> None:
            asked.append(tile)

    monkeypatch.setattr(web_demo, "Translator", Recorded)
    web_demo.network_of(load_trained(["--checkpoint", str(weights), "--gpu_ids", "-1", *flags]))
    assert asked == [tile or 0]


def test_without_gradio_the_command_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert web_demo.main([]) == EXIT_USER_ERROR
    assert "pip install gradio" in capsys.readouterr().err


@pytest.fixture
def gradio(tmp_path: Path) -> Any:
    return import_gradio(tmp_path / "uploads")


@pytest.fixture
def port() -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    yield number


def _page(gradio: Any) -> Any:
    def derain(path: Path) -> Derained:
        raise UserError("not asked for here")

    return build_page(gradio, "Derain", "Model `x`", derain)


@with_gradio
def test_the_page_needs_no_other_machine(gradio: Any, port: int) -> None:
    page = _page(gradio)
    address = serve(gradio, page, host="127.0.0.1", port=port, largest="1mb")
    try:
        with urllib.request.urlopen(address) as reply:
            html = reply.read().decode()
    finally:
        page.close()
    loaded = re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(https?://[^"]+)"', html)
    assert [place for place in loaded if not place.startswith(address)] == []
    assert page.analytics_enabled is False
    assert page.share is False


@with_gradio
def test_a_port_that_is_taken_is_a_sentence(gradio: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--port {number}: cannot be used"):
            serve(gradio, _page(gradio), host="127.0.0.1", port=number, largest="1mb")
