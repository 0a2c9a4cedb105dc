"""The result page in a real browser: what a user does, and what is then on the screen."""

from __future__ import annotations

import functools
import http.server
import io
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from util.pages.manifest import Column, Metric, ResultManifest, Row
from util.pages.result_page import write_result_page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
playwright_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome is installed"),
]

WIDE = {"width": 1200, "height": 800}
PHONE = {"width": 390, "height": 844}
SIZE = (48, 32)  # width, height of the test pictures
RED, GREEN, BLUE = (200, 40, 40), (40, 200, 40), (40, 40, 200)
COLOURS = {"real_A": RED, "fake_B": GREEN, "real_B": BLUE}
COLUMNS = (Column("real_A", "rainy input"), Column("fake_B", "derained"), Column("real_B", "ground truth"))
METRICS = (
    Metric("psnr", "PSNR (Y)", "luma", "dB"),
    Metric("ciede2000", "Colour difference", "mean", higher_is_better=False),
)
PSNR = {"one": 25.0, "two": 21.0, "ten": 31.0, "three": 28.0}
ATTACK = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
FOR_WINDOWS = ("quote's", "per%20cent #1", "雨 Straße")
HOSTILE = (*FOR_WINDOWS, 'quote"s', ATTACK, "what?x=1&y=2", "new\nline", "back\\slash")
NAMES = FOR_WINDOWS if os.name == "nt" else HOSTILE


def save_pictures(folder: Path, name: str, colours: dict[str, tuple[int, int, int]] = COLOURS) -> dict[str, str]:
    images = {label: f"images/{label}/{name}.png" for label in colours}
    for label, path in images.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE, colours[label]).save(folder / path)
    return images


def write_page(folder: Path) -> Path:
    """A page of four rows, with pictures of one colour for each column."""
    rows = []
    for name, psnr in PSNR.items():
        scores = {"real_A": {"psnr": 20.0, "ciede2000": 9.0}, "fake_B": {"psnr": psnr, "ciede2000": 40.0 - psnr}}
        rows.append(Row(name, save_pictures(folder, name), scores))
    return write_result_page(folder, ResultManifest("run", COLUMNS, tuple(rows), metrics=METRICS))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(tmp_path_factory.mktemp("page"))


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens addresses; at the end no page may have written to the console or thrown."""
    contexts, complaints = [], []

    def open_page(address: Path | str, viewport: dict[str, int] = WIDE, **context: Any) -> Any:
        contexts.append(browser.new_context(viewport=viewport, **context))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address.as_uri() if isinstance(address, Path) else address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def names(page: Any) -> list[str]:
    found: list[str] = page.eval_on_selector_all(".row:not([hidden]) h2", "all => all.map(each => each.textContent)")
    return found


def open_viewer(page: Any, mode: str, column: int = 1) -> None:
    page.click(f".row:not([hidden]) .picture[data-column='{column}']")
    page.keyboard.press(mode)
    wait_for_pictures(page)


def wait_for_pictures(page: Any) -> None:
    page.wait_for_function("[...document.querySelectorAll('.stage img')].every(each => each.complete)")


def seen(page: Any) -> np.ndarray:
    """What is on the screen: [H, W, 3] uint8."""
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))


def colour_at(page: Any, across: float, *, box: int = 0, down: float = 0.25) -> tuple[int, ...]:
    """The colour in a box of the viewer, at fractions of its picture's width and height."""
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


def test_hostile_names_are_shown_and_do_nothing(tmp_path: Path, visit: Callable[..., Any]) -> None:
    rows = tuple(Row(name, save_pictures(tmp_path, name)) for name in NAMES)
    address = write_result_page(tmp_path, ResultManifest(ATTACK, COLUMNS, rows))
    page = visit(address, viewport={"width": 600, "height": 4000})  # all rows at once
    assert sorted(names(page)) == sorted(NAMES)
    page.wait_for_function("count => document.querySelectorAll('.results img').length === count", arg=3 * len(NAMES))
    page.wait_for_function("[...document.querySelectorAll('.results img')].every(each => each.naturalWidth === 48)")
    open_viewer(page, "a")
    assert page.evaluate("window.hacked") is None


def test_the_page_works_from_a_web_server(usual: Path, visit: Callable[..., Any]) -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(usual.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = visit(f"http://127.0.0.1:{server.server_port}/index.html")
        page.wait_for_function("[...document.querySelectorAll('.results img')].every(each => each.naturalWidth === 48)")
        assert page.locator(".results img").count() == 12
        server.shutdown()


def test_sorting_by_psnr_puts_the_worst_or_the_best_first(usual: Path, visit: Callable[..., Any]) -> None:
    page = visit(usual)
    assert names(page) == ["one", "ten", "three", "two"]
    page.select_option("#order", label="PSNR (Y): derained")
    assert names(page) == ["two", "one", "three", "ten"]
    page.click("text=Best first")
    assert names(page) == ["ten", "three", "one", "two"]
    page.select_option("#order", label="Colour difference: derained")  # where a high number is the worst
    assert names(page) == ["two", "one", "three", "ten"]


def test_filtering_by_name_and_by_a_bound(usual: Path, visit: Callable[..., Any]) -> None:
    page = visit(usual)
    page.keyboard.press("/")
    page.keyboard.type("T")
    assert names(page) == ["ten", "three", "two"]
    page.select_option("#measure", label="PSNR (Y): change")
    page.fill("#bound", "8")
    assert names(page) == ["three", "two"]
    page.select_option("#relation", "least")
    assert names(page) == ["ten", "three"]
    assert page.inner_text("#count") == "2 of 4 images"
    page.fill("#filter", "nowhere")
    assert page.is_visible(".nothing")


def test_the_slider_moves_by_mouse_and_by_keys(usual: Path, visit: Callable[..., Any]) -> None:
    page = visit(usual)
    open_viewer(page, "s")
    assert (colour_at(page, 0.4), colour_at(page, 0.6)) == (RED, GREEN)
    box = page.locator(".stage .box").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + 30)
    page.mouse.up()
    assert (colour_at(page, 0.6), colour_at(page, 0.95)) == (RED, GREEN)
    page.focus(".handle")
    page.keyboard.press("Home")
    assert colour_at(page, 0.2) == GREEN
    assert page.get_attribute(".handle", "aria-valuenow") == "0"


def test_zoom_and_movement_are_the_same_in_all_columns(usual: Path, visit: Callable[..., Any]) -> None:
    page = visit(usual)
    open_viewer(page, "a")
    whole = places(page)
    box = page.locator(".stage .box").nth(1).bounding_box()
    across = 0.35 * box["width"]
    page.mouse.move(box["x"] + across, box["y"] + box["height"] / 2)
    page.mouse.wheel(0, -800)
    page.wait_for_function(
        "width => document.querySelector('.stage img').getBoundingClientRect().width > width", arg=whole[0][2]
    )
    zoomed = places(page)
    assert len(zoomed) == 3 and zoomed[0] == zoomed[1] == zoomed[2]
    # the point under the mouse stays where it is
    assert (across - zoomed[1][0]) / zoomed[1][2] == pytest.approx((across - whole[1][0]) / whole[1][2], abs=0.01)
    page.mouse.down()
    page.mouse.move(box["x"] + across - 40, box["y"] + box["height"] / 2)
    page.mouse.up()
    moved = places(page)
    assert moved[0] == moved[1] == moved[2]
    assert moved[0][0] == pytest.approx(zoomed[0][0] - 40, abs=1)
    page.keyboard.press("0")
    assert places(page) == whole


def test_magnified_pixels_are_squares_of_their_own_colour(tmp_path: Path, visit: Callable[..., Any]) -> None:
    board = (np.indices((8, 8)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "board.png")
    rows = (Row("board", {"real_A": "board.png"}),)
    page = visit(write_result_page(tmp_path, ResultManifest("run", COLUMNS[:1], rows)))
    open_viewer(page, "o", column=0)
    left, top, width, height = places(page)[0]
    box = page.locator(".stage .box").bounding_box()
    picture = seen(page)[int(box["y"] + top) + 1 :, int(box["x"] + left) + 1 :][: int(height) - 2, : int(width) - 2]
    assert set(np.unique(picture)) == {0, 255}


def test_differences_are_absolute_and_magnified(usual: Path, visit: Callable[..., Any]) -> None:
    page = visit(usual)
    open_viewer(page, "d")
    assert page.locator(".stage .box").count() == 2  # input and output, each to the ground truth
    for gain in (4, 2, 1):
        expected = [np.minimum(gain * np.abs(np.subtract(colour, BLUE)), 255) for colour in (RED, GREEN)]
        shown = [colour_at(page, 0.5, box=box) for box in (0, 1)]
        assert np.abs(np.subtract(shown, expected)).max() <= 1
        page.keyboard.press("f")
    page.keyboard.press("d")  # now to the input
    wait_for_pictures(page)
    assert np.abs(np.subtract(colour_at(page, 0.5), np.abs(np.subtract(GREEN, RED)))).max() <= 1
    assert page.locator(".stage .caption .words").all_inner_texts() == [
        "| derained − rainy input |",
        "| ground truth − rainy input |",
    ]


def test_the_keyboard_alone_is_enough(usual: Path, visit: Callable[..., Any]) -> None:
    page = visit(usual)
    page.focus(".row .picture[data-column='1']")
    page.keyboard.press("Enter")
    assert page.is_visible(".viewer") and page.inner_text(".viewer .name") == "one"
    wait_for_pictures(page)
    for key, colour in (("1", RED), ("2", GREEN), ("3", BLUE)):
        page.keyboard.press("o")
        page.keyboard.press(key)
        assert colour_at(page, 0.5) == colour
    page.keyboard.press(" ")
    assert colour_at(page, 0.5) == GREEN
    page.keyboard.press("ArrowRight")
    assert page.inner_text(".viewer .name") == "ten"
    page.keyboard.press("?")
    assert page.is_visible(".help")
    page.keyboard.press("Escape")
    assert page.is_hidden(".help") and page.is_visible(".viewer")
    page.keyboard.press("Escape")
    page.wait_for_selector(".viewer", state="hidden")
    page.wait_for_function("document.activeElement.closest('.row')?.querySelector('h2').textContent === 'ten'")


def test_an_address_leads_to_a_picture_and_back_closes_it(usual: Path, visit: Callable[..., Any]) -> None:
    page = visit(usual.as_uri() + "#view-3")
    assert page.inner_text(".viewer .name") == "ten"
    page.keyboard.press("Escape")
    page.click(".picture")
    assert page.evaluate("location.hash") == "#view-1"
    page.go_back()
    page.wait_for_selector(".viewer", state="hidden")


def test_another_scene_is_marked_and_not_compared(tmp_path: Path, visit: Callable[..., Any]) -> None:
    columns = (*COLUMNS[:2], Column("real_B", "rain-free photo", paired=False))
    page = visit(write_result_page(tmp_path, ResultManifest("run", columns, (Row("a", save_pictures(tmp_path, "a")),))))
    assert page.inner_text(".headings").count("unpaired") == 1
    open_viewer(page, "d")
    assert page.locator(".stage .caption .words").all_inner_texts() == ["| derained − rainy input |"]
    page.keyboard.press("Escape")
    open_viewer(page, "s", column=2)
    assert "rain-free photo" not in page.inner_text(".choices")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_until_they_are_chosen(usual: Path, visit: Callable[..., Any], scheme: str) -> None:
    page = visit(usual, color_scheme=scheme)
    brightness = [seen(page)[5, 5].mean()]
    for _ in range(2):
        page.keyboard.press("t")
        brightness.append(seen(page)[5, 5].mean())
    assert [value > 128 for value in brightness] == [scheme == "light", True, False]


def test_a_phone_sees_no_overflow(usual: Path, visit: Callable[..., Any]) -> None:
    page = visit(usual, viewport=PHONE, is_mobile=True, has_touch=True)
    width = "[document.documentElement.scrollWidth, document.querySelector('dialog.viewer').scrollWidth]"
    assert page.evaluate(width)[0] == PHONE["width"]
    for mode in "asod":
        page.tap(".picture")
        page.keyboard.press(mode)
        assert page.evaluate(width) == [PHONE["width"]] * 2
        boxes = page.eval_on_selector_all(
            ".viewer .tool, .viewer .choices", "all => all.map(each => each.getBoundingClientRect().right)"
        )
        assert max(boxes) <= PHONE["width"]
        page.keyboard.press("Escape")


def test_only_rows_near_the_window_hold_pictures(tmp_path: Path, visit: Callable[..., Any]) -> None:
    images = save_pictures(tmp_path, "all")
    rows = tuple(Row(f"row {number}", images) for number in range(300))
    page = visit(write_result_page(tmp_path, ResultManifest("run", COLUMNS, rows)))
    page.wait_for_selector(".results img")
    assert page.locator(".results img").count() < 60
    height = page.evaluate("document.documentElement.scrollHeight")
    page.keyboard.press("End")
    page.wait_for_selector("#image-300 img")
    assert page.locator(".results img").count() < 60
    assert page.evaluate("document.documentElement.scrollHeight") == pytest.approx(height, rel=0.01)
    page.click("#image-300 .picture")
    page.keyboard.press("ArrowRight")  # from the last image to the first
    page.keyboard.press("Escape")
    page.wait_for_selector(".viewer", state="hidden")
    page.wait_for_timeout(200)
    place = page.locator("#image-1").bounding_box()
    assert place["y"] < WIDE["height"] and place["y"] + place["height"] > 0  # the page has followed


@pytest.mark.heavy
def test_a_page_of_a_thousand_pairs_opens_quickly(tmp_path: Path, visit: Callable[..., Any]) -> None:
    rng = np.random.default_rng(1)
    first = {label: tmp_path / f"{label}.png" for label in COLOURS}
    for path in first.values():
        Image.fromarray(rng.integers(0, 256, (320, 480, 3), dtype=np.uint8)).save(path)
    rows = []
    for number in range(1000):
        for label, path in first.items():
            os.link(path, tmp_path / f"{label}_{number}.png")
        images = {label: f"{label}_{number}.png" for label in COLOURS}
        scores = {"real_A": {"psnr": 20.0}, "fake_B": {"psnr": float(rng.uniform(20, 30))}}
        rows.append(Row(f"row {number}", images, scores))
    page = visit(write_result_page(tmp_path, ResultManifest("run", COLUMNS, tuple(rows), metrics=METRICS[:1])))
    page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
    assert page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") < 2000  # milliseconds
    memory = page.context.new_cdp_session(page)
    memory.send("Performance.enable")
    metrics = {each["name"]: each["value"] for each in memory.send("Performance.getMetrics")["metrics"]}
    assert metrics["JSHeapUsedSize"] < 50e6
