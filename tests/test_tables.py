"""Tables: the same numbers in every format, and no special characters of theirs."""

from __future__ import annotations

import csv
from html.parser import HTMLParser

from util.tables import Column, MeanStd, Row, Table, as_csv, as_html, as_latex, as_markdown, as_text

TABLE = Table(
    title="A_1 & <b>",
    caption="50 % of #1_x, --flag",
    columns=(Column("psnr", "PSNR", higher_is_better=True), Column("ssim", "SSIM", 4)),
    rows=(Row("a|b_c", {"psnr": MeanStd.of([20.0, 22.0])}, "seed 1: failed", {"seed 0": "x.html"}), Row("plain")),
    facts={"data": "d"},
)


def test_number_has_the_sample_deviation_of_two_values() -> None:
    assert MeanStd.of([20.0, 22.0]).text(2) == "21.00 ± 1.41"
    assert MeanStd.of([20.0]).text(1) == "20.0"
    assert MeanStd.of([float("inf"), 20.0]).text(2) == "∞"


def test_latex_is_escaped() -> None:
    text = as_latex(TABLE)
    assert r"\caption{A\_1 \& \textless{}b\textgreater{}. 50 \% of \#1\_x, -{}-flag}" in text
    assert r"a|b\_c & 21.00 $\pm$ 1.41 & -- & seed 1: failed \\" in text
    assert r"PSNR $\uparrow$" in text


def test_markdown_keeps_its_columns() -> None:
    lines = [line for line in as_markdown(TABLE).splitlines() if line.startswith("|")]
    assert lines[2] == r"| a\|b\_c | 21.00 ± 1.41 | – | seed 1: failed |"
    assert {line.replace(r"\|", "").count("|") for line in lines} == {5}


def test_text_is_aligned_with_the_caption_below() -> None:
    head, first, second, blank, caption = as_text(TABLE).splitlines()
    assert head.index("SSIM") + 4 == first.index(" -") + 2 == len(second)
    assert (first[:5], second.split(), blank, caption) == ("a|b_c", ["plain", "-", "-"], "", TABLE.caption)


def test_csv_has_full_precision_and_the_facts() -> None:
    line = next(csv.DictReader(as_csv(TABLE).splitlines()))
    assert float(line["psnr_std"]) == 2**0.5
    assert (line["ssim_mean"], line["data"], line["row"]) == ("", "d", "a|b_c")


def test_html_shows_markup_in_labels_as_text() -> None:
    class Found(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.tags: list[str] = []
            self.text = ""

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.tags.append(tag)

        def handle_data(self, data: str) -> None:
            self.text += data

    found = Found()
    found.feed(as_html(TABLE))
    assert "b" not in found.tags and "A_1 & <b>" in found.text
    assert found.tags.count("tr") == 3 and "21.00 ± 1.41" in found.text
