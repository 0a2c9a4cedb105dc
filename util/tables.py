"""Tables of numbers for papers and pages: one table, written as HTML, CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from dominate import tags

from util.files import write_atomically
from util.pages.html import new_document
from util.text import aligned

STYLES = ("base.css", "result.css")
MISSING = "–"
_ASCII = {ord("–"): "-", ord("±"): "+/-", ord("∞"): "inf"}  # some consoles cannot print more
TEXT_WIDTH = 100  # characters of a caption's line on a console
TEXT_STYLE = "white-space: normal; max-width: 96ch; font-weight: 400"  # a caption is text, not a line of the table
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    MISSING: "--",
    "±": r"$\pm$",
    "∞": r"$\infty$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "-": "-{}",
}
_LATEX_SPECIAL = re.compile(r"-(?=-)|[&%$#_{}\\~^<>–±∞↑↓]")  # two hyphens, as in flags, would become a dash


@dataclass(frozen=True)
class Column:
    """A column of numbers: its key in the CSV, its heading, its decimals, and which numbers are better, if any are."""

    key: str
    heading: str
    digits: int = 2
    higher_is_better: bool | None = None

    @property
    def head(self) -> str:
        """The heading and an arrow towards the better numbers: ``PSNR (Y) ↑``."""
        arrow = {None: "", True: " ↑", False: " ↓"}[self.higher_is_better]
        return self.heading + arrow


@dataclass(frozen=True)
class MeanStd:
    """A mean, and the sample standard deviation of two or more finite values."""

    mean: float
    std: float | None = None

    @staticmethod
    def of(values: Sequence[float]) -> MeanStd:
        """Mean and deviation of ``values``, of which there is at least one."""
        several = len(values) > 1 and all(map(math.isfinite, values))
        return MeanStd(fmean(values), stdev(values) if several else None)

    def text(self, digits: int) -> str:
        """As a reader sees it: ``27.67 ± 0.12``."""
        mean = "∞" if math.isinf(self.mean) else f"{self.mean:.{digits}f}"
        return mean if self.std is None else f"{mean} ± {self.std:.{digits}f}"


@dataclass(frozen=True)
class Row:
    """One line: a label, numbers by column key, a remark, and addresses of more about it by what to call them."""

    label: str
    numbers: Mapping[str, MeanStd] = field(default_factory=dict)
    remark: str = ""
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A title, a caption, columns and rows; ``facts`` are repeated in each line of the CSV, which has no caption."""

    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    facts: Mapping[str, str] = field(default_factory=dict)

    def cells(self, row: Row) -> list[str]:
        """The numbers of a row as text, in the order of the columns."""
        numbers = ((row.numbers.get(column.key), column.digits) for column in self.columns)
        return [MISSING if number is None else number.text(digits) for number, digits in numbers]


def write_table(folder: Path, name: str, table: Table) -> list[Path]:
    """Write ``name`` .html, .csv, .md and .tex into ``folder``, each atomically; returns their paths.

    Raises:
        UserError: a file cannot be written.
    """
    written = []
    for suffix, text in (
        ("html", as_html(table)), ("csv", as_csv(table)), ("md", as_markdown(table)), ("tex", as_latex(table)),
    ):  # fmt: skip
        path = folder / f"{name}.{suffix}"
        write_atomically(path, text.encode("utf-8", "backslashreplace"))
        written.append(path)
    return written


def as_csv(table: Table) -> str:
    """Full precision, two columns for each number (mean and deviation), one line a row."""
    numbers = [f"{column.key}_{part}" for column in table.columns for part in ("mean", "std")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", *numbers, "remark", *table.facts])
    for row in table.rows:
        found = [row.numbers.get(column.key) for column in table.columns]
        pairs = [(None, None) if number is None else (number.mean, number.std) for number in found]
        writer.writerow([row.label, *(value for pair in pairs for value in pair), row.remark, *table.facts.values()])
    return text.getvalue()


def as_markdown(table: Table) -> str:
    """A table as GitHub shows it, the caption below."""
    remarks = any(row.remark for row in table.rows)
    heads = ["", *(column.head for column in table.columns), *(["remark"] if remarks else [])]
    lines = [_markdown_line(heads), "|---|" + "---:|" * len(table.columns) + ("---|" if remarks else "")]
    lines += [_markdown_line([row.label, *table.cells(row), *([row.remark] if remarks else [])]) for row in table.rows]
    return f"**{_markdown(table.title)}**\n\n" + "\n".join(lines) + f"\n\n{_markdown(table.caption)}\n"


def as_latex(table: Table) -> str:
    """A ``table`` environment; needs the package booktabs."""
    remarks = any(row.remark for row in table.rows)
    heads = ["", *(column.head for column in table.columns), *(["remark"] if remarks else [])]
    body = [[row.label, *table.cells(row), *([row.remark] if remarks else [])] for row in table.rows]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(table.title)}. {_latex(table.caption)}}}",
        rf"\begin{{tabular}}{{l{'c' * len(table.columns)}{'l' if remarks else ''}}}",
        r"\toprule",
        _latex_line(heads),
        r"\midrule",
        *map(_latex_line, body),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def as_text(table: Table) -> str:
    """For consoles, ASCII apart from labels: aligned columns, the caption below, wrapped. Remarks are left out."""
    lines = [["", *(column.heading for column in table.columns)]]
    lines += [[row.label, *(cell.translate(_ASCII) for cell in table.cells(row))] for row in table.rows]
    text = ["  ".join(line).rstrip() for line in aligned(lines)]
    return "\n".join([*text, "", *textwrap.wrap(table.caption, TEXT_WIDTH)])


def as_html(table: Table) -> str:
    """A page of its own, in the looks of the result pages."""
    page = new_document(table.title, STYLES)
    remarks = any(row.remark or row.links for row in table.rows)
    heads = ["", *(column.head for column in table.columns), *(["remark"] if remarks else [])]
    body = tags.tbody()
    for row in table.rows:
        line = body.add(tags.tr(tags.th(row.label, scope="row"), *map(tags.td, table.cells(row))))
        if remarks:
            line.add(tags.td(row.remark, *_links(row)))
    head = tags.thead(tags.tr(tags.th(head, scope="col") for head in heads))
    caption = tags.caption(table.caption, style=TEXT_STYLE)
    page.body.add(tags.header(tags.h1(table.title)))
    page.body.add(tags.main(tags.section(tags.div(tags.table(caption, head, body), cls="scroll"), cls="summary")))
    return str(page.render(pretty=False))


def _links(row: Row) -> list[Any]:
    return [item for text, address in row.links.items() for item in (" ", tags.a(text, href=address))]


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))


def _markdown_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_markdown, cells)) + " |"


def _latex(text: str) -> str:
    return _LATEX_SPECIAL.sub(lambda match: _LATEX[match.group()], " ".join(text.split()))


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(map(_latex, cells)) + r" \\"
