"""The result page: safe with any file name, self-contained, the same after a round trip."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from PIL import Image

from util.pages.manifest import Column, MetricColumn, ResultManifest, Row
from util.pages.result_page import format_number, write_result_page

ALL_NAMES = (
    "plain",
    "with space",
    "per%20cent",
    "hash#1",
    "what?x=1&y=2;z",
    "quote\"s and 'single'",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "folder/inside",
    "colon: 12:30",
    "雨 Straße é",
    "back\\slash",
    "\u2028line",
    "new\nline",
)
FORBIDDEN_ON_WINDOWS = set('<>:"?*|\\')
HOSTILE_NAMES = tuple(name for name in ALL_NAMES if os.name != "nt" or not FORBIDDEN_ON_WINDOWS & set(name))
COLUMNS = (Column("real_A", "rainy input"), Column("fake_B", "derained"), Column("real_B", "rain-free photo", False))
PSNR = MetricColumn("psnr_y", "PSNR (Y)", "BT.601 limited-range luma", "dB")
DELTA = MetricColumn("ciede2000", "CIEDE2000", "mean over pixels", higher_is_better=False)


class Page(HTMLParser):
    """Collects what the tests look at: start tags with attributes, visible text, text of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, Mapping[str, str | None]]] = []
        self.text: list[str] = []
        self.raw: list[tuple[Mapping[str, str | None], str]] = []
        self.open = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open = tag

    def handle_data(self, data: str) -> None:
        if self.open in ("script", "style"):
            self.raw.append((self.tags[-1][1], data))
        else:
            self.text.append(data)

    def handle_endtag(self, tag: str) -> None:
        self.open = ""

    def all(self, tag: str, *names: str) -> list[Mapping[str, str | None]]:
        """Attributes of all such tags that have every one of these classes."""
        return [
            attrs
            for found, attrs in self.tags
            if found == tag and set(names) <= set((attrs.get("class") or "").split())
        ]

    def addresses(self) -> list[str]:
        return [value or "" for _, attrs in self.tags for name, value in attrs.items() if name in ("src", "href")]


def picture_rows(folder: Path, names: tuple[str, ...]) -> tuple[Row, ...]:
    rows = []
    for name in names:
        images = {column.label: f"images/{column.label}/{name}.png" for column in COLUMNS}
        for path in images.values():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (6, 4)).save(folder / path)
        rows.append(Row(name, images))
    return tuple(rows)


def page_of(folder: Path, manifest: ResultManifest) -> Page:
    return Page(write_result_page(folder, manifest).read_text(encoding="utf-8"))


def scores_of(*pairs: tuple[float, float | None], key: str = PSNR.key) -> tuple[Row, ...]:
    """Rows with the scores (output, input) of one metric."""
    return tuple(
        Row(f"image {i}", {}, {"fake_B": {key: out}, **({} if before is None else {"real_A": {key: before}})})
        for i, (out, before) in enumerate(pairs)
    )


def scored(*pairs: tuple[float, float | None], metric: MetricColumn = PSNR) -> ResultManifest:
    return ResultManifest("run", COLUMNS, scores_of(*pairs, key=metric.key), metrics=(metric,))


def visible(page: Page) -> str:
    return "|".join(part.strip() for part in page.text if part.strip())


def embedded(page: Page) -> dict[str, Any]:
    """The data for the scripts."""
    (text,) = [text for attrs, text in page.raw if attrs.get("id") == "page-data"]
    found: dict[str, Any] = json.loads(text)
    return found


def text_everywhere(word: str) -> ResultManifest:
    """A manifest with ``word`` in every text it has."""
    columns = tuple(Column(column.label, word, column.paired) for column in COLUMNS)
    metric = MetricColumn(word, word, word, word)
    row = Row(word, {}, {"fake_B": {word: 1.0}}, excluded=word)
    return ResultManifest(word, columns, (row,), word, (word,), (metric,))


def test_every_image_address_leads_to_its_file(tmp_path: Path) -> None:
    page = page_of(tmp_path, ResultManifest("run", COLUMNS, picture_rows(tmp_path, HOSTILE_NAMES)))
    rows = embedded(page)["rows"]
    assert [row["name"] for row in rows] == list(HOSTILE_NAMES)
    for row in rows:
        assert row["sizes"] == {column.label: [6, 4] for column in COLUMNS}
        for address in row["images"].values():
            parts = urlsplit(address)
            assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("", "", "", "")
            assert (tmp_path / unquote(parts.path)).is_file()


def test_hostile_text_stays_text_everywhere(tmp_path: Path) -> None:
    evil = "</script></style></title><script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;"
    harmless, page = (page_of(tmp_path / str(index), text_everywhere(word)) for index, word in enumerate(("a", evil)))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in harmless.tags]
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert page.text.count(evil) >= 5  # page title, heading, subtitle, note, row and more


def test_the_page_asks_nobody_for_anything(tmp_path: Path) -> None:
    page = page_of(tmp_path, ResultManifest("run", COLUMNS, picture_rows(tmp_path, ("a",))))
    assert all(address == "data:," or address.startswith("images/") for address in page.addresses())
    for _, text in page.raw:
        assert not re.search(
            r"https?:|//[a-z]|@import|url\(|fetch\(|XMLHttpRequest", re.sub(r"(?m)^\s*// .*$", "", text)
        )


def test_a_page_without_metrics_has_no_summary_and_no_bounds(tmp_path: Path) -> None:
    page = page_of(tmp_path, ResultManifest("run", COLUMNS, picture_rows(tmp_path, ("a",))))
    assert page.all("table") == [] and page.all("span", "threshold") == []


def test_a_missing_image_is_no_error(tmp_path: Path) -> None:
    page = page_of(tmp_path, ResultManifest("run", COLUMNS, (Row("a", {"real_A": "gone.png"}),)))
    assert embedded(page)["rows"][0]["sizes"] == {}


def test_the_summary_is_the_mean_over_images_and_names_the_protocol(tmp_path: Path) -> None:
    text = visible(page_of(tmp_path, scored((30.0, 20.0), (26.0, 24.0))))
    assert "over 2 images" in text and "BT.601 limited-range luma" in text
    # means and sample standard deviations of 20 and 24 and of 30 and 26, and the difference of the means
    assert f"rainy input|real_A|22.00|± {math.sqrt(8):.2f}|derained|fake_B|28.00|± {math.sqrt(8):.2f}|+6.00" in text


def test_excluded_images_do_not_count(tmp_path: Path) -> None:
    rows = (*scores_of((30.0, 20.0)), Row("odd", {}, {"fake_B": {"psnr_y": 99.0}}, excluded="not in b"))
    text = visible(page_of(tmp_path, ResultManifest("run", COLUMNS, rows, metrics=(PSNR,))))
    assert "over 1 image; 1 marked left out" in text and "|30.00|+10.00|" in text


def test_the_best_of_several_outputs_is_marked(tmp_path: Path) -> None:
    columns = (COLUMNS[0], Column("a", "run a"), Column("b", "run b"))
    row = Row("x", {}, {"a": {"psnr_y": 30.0, "ciede2000": 3.0}, "b": {"psnr_y": 31.0, "ciede2000": 4.0}})
    html = write_result_page(tmp_path, ResultManifest("run", columns, (row,), metrics=(PSNR, DELTA))).read_text("utf-8")
    assert re.findall(r'class="value best">([0-9.]+)<', html) == ["3.00", "31.00"]


def test_each_protocol_is_told_once_and_its_metrics_refer_to_it(tmp_path: Path) -> None:
    ssim = MetricColumn("ssim_y", "SSIM (Y)", PSNR.protocol, digits=4)
    row = Row("a", {}, {"fake_B": {"psnr_y": 30.0, "ssim_y": 0.9, "ciede2000": 2.0}})
    page = page_of(tmp_path, ResultManifest("run", COLUMNS, (row,), metrics=(PSNR, ssim, DELTA)))
    text = visible(page)
    assert text.count(PSNR.protocol) == text.count(DELTA.protocol) == 1
    assert text.index(PSNR.protocol) < text.index(DELTA.protocol)
    references = [attrs["title"] for tag, attrs in page.tags if tag == "sup"]
    assert references == [PSNR.protocol, PSNR.protocol, DELTA.protocol]
    assert re.findall(r"\|([12])\|", text[: text.index(PSNR.protocol)])[:3] == ["1", "1", "2"]


def test_the_summary_and_the_orders_use_the_headings_of_what_is_compared(tmp_path: Path) -> None:
    columns = (Column("real_A", "dry street"), Column("fake_B", "storm"))
    text = visible(page_of(tmp_path, ResultManifest("run", columns, scores_of((30.0, 20.0)), metrics=(PSNR,))))
    assert "|dry street|real_A|20.00|storm|fake_B|30.00|+10.00|" in text
    assert "name|PSNR (Y): storm|PSNR (Y): dry street|PSNR (Y): change" in text
    assert "derain" not in text.lower() and "rainy" not in text.lower()


@pytest.mark.parametrize(
    ("metric", "scores", "verdict"),
    [
        (PSNR, (30.0, 20.0), "better"),
        (PSNR, (20.0, 30.0), "worse"),
        (DELTA, (3.0, 5.0), "better"),
        (DELTA, (5.0, 3.0), "worse"),
        (PSNR, (20.0, 20.001), "same"),
    ],
)
def test_the_change_is_colored_by_what_is_better(
    tmp_path: Path, metric: MetricColumn, scores: tuple[float, float], verdict: str
) -> None:
    page = page_of(tmp_path, scored(scores, metric=metric))
    changes = page.all("span", "change")
    assert [change["class"] for change in changes] == [f"change {verdict}"]


def test_scores_without_input_show_no_change(tmp_path: Path) -> None:
    assert page_of(tmp_path, scored((30.0, None))).all("span", "change") == []


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [
        (1.234, False, "1.23"),
        (1.0, True, "+1.00"),
        (-2.5, True, "−2.50"),
        (math.inf, False, "∞"),
        (-0.001, False, "0.00"),
    ],
)
def test_numbers_are_written_for_people(value: float, signed: bool, text: str) -> None:
    assert format_number(value, 2, signed=signed) == text
