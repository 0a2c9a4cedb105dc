"""The result page: safe with any file name, self-contained, the same after a round trip."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from PIL import Image

from util.errors import UserError
from util.pages.manifest import Column, Metric, ResultManifest, Row, Score, load_manifest, save_manifest
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
)
FORBIDDEN_ON_WINDOWS = set('<>:"?*|\\')
HOSTILE_NAMES = tuple(name for name in ALL_NAMES if os.name != "nt" or not FORBIDDEN_ON_WINDOWS & set(name))
COLUMNS = (Column("real_A", "rainy input"), Column("fake_B", "derained"), Column("real_B", "rain-free photo", False))
PSNR = Metric("psnr_y", "PSNR (Y)", "BT.601 limited-range luma", "dB")
DELTA = Metric("ciede2000", "CIEDE2000", "mean over pixels", higher_is_better=False)


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


def scored(*scores: tuple[float, float | None], metric: Metric = PSNR) -> ResultManifest:
    rows = tuple(Row(f"image {i}", {}, {metric.key: Score(*score)}) for i, score in enumerate(scores))
    return ResultManifest("run", COLUMNS, rows, metrics=(metric,))


def text_everywhere(word: str) -> ResultManifest:
    """A manifest with ``word`` in every text it has."""
    columns = tuple(Column(column.label, word, column.paired) for column in COLUMNS)
    metric = Metric(word, word, word, word)
    return ResultManifest(word, columns, (Row(word, {}, {word: Score(1.0)}),), word, (word,), (metric,))


def test_every_image_address_leads_to_its_file(tmp_path: Path) -> None:
    page = page_of(tmp_path, ResultManifest("run", COLUMNS, picture_rows(tmp_path, HOSTILE_NAMES)))
    images = page.all("img")
    assert len(images) == len(HOSTILE_NAMES) * len(COLUMNS)
    for image in images:
        parts = urlsplit(image["src"] or "")
        assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("", "", "", "")
        assert (tmp_path / unquote(parts.path)).is_file()
        assert (image["loading"], image["width"], image["height"]) == ("lazy", "6", "4")


def test_hostile_text_stays_text_everywhere(tmp_path: Path) -> None:
    evil = "</script></style></title><script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;"
    harmless, page = (page_of(tmp_path / str(index), text_everywhere(word)) for index, word in enumerate(("a", evil)))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in harmless.tags]
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert page.text.count(evil) >= 5  # page title, heading, subtitle, note, row and more


def test_data_for_the_scripts_survive_hostile_names(tmp_path: Path) -> None:
    page = page_of(tmp_path, ResultManifest("run", COLUMNS, picture_rows(tmp_path, HOSTILE_NAMES)))
    embedded = [text for attrs, text in page.raw if attrs.get("id") == "page-data"]
    assert len(embedded) == 1
    assert [row["name"] for row in json.loads(embedded[0])["rows"]] == list(HOSTILE_NAMES)


def test_the_page_asks_nobody_for_anything(tmp_path: Path) -> None:
    page = page_of(tmp_path, ResultManifest("run", COLUMNS, picture_rows(tmp_path, ("a",))))
    assert all(address == "data:," or address.startswith("images/") for address in page.addresses())
    for _, text in page.raw:
        assert not re.search(
            r"https?:|//[a-z]|@import|url\(|fetch\(|XMLHttpRequest", re.sub(r"(?m)^\s*// .*$", "", text)
        )


def test_headings_are_words_with_the_label_beside_and_unpaired_is_marked(tmp_path: Path) -> None:
    page = page_of(tmp_path, ResultManifest("run", COLUMNS, picture_rows(tmp_path, ("a",))))
    text = " ".join("".join(page.text).split())
    assert "rainy input real_A" in text and "derained fake_B" in text
    assert "rain-free photo real_B unpaired" in text
    assert len(page.all("span", "badge")) == 2  # column heading and caption


def test_a_page_without_metrics_has_no_summary(tmp_path: Path) -> None:
    page = page_of(tmp_path, ResultManifest("run", COLUMNS, picture_rows(tmp_path, ("a",))))
    assert page.all("table") == [] and page.all("ul", "scores") == []
    assert len(page.all("article")) == 1


def test_a_missing_image_leaves_its_place(tmp_path: Path) -> None:
    page = page_of(tmp_path, ResultManifest("run", COLUMNS, (Row("a", {"real_A": "gone.png"}),)))
    assert len(page.all("img")) == 1 and len(page.all("div", "missing")) == 2


def test_the_summary_is_the_mean_over_images_and_names_the_protocol(tmp_path: Path) -> None:
    page = page_of(tmp_path, scored((30.0, 20.0), (26.0, 24.0)))
    text = "|".join(part.strip() for part in page.text if part.strip())
    assert "Mean over 2 images" in text and "BT.601 limited-range luma" in text
    # means of 20 and 24, of 30 and 26, their difference, and the sample standard deviation of 30 and 26
    assert f"22.00|28.00|+6.00|± {math.sqrt(8):.2f}" in text


def test_each_protocol_is_told_once_and_its_metrics_refer_to_it(tmp_path: Path) -> None:
    ssim = Metric("ssim_y", "SSIM (Y)", PSNR.protocol, digits=4)
    scores = {"psnr_y": Score(30.0, 20.0), "ssim_y": Score(0.9, 0.8), "ciede2000": Score(2.0, 3.0)}
    page = page_of(tmp_path, ResultManifest("run", COLUMNS, (Row("a", {}, scores),), metrics=(PSNR, ssim, DELTA)))
    text = "|".join(part.strip() for part in page.text if part.strip())
    assert text.count(PSNR.protocol) == text.count(DELTA.protocol) == 1
    assert text.index(PSNR.protocol) < text.index(DELTA.protocol)
    references = [attrs["title"] for tag, attrs in page.tags if tag == "sup"]
    assert references == [PSNR.protocol, PSNR.protocol, DELTA.protocol]
    assert re.findall(r"\|([12])\|", text[: text.index(PSNR.protocol)])[:3] == ["1", "1", "2"]


def test_the_summary_and_the_orders_use_the_headings_of_what_is_compared(tmp_path: Path) -> None:
    columns = (Column("real_A", "dry street"), Column("fake_B", "storm"))
    rows = (Row("a", {}, {"psnr_y": Score(30.0, 20.0)}),)
    page = page_of(tmp_path, ResultManifest("run", columns, rows, metrics=(PSNR,)))
    text = "|".join(part.strip() for part in page.text if part.strip())
    assert "Metric|Dry street|Storm|Change|Spread of storm" in text
    assert "name|PSNR (Y), storm|PSNR (Y), dry street|PSNR (Y), change" in text
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
def test_the_change_is_coloured_by_what_is_better(
    tmp_path: Path, metric: Metric, scores: tuple[float, float], verdict: str
) -> None:
    page = page_of(tmp_path, scored(scores, metric=metric))
    changes = page.all("span", "change")
    assert len(changes) == 2  # summary and row
    assert all(verdict in (change["class"] or "") for change in changes)


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


def test_the_manifest_reads_back_as_it_was(tmp_path: Path) -> None:
    rows = (Row("<雨> \"'", {"real_A": "a b.png"}, {"psnr_y": Score(math.inf, 20.5)}), Row("b", {}))
    manifest = ResultManifest("title", COLUMNS, rows, "sub", ("one", "two"), (PSNR, DELTA), "real_A", "real_B")
    assert load_manifest(save_manifest(tmp_path, manifest)) == manifest


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"version": 1}', '{"version": 99}'])
def test_a_damaged_manifest_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "manifest.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"manifest\.json"):
        load_manifest(path)


@pytest.mark.parametrize("path", ["../secret.png", "/etc/secret.png", "a/../../b.png", ""])
def test_images_outside_the_folder_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="inside"):
        ResultManifest("run", COLUMNS, (Row("a", {"real_A": path}),))


def test_unknown_columns_and_metrics_are_refused() -> None:
    with pytest.raises(ValueError, match="fake_C"):
        ResultManifest("run", COLUMNS, (Row("a", {"fake_C": "a.png"}),))
    with pytest.raises(ValueError, match="psnr_y"):
        ResultManifest("run", COLUMNS, (Row("a", {}, {"psnr_y": Score(1.0)}),))
