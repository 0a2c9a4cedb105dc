"""The viewer of the result page in a real browser: what a user does, and what is then on the screen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.browser import (
    BLUE,
    COLUMNS,
    GREEN,
    RED,
    color_at,
    open_viewer,
    places,
    save_pictures,
    seen,
    wait_for_pictures,
)
from util.pages.manifest import Column, ResultManifest, Row
from util.pages.result_page import write_result_page

pytestmark = pytest.mark.browser


def test_the_slider_moves_by_mouse_and_by_keys(usual_page: Path, visit: Callable[..., Any]) -> None:
    page = visit(usual_page)
    open_viewer(page, "s")
    assert (color_at(page, 0.4), color_at(page, 0.6)) == (RED, GREEN)
    box = page.locator(".stage .box").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + 30)
    page.mouse.up()
    assert (color_at(page, 0.6), color_at(page, 0.95)) == (RED, GREEN)
    page.focus(".handle")
    page.keyboard.press("Home")
    assert color_at(page, 0.2) == GREEN
    assert page.get_attribute(".handle", "aria-valuenow") == "0"


def test_zoom_and_movement_are_the_same_in_all_columns(usual_page: Path, visit: Callable[..., Any]) -> None:
    page = visit(usual_page)
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


def test_magnified_pixels_are_squares_of_their_own_color(tmp_path: Path, visit: Callable[..., Any]) -> None:
    board = (np.indices((8, 8)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "board.png")
    rows = (Row("board", {"real_A": "board.png"}),)
    page = visit(write_result_page(tmp_path, ResultManifest("run", COLUMNS[:1], rows)))
    open_viewer(page, "o", column=0)
    left, top, width, height = places(page)[0]
    box = page.locator(".stage .box").bounding_box()
    picture = seen(page)[int(box["y"] + top) + 1 :, int(box["x"] + left) + 1 :][: int(height) - 2, : int(width) - 2]
    assert set(np.unique(picture)) == {0, 255}


def test_differences_are_absolute_and_magnified(usual_page: Path, visit: Callable[..., Any]) -> None:
    page = visit(usual_page)
    open_viewer(page, "d")
    assert page.locator(".stage .box").count() == 2  # input and output, each to the ground truth
    for gain in (4, 2, 1):
        expected = [np.minimum(gain * np.abs(np.subtract(color, BLUE)), 255) for color in (RED, GREEN)]
        shown = [color_at(page, 0.5, box=box) for box in (0, 1)]
        assert np.abs(np.subtract(shown, expected)).max() <= 1
        page.keyboard.press("f")
    page.keyboard.press("d")  # now to the input
    wait_for_pictures(page)
    assert np.abs(np.subtract(color_at(page, 0.5), np.abs(np.subtract(GREEN, RED)))).max() <= 1
    assert page.locator(".stage .caption .words").all_inner_texts() == [
        "| derained − rainy input |",
        "| ground truth − rainy input |",
    ]


def test_the_keyboard_alone_is_enough(usual_page: Path, visit: Callable[..., Any]) -> None:
    page = visit(usual_page)
    page.focus(".row .picture[data-column='1']")
    page.keyboard.press("Enter")
    assert page.is_visible(".viewer") and page.inner_text(".viewer .name") == "one"
    wait_for_pictures(page)
    for key, color in (("1", RED), ("2", GREEN), ("3", BLUE)):
        page.keyboard.press("o")
        page.keyboard.press(key)
        assert color_at(page, 0.5) == color
    page.keyboard.press(" ")
    assert color_at(page, 0.5) == GREEN
    page.keyboard.press("ArrowRight")
    assert page.inner_text(".viewer .name") == "ten"
    page.keyboard.press("?")
    assert page.is_visible(".help")
    page.keyboard.press("Escape")
    assert page.is_hidden(".help") and page.is_visible(".viewer")
    page.keyboard.press("Escape")
    page.wait_for_selector(".viewer", state="hidden")
    page.wait_for_function("document.activeElement.closest('.row')?.querySelector('h2').textContent === 'ten'")


def test_an_address_leads_to_a_picture_and_back_closes_it(usual_page: Path, visit: Callable[..., Any]) -> None:
    page = visit(usual_page.as_uri() + "#view-3")
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
