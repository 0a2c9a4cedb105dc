"""The rows of the result page in a real browser: what a user does, and what is then on the screen."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.browser import (
    ATTACK,
    COLORS,
    COLUMNS,
    NAMES,
    PHONE,
    WIDE,
    names,
    open_viewer,
    save_pictures,
    seen,
    wait_for_rows,
)
from util.pages.manifest import ResultManifest, Row
from util.pages.result_page import write_result_page

pytestmark = pytest.mark.browser


def test_hostile_names_are_shown_and_do_nothing(tmp_path: Path, visit: Callable[..., Any]) -> None:
    rows = tuple(Row(name, save_pictures(tmp_path, name)) for name in NAMES)
    address = write_result_page(tmp_path, ResultManifest(ATTACK, COLUMNS, rows))
    page = visit(address, viewport={"width": 600, "height": 4000})  # all rows at once
    assert sorted(names(page)) == sorted(NAMES)
    wait_for_rows(page, 3 * len(NAMES))
    open_viewer(page, "a")
    assert page.evaluate("window.hacked") is None


def test_the_page_works_from_a_web_server(usual_page: Path, visit: Callable[..., Any]) -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(usual_page.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = visit(f"http://127.0.0.1:{server.server_port}/index.html")
        wait_for_rows(page, 12)
        server.shutdown()


def test_sorting_by_psnr_puts_the_worst_or_the_best_first(usual_page: Path, visit: Callable[..., Any]) -> None:
    page = visit(usual_page)
    assert names(page) == ["one", "ten", "three", "two"]
    page.select_option("#order", label="PSNR (Y): derained")
    assert names(page) == ["two", "one", "three", "ten"]
    page.click("text=Best first")
    assert names(page) == ["ten", "three", "one", "two"]
    page.select_option("#order", label="Color difference: derained")  # where a high number is the worst
    assert names(page) == ["two", "one", "three", "ten"]


def test_filtering_by_name_and_by_a_bound(usual_page: Path, visit: Callable[..., Any]) -> None:
    page = visit(usual_page)
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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colors_follow_the_system_until_they_are_chosen(
    usual_page: Path, visit: Callable[..., Any], scheme: str
) -> None:
    page = visit(usual_page, color_scheme=scheme)
    brightness = [seen(page)[5, 5].mean()]
    for _ in range(2):
        page.keyboard.press("t")
        brightness.append(seen(page)[5, 5].mean())
    assert [value > 128 for value in brightness] == [scheme == "light", True, False]


def test_a_phone_sees_no_overflow(usual_page: Path, visit: Callable[..., Any]) -> None:
    page = visit(usual_page, viewport=PHONE, is_mobile=True, has_touch=True)
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


def test_rows_show_the_colors_of_the_files(usual_page: Path, visit: Callable[..., Any]) -> None:
    page = visit(usual_page)
    wait_for_rows(page, 12)
    shown = [seen(page, page.locator(".row canvas").nth(column)) for column in range(3)]
    for picture, color in zip(shown, COLORS.values(), strict=True):
        assert (picture[20:-20, 20:-20] == color).all()


def test_a_missing_file_is_said_and_holds_up_nothing(tmp_path: Path, visit: Callable[..., Any]) -> None:
    images = {**save_pictures(tmp_path, "a"), "fake_B": "gone.png"}
    address = write_result_page(tmp_path, ResultManifest("run", COLUMNS, (Row("a", images),)))
    page = visit(address.as_uri(), expected="net::ERR_FILE_NOT_FOUND")
    wait_for_rows(page, 2)
    page.wait_for_selector("figure.broken [data-column='1']")


def test_a_printed_page_has_images_that_printers_wait_for(usual_page: Path, visit: Callable[..., Any]) -> None:
    page = visit(usual_page)
    wait_for_rows(page, 12)
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".results img").count() == 12
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    wait_for_rows(page, 12)
    assert page.locator(".results img").count() == 0


def test_pictures_are_drawn_anew_for_a_larger_window(tmp_path: Path, visit: Callable[..., Any]) -> None:
    Image.new("RGB", (2000, 100)).save(tmp_path / "wide.png")
    rows = (Row("wide", {"real_A": "wide.png"}),)
    page = visit(write_result_page(tmp_path, ResultManifest("run", COLUMNS[:1], rows)), viewport=PHONE)
    page.wait_for_function("(width => width > 0 && width <= 390)(document.querySelector('[data-drawn]')?.width)")
    page.set_viewport_size(WIDE)
    page.wait_for_function("document.querySelector('[data-drawn]').width > 1000")
