"""The training page in a real browser, from a file, while its run goes on."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from util.pages.training_page import OptionFact, RunFacts
from util.trackers.csv_files import CsvFiles
from util.trackers.page import WebPage
from util.trackers.tracker import Report

pytestmark = pytest.mark.browser

PER_EPOCH, EPOCHS = 100, 4
ATTACK = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
FACTS = RunFacts("python train.py", (OptionFact("lr", "0.1", "0.2", "training"), OptionFact("ngf", "8", "8", "net")))


def progress_at(total: int) -> Report:
    epoch, within = (total - 1) // PER_EPOCH + 1, (total - 1) % PER_EPOCH + 1
    return Report(epoch, EPOCHS, within, PER_EPOCH, total, 2e-4, 3.0, 0.1)


def gray(level: int) -> np.ndarray:
    return np.full((32, 48, 3), level, dtype=np.uint8)


def report(page: WebPage, totals: range) -> None:
    """The loss is a tenth of the images, the pictures are as bright as there are images."""
    for total in totals:
        page.scalars(progress_at(total), {"G": total / 10})
        page.metrics(progress_at(total), {"psnr": 20 + total / 50})
        page.images(progress_at(total), {"fake_B": gray(min(total, 255)), ATTACK: gray(0)})


@pytest.fixture
def run(tmp_path: Path) -> WebPage:
    """A run that has reported at 50, 100, 150 and 200 images."""
    page = WebPage(tmp_path, "run", None, facts=FACTS)
    report(page, range(50, 201, 50))
    return page


@pytest.fixture
def visit(browser: Any, run: WebPage) -> Iterator[Callable[..., Any]]:
    """Opens the run's page; at the end it may not have written to the console or thrown."""
    contexts, complaints = [], []

    def open_page(width: int = 1200, scheme: str = "light") -> Any:
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(run.page.as_uri())
        page.wait_for_selector("#losses .chart svg path")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def brightness(page: Any) -> float:
    """Of the first picture on the screen, 0 to 255."""
    page.wait_for_function("[...document.querySelectorAll('#strip img')].every(each => each.complete)")
    shot = page.locator("#strip img").first.screenshot()
    middle = np.asarray(Image.open(io.BytesIO(shot)).convert("L"))[10:-10, 10:-10]
    return float(middle.mean())


def look_again(page: Any) -> None:
    """What coming back to the page does, and time does too."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def test_the_slider_goes_through_the_training(visit: Callable[..., Any]) -> None:
    page = visit()
    assert brightness(page) == pytest.approx(200, abs=2)  # the newest first
    page.locator("#time").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert brightness(page) == pytest.approx(100, abs=2)
    assert page.locator("#moment").inner_text() == "epoch 1, after 100 images (2 of 4)"
    page.click("#later")
    assert brightness(page) == pytest.approx(150, abs=2)


def test_an_open_page_follows_the_run_without_moving_what_is_looked_at(visit: Callable[..., Any], run: WebPage) -> None:
    page = visit()
    report(run, range(250, 251))
    look_again(page)
    page.wait_for_function("document.getElementById('facts').textContent.includes('250 in all')")
    assert brightness(page) == pytest.approx(250, abs=2)
    page.click("#earlier")
    report(run, range(300, 301))
    run.close()
    look_again(page)
    page.wait_for_function("document.getElementById('facts').textContent.includes('300 in all')")
    assert brightness(page) == pytest.approx(200, abs=2)
    assert page.locator("#moment").inner_text().endswith("(4 of 6)")
    assert page.locator("#state").inner_text().startswith("stopped")


def test_a_run_that_goes_on_brings_its_new_options_to_the_open_page(
    visit: Callable[..., Any], run: WebPage, tmp_path: Path
) -> None:
    page = visit()
    run.close()
    CsvFiles(tmp_path, 200).close()
    options = (OptionFact("lr", "0.3", "0.2", "training"),)
    report(WebPage(tmp_path, "run", 200, facts=RunFacts("go on", options)), range(400, 401))
    with page.expect_navigation():
        look_again(page)
    page.wait_for_function("document.getElementById('facts').textContent.includes('resumed at image 200')")
    assert "0.3 instead of 0.2" in page.locator("#options").inner_text()


def test_a_pointer_on_a_curve_reads_it_and_a_click_shows_its_pictures(visit: Callable[..., Any]) -> None:
    page = visit()
    curve = page.locator("#losses svg").first
    x = float(curve.locator("text.tick:not(.left)").get_by_text("1", exact=True).get_attribute("x"))
    curve.hover(position={"x": x, "y": 60})
    assert page.locator("#losses .reading").first.inner_text().split() == ["epoch", "1", "10"]
    assert page.locator("#metrics .reading").first.inner_text().split() == ["epoch", "1", "22.00", "dB"]
    curve.click(position={"x": x, "y": 60})
    assert brightness(page) == pytest.approx(100, abs=2)


def test_curves_can_be_read_by_key(visit: Callable[..., Any]) -> None:
    page = visit()
    page.locator("#losses svg").first.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert "epoch 1.5" in page.locator("#losses .reading").first.inner_text()
    page.keyboard.press("Enter")
    assert page.locator("#moment").inner_text().startswith("epoch 2, after 50 images")


def test_smoothing_is_the_mean_over_a_window_and_leaves_gaps(
    visit: Callable[..., Any], run: WebPage, tmp_path: Path
) -> None:
    values = np.sin(np.arange(100.0))
    values[95] = math.nan
    longer = WebPage(tmp_path, "run", None)
    for index, value in enumerate(values):
        longer.scalars(progress_at(index + 1), {"G": value})
    longer.close()
    page = visit()
    page.evaluate("smooth.value = 1; smooth.dispatchEvent(new Event('input'))")
    page.locator("#losses svg").first.focus()
    reach = 10  # the strongest smoothing averages over a fifth of the points
    for index in range(99, 79, -1):
        page.keyboard.press("ArrowLeft")
        read = page.locator("#losses .reading strong").first.inner_text()
        if index == 95:
            assert read == "–"
        else:
            assert float(read) == pytest.approx(np.nanmean(values[index - reach : index + reach + 1]), rel=1e-3)


def test_options_are_found_by_typing(visit: Callable[..., Any]) -> None:
    page = visit()
    assert not page.locator("#all-options tr").first.is_visible()
    page.fill("#find", "--ngf")
    assert page.locator("#options tr:visible").all_inner_texts()[0].startswith("--ngf")
    page.fill("#find", "nonsense")
    assert page.locator("#none-found").is_visible()


def test_names_are_never_executed(visit: Callable[..., Any]) -> None:
    page = visit()
    assert page.evaluate("window.hacked") is None
    assert ATTACK in page.locator("#strip").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_in_one_direction_only(visit: Callable[..., Any], scheme: str) -> None:
    page = visit(width=390, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("#losses .chart").first.bounding_box()["width"] > 300
