"""What tests of pages in a real browser share: the browser, a page to look at, and what is seen on the screen.

Without playwright or Chromium, tests that ask for one of these fixtures are skipped.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from util.pages.manifest import Column, MetricColumn, ResultManifest, Row
from util.pages.result_page import write_result_page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
WIDE = {"width": 1200, "height": 800}
PHONE = {"width": 390, "height": 844}
SIZE = (48, 32)  # width, height of the test pictures
RED, GREEN, BLUE = (200, 40, 40), (40, 200, 40), (40, 40, 200)
COLORS = {"real_A": RED, "fake_B": GREEN, "real_B": BLUE}
COLUMNS = (Column("real_A", "rainy input"), Column("fake_B", "derained"), Column("real_B", "ground truth"))
METRICS = (
    MetricColumn("psnr", "PSNR (Y)", "luma", "dB"),
    MetricColumn("ciede2000", "Color difference", "mean", higher_is_better=False),
)
PSNR = {"one": 25.0, "two": 21.0, "ten": 31.0, "three": 28.0}
ATTACK = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
FOR_WINDOWS = ("quote's", "per%20cent #1", "雨 Straße")
HOSTILE = (*FOR_WINDOWS, 'quote"s', ATTACK, "what?x=1&y=2", "new\nline", "back\\slash")
NAMES = FOR_WINDOWS if os.name == "nt" else HOSTILE


def save_pictures(folder: Path, name: str, colors: dict[str, tuple[int, int, int]] = COLORS) -> dict[str, str]:
    images = {label: f"images/{label}/{name}.png" for label in colors}
    for label, path in images.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE, colors[label]).save(folder / path)
    return images


def write_page(folder: Path) -> Path:
    """A page of four rows, with pictures of one color for each column."""
    rows = []
    for name, psnr in PSNR.items():
        scores = {"real_A": {"psnr": 20.0, "ciede2000": 9.0}, "fake_B": {"psnr": psnr, "ciede2000": 40.0 - psnr}}
        rows.append(Row(name, save_pictures(folder, name), scores))
    return write_result_page(folder, ResultManifest("run", COLUMNS, tuple(rows), metrics=METRICS))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install playwright")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"no browser is installed; looked for {', '.join(PROGRAMS)}")
    with playwright_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def usual_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page as most results have it; tests only look at it."""
    return write_page(tmp_path_factory.mktemp("page"))


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens addresses; at the end no page may have written to the console, but for what was expected, or thrown."""
    contexts, complaints, allowed = [], [], []

    def open_page(
        address: Path | str, viewport: dict[str, int] = WIDE, expected: str | None = None, **context: Any
    ) -> Any:
        contexts.append(browser.new_context(viewport=viewport, **context))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        if expected:
            allowed.append(expected)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address.as_uri() if isinstance(address, Path) else address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [text for text in complaints if not any(words in text for words in allowed)] == []


def names(page: Any) -> list[str]:
    found: list[str] = page.eval_on_selector_all(".row:not([hidden]) h2", "all => all.map(each => each.textContent)")
    return found


def open_viewer(page: Any, mode: str, column: int = 1) -> None:
    page.click(f".row:not([hidden]) .picture[data-column='{column}']")
    page.keyboard.press(mode)
    wait_for_pictures(page)


def wait_for_rows(page: Any, count: int) -> None:
    """Until so many rows' pictures are drawn, each with the pixels of its file."""
    page.wait_for_function(
        "([count, width]) => document.querySelectorAll(`.results canvas[data-drawn='${width}']`).length === count",
        arg=[count, SIZE[0]],
    )


def wait_for_pictures(page: Any) -> None:
    page.wait_for_function("[...document.querySelectorAll('.stage img')].every(each => each.complete)")


def seen(page: Any, part: Any = None) -> np.ndarray:
    """What is on the screen, or of a part of the page: [H, W, 3] uint8."""
    return np.asarray(Image.open(io.BytesIO((part or page).screenshot())).convert("RGB"))


def color_at(page: Any, across: float, *, box: int = 0, down: float = 0.25) -> tuple[int, ...]:
    """The color in a box of the viewer, at fractions of its picture's width and height."""
    place = page.evaluate(
        """box => { const p = document.querySelectorAll('.stage .box')[box].querySelector('.layer:not([hidden]) img')
           .getBoundingClientRect(); return [p.x, p.y, p.width, p.height]; }""",
        box,
    )
    pixel = seen(page)[int(place[1] + down * place[3]), int(place[0] + across * place[2])]
    return tuple(int(value) for value in pixel)


def places(page: Any) -> list[list[float]]:
    """Where each picture lies in its box, and how large it is."""
    found: list[list[float]] = page.eval_on_selector_all(
        ".stage .box",
        """all => all.map(box => { const p = box.querySelector('img').getBoundingClientRect();
           const b = box.getBoundingClientRect(); return [p.x - b.x, p.y - b.y, p.width, p.height]; })""",
    )
    return found
