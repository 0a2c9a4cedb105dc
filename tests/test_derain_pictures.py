"""Pictures through a network: kinds of pictures, batches, broken files, the page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from data.derain.inputs import Job, find_inputs, give_places
from data.derain.pictures import Network, Report, derain_pictures, with_colors
from data.derain.run import PicturePage, derain
from util.errors import UserError
from util.pages.result_page import PAGE_NAME
from util.pictures import Picture, read_picture, write_picture
from util.pixels import luma

WORDS = {"real_A": "rainy input", "fake_B": "derained"}
RNG = np.random.default_rng(5)


def pixels(channels: int, dtype: type = np.uint8, size: tuple[int, int] = (12, 17)) -> np.ndarray:
    return RNG.integers(0, np.iinfo(dtype).max, (*size, channels), dtype, endpoint=True)


def identity(images: Tensor) -> Tensor:
    return images


def darker(images: Tensor) -> Tensor:
    return images - 0.25


def run(folder: Path, network: Network, **settings: object) -> Report:
    """Derain ``folder/in`` into ``folder/out``."""
    inputs = find_inputs(folder / "in", not_below=folder / "out")
    report = Report()
    derain_pictures(give_places(inputs, folder / "out"), network, report, **settings)  # type: ignore[arg-type]
    return report


def put(folder: Path, name: str, picture: Picture) -> Picture:
    write_picture(picture, folder / "in" / name)
    return picture


KINDS = {
    "gray.png": Picture(pixels(1)),
    "gray_alpha.png": Picture(pixels(1), pixels(1)[..., 0]),
    "color.bmp": Picture(pixels(3), format="BMP", suffix=".bmp"),
    "color_alpha.png": Picture(pixels(3), pixels(1)[..., 0]),
    "gray_16.png": Picture(pixels(1, np.uint16)),
    "color_16.tif": Picture(pixels(3, np.uint16), format="TIFF", suffix=".tif"),
    "color_alpha_16.png": Picture(pixels(3, np.uint16), pixels(1, np.uint16)[..., 0]),
    "one.png": Picture(pixels(3, size=(1, 1))),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_that_changes_nothing_returns_every_kind_of_picture(tmp_path: Path, name: str, channels: int) -> None:
    before = put(tmp_path, name, KINDS[name])
    run(tmp_path, Network(identity, channels))
    after = read_picture(tmp_path / "out" / name)
    assert after.format == before.format
    np.testing.assert_array_equal(after.pixels, before.pixels)
    assert (after.alpha is None) == (before.alpha is None)
    if before.alpha is not None and after.alpha is not None:
        np.testing.assert_array_equal(after.alpha, before.alpha)


def test_a_gray_network_keeps_the_colors() -> None:
    """Y changes by what the network changed, Cb and Cr (differences to Y) not at all."""
    source = torch.rand(1, 3, 4, 5) - 0.5
    output = luma(source) * 0.9 + 0.05
    result = with_colors(output, source)
    torch.testing.assert_close(luma(result), output)
    torch.testing.assert_close(result - luma(result), source - luma(source))


def test_equal_sizes_go_together_and_results_stay_with_their_names(tmp_path: Path) -> None:
    sizes = {"a": (8, 9), "b": (10, 10), "c": (8, 9), "d": (8, 9), "e": (8, 9)}
    pictures = {name: put(tmp_path, f"{name}.png", Picture(pixels(3, size=size))) for name, size in sizes.items()}
    batches: list[tuple[int, ...]] = []

    def translate(images: Tensor) -> Tensor:
        batches.append(tuple(images.shape))
        return images

    report = run(tmp_path, Network(translate, batch_size=3), threads=2)
    assert sorted(batches) == [(1, 3, 8, 9), (1, 3, 10, 10), (3, 3, 8, 9)]
    assert report.count == len(sizes)
    for name, picture in pictures.items():
        np.testing.assert_array_equal(read_picture(tmp_path / "out" / f"{name}.png").pixels, picture.pixels)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-300])


def test_a_broken_file_is_named_and_what_came_before_is_there(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        put(tmp_path, name, Picture(pixels(3)))
    truncate(tmp_path / "in" / "b.png")
    with pytest.raises(UserError, match=r"b\.png.*--skip_bad"):
        run(tmp_path, Network(identity))
    assert (tmp_path / "out" / "a.png").is_file()


def test_skip_bad_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.png", "b.png", "c.png"):
        put(tmp_path, name, Picture(pixels(3)))
    truncate(tmp_path / "in" / "b.png")
    assert run(tmp_path, Network(identity), skip_bad=True).count == 2
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["a.png", "c.png"]
    assert "b.png" in caplog.text


def test_a_jpeg_with_the_name_of_a_png_gets_a_name_that_tells(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "in" / "a.png", format="JPEG")
    run(tmp_path, Network(identity))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png.jpg"]


def test_two_inputs_never_share_a_result(tmp_path: Path) -> None:
    """A GIF is written as PNG, under a name that another picture's result may have."""
    first, second = pixels(3), pixels(3)
    (tmp_path / "in").mkdir()
    Image.fromarray(first).quantize().save(tmp_path / "in" / "photo.gif")
    Image.fromarray(second).save(tmp_path / "in" / "photo.gif.png")
    run(tmp_path, Network(identity))
    results = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert results == ["photo.gif.png", "photo.gif~2.png"]
    assert np.array_equal(read_picture(tmp_path / "out" / "photo.gif.png").pixels, second)


def test_an_earlier_result_stays_if_the_new_one_fails(tmp_path: Path) -> None:
    put(tmp_path, "a.png", Picture(pixels(3)))
    run(tmp_path, Network(identity))
    earlier = (tmp_path / "out" / "a.png").read_bytes()

    def fail(images: Tensor) -> Tensor:
        raise UserError("no")

    with pytest.raises(UserError):
        run(tmp_path, Network(fail))
    assert (tmp_path / "out" / "a.png").read_bytes() == earlier
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


def test_networks_of_other_channels_are_refused() -> None:
    with pytest.raises(UserError, match="takes 4"):
        Network(identity, 4)


def test_the_page_shows_inputs_where_they_lie_and_previews_of_what_browsers_do_not_show(tmp_path: Path) -> None:
    put(tmp_path, "x/a#1.png", Picture(pixels(3)))
    put(tmp_path, "b.tif", Picture(pixels(3, np.uint16), format="TIFF", suffix=".tif"))
    _, page = derain(tmp_path / "in", Network(darker), results=tmp_path / "results", title="run", words=WORDS)
    folder = tmp_path / "results" / "in"
    assert page == folder / PAGE_NAME
    rows = {row["name"]: row for row in json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["rows"]}
    assert rows["x/a#1.png"]["images"] == {"real_A": "../../in/x/a#1.png", "fake_B": "derained/x/a#1.png"}
    assert rows["b.tif"]["originals"] == {"real_A": "../../in/b.tif", "fake_B": "derained/b.tif"}
    for path in rows["b.tif"]["images"].values():
        assert Image.open(folder / path).size == (17, 12)


def test_without_a_page_there_are_the_results_alone(tmp_path: Path) -> None:
    put(tmp_path, "a.png", Picture(pixels(3)))
    derain(tmp_path / "in", Network(identity), results=tmp_path / "results", output=tmp_path / "out", words=WORDS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


def test_what_was_done_before_an_interruption_is_on_the_page(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        put(tmp_path, name, Picture(pixels(3)))
    calls: list[int] = []

    def stopped(images: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return images

    with pytest.raises(KeyboardInterrupt):
        derain(tmp_path / "in", Network(stopped), results=tmp_path / "results", words=WORDS)
    rows = json.loads((tmp_path / "results" / "in" / "manifest.json").read_text(encoding="utf-8"))["rows"]
    assert [row["name"] for row in rows] == ["a.png"]


def test_a_preview_stands_in_for_an_input_on_another_drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_way(folder: Path, file: Path) -> str:
        raise UserError("another drive")

    monkeypatch.setattr("data.derain.run.relative_address", no_way)
    picture = Picture(pixels(3))
    row = PicturePage(tmp_path).row(Job("a.png", tmp_path / "a.png", tmp_path / "b.png"), picture, tmp_path, picture)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / row.images["real_A"])), picture.pixels)
