"""The page of a running training."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from util.errors import UserError
from util.pages.curves import curve_figure
from util.trackers.loss_files import LossFiles
from util.trackers.tracker import Progress
from util.trackers.web_page import WebPage


class Page(HTMLParser):
    """Collects start tags, addresses of images and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.sources += [value or "" for name, value in attrs if tag == "img" and name == "src"]

    def handle_data(self, data: str) -> None:
        self.text += data


def progress_at(total: int) -> Progress:
    return Progress((total - 1) // 100 + 1, 4, (total - 1) % 100 + 1, 100, total, 2e-4, 3.0, 0.1)


def picture(value: int, channels: int = 3) -> np.ndarray:
    return np.full((4, 6, channels), value, dtype=np.uint8)


def read(web_page: WebPage) -> Page:
    return Page(web_page.page.read_text(encoding="utf-8"))


def moments(folder: Path) -> list[int]:
    data = json.loads((folder / "web" / "manifest.json").read_text(encoding="utf-8"))
    return [moment["total_images"] for moment in data["moments"]]


def test_pictures_are_saved_as_they_are_and_shown_with_words(tmp_path: Path) -> None:
    page = WebPage(tmp_path, "run", None)
    page.images(progress_at(50), {"real_A": picture(7), "fake_B": picture(9, channels=1)})
    shown = read(page)
    pixels = [np.asarray(Image.open(tmp_path / "web" / unquote(source))) for source in shown.sources]
    np.testing.assert_array_equal(pixels[0], picture(7))
    np.testing.assert_array_equal(pixels[1], picture(9)[:, :, 0])
    assert "rainy input real_A" in shown.text and "derained fake_B" in shown.text


def test_words_of_the_caller_are_used_and_a_label_without_words_stands_alone(tmp_path: Path) -> None:
    page = WebPage(tmp_path, "run", None, words={"fake_B": "ohne Regen"})
    page.images(progress_at(50), {"fake_B": picture(1), "mine": picture(2)})
    text = read(page).text
    assert "ohne Regen fake_B" in text and "mine" in text


def test_newest_pictures_come_first_and_old_files_are_not_written_again(tmp_path: Path) -> None:
    page = WebPage(tmp_path, "run", None)
    page.images(progress_at(50), {"fake_B": picture(1)})
    first = tmp_path / "web" / unquote(read(page).sources[0])
    first.write_bytes(b"left alone")
    page.images(progress_at(150), {"fake_B": picture(2)})
    sources = read(page).sources
    assert len(sources) == 2
    assert tmp_path / "web" / unquote(sources[1]) == first
    assert first.read_bytes() == b"left alone"


def test_resume_keeps_earlier_moments_and_drops_later_ones(tmp_path: Path) -> None:
    page = WebPage(tmp_path, "run", None)
    for total in (50, 100, 150):
        page.images(progress_at(total), {"fake_B": picture(total)})
    page = WebPage(tmp_path, "run", 100)
    page.images(progress_at(200), {"fake_B": picture(200)})
    assert moments(tmp_path) == [50, 100, 200]
    assert len(read(page).sources) == 3


def test_a_new_run_starts_a_new_page(tmp_path: Path) -> None:
    WebPage(tmp_path, "run", None).images(progress_at(50), {"fake_B": picture(1)})
    WebPage(tmp_path, "run", None).images(progress_at(20), {"fake_B": picture(1)})
    assert moments(tmp_path) == [20]


def test_a_new_page_leaves_nothing_of_the_earlier_one_in_its_place(tmp_path: Path) -> None:
    earlier = WebPage(tmp_path, "run", None)
    earlier.images(progress_at(50), {"fake_B": picture(1)})
    shown = read(earlier).sources
    WebPage(tmp_path, "run", None).close()  # ends before its first pictures
    assert not (tmp_path / "web").exists()
    assert all((tmp_path / "web.previous" / unquote(source)).is_file() for source in shown)

    again = WebPage(tmp_path, "run", 60)
    again.images(progress_at(70), {"fake_B": picture(2)})
    assert moments(tmp_path) == [70]
    assert len(list((tmp_path / "web" / "images").iterdir())) == 1
    WebPage(tmp_path, "run", None)
    assert len(list((tmp_path / "web.previous" / "images").iterdir())) == 1


def test_a_page_that_cannot_be_put_aside_is_named(tmp_path: Path) -> None:
    WebPage(tmp_path, "run", None).images(progress_at(50), {"fake_B": picture(1)})
    (tmp_path / "web.previous").write_text("a file", encoding="utf-8")
    with pytest.raises(UserError, match=r"web\.previous: cannot be written"):
        WebPage(tmp_path, "run", None)
    assert moments(tmp_path) == [50]


def test_a_damaged_manifest_does_not_stop_a_resumed_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "manifest.json").write_text("{", encoding="utf-8")
    WebPage(tmp_path, "run", 10).images(progress_at(50), {"fake_B": picture(1)})
    assert moments(tmp_path) == [50]
    assert len(caplog.records) == 1 and "manifest.json" in caplog.records[0].getMessage()


def test_hostile_names_stay_text_and_inside_the_folder(tmp_path: Path) -> None:
    evil = "../</script><img src=x onerror=alert(1)>"
    page = WebPage(tmp_path, evil, None)
    page.scalars(progress_at(10), {evil: 1.0})
    page.images(progress_at(10), {evil: picture(1)})
    shown = read(page)
    assert shown.names.count("img") == 1 and "script" not in shown.names
    assert (tmp_path / "web" / unquote(shown.sources[0])).resolve().parent == (tmp_path / "web" / "images").resolve()
    assert shown.text.count(evil) >= 3  # title, curve, picture


def test_curves_of_a_resumed_run_go_on_from_the_file(tmp_path: Path) -> None:
    files = LossFiles(tmp_path, None)
    files.scalars(progress_at(50), {"G": 8.0})
    files.close()
    page = WebPage(tmp_path, "run", 50)
    page.scalars(progress_at(100), {"G": 2.0})
    page.close()
    shown = read(page)
    assert "polyline" in shown.names
    assert all(number in shown.text for number in ("8", "2", "epoch 0.5"))


def test_a_curve_spans_the_picture_and_breaks_where_values_are_missing() -> None:
    values = np.array([1.0, 3.0, math.nan, 2.0, math.inf, 1.0])
    html = str(curve_figure("G", np.arange(6.0), values))
    lines = [part.split('"')[0] for part in html.split('points="')[1:]]
    assert lines == ["0.0,86.0 60.0,4.0", "180.0,45.0", "300.0,86.0"]


def test_a_loss_that_was_never_finite_has_no_curve() -> None:
    assert curve_figure("G", np.arange(2.0), np.array([math.nan, math.inf])) is None
