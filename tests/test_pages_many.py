"""Result pages of many images in a real browser: how much they hold."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.browser import COLORS, COLUMNS, METRICS, WIDE, save_pictures
from util.pages.manifest import ResultManifest, Row
from util.pages.result_page import write_result_page

pytestmark = pytest.mark.browser

PATIENCE = 400  # seconds


def test_only_rows_near_the_window_hold_pictures(tmp_path: Path, visit: Callable[..., Any]) -> None:
    images = save_pictures(tmp_path, "all")
    rows = tuple(Row(f"row {number}", images) for number in range(300))
    page = visit(write_result_page(tmp_path, ResultManifest("run", COLUMNS, rows)))
    page.wait_for_selector(".results canvas")
    assert page.locator(".results canvas").count() < 60
    height = page.evaluate("document.documentElement.scrollHeight")
    page.keyboard.press("End")
    page.wait_for_selector("#image-300 canvas")
    assert page.locator(".results canvas").count() < 60
    assert page.evaluate("document.documentElement.scrollHeight") == pytest.approx(height, rel=0.01)
    page.click("#image-300 .picture")
    page.keyboard.press("ArrowRight")  # from the last image to the first
    page.keyboard.press("Escape")
    page.wait_for_selector(".viewer", state="hidden")
    page.wait_for_timeout(200)
    place = page.locator("#image-1").bounding_box()
    assert place["y"] < WIDE["height"] and place["y"] + place["height"] > 0  # the page has followed


def test_rows_that_fly_past_stay_empty(tmp_path: Path, visit: Callable[..., Any]) -> None:
    images = save_pictures(tmp_path, "all")
    page = visit(
        write_result_page(tmp_path, ResultManifest("run", COLUMNS, tuple(Row(f"{i}", images) for i in range(300))))
    )
    page.wait_for_selector("#image-1 [data-drawn]")
    drawn = page.evaluate(
        """async () => {
             const made = window.createImageBitmap;
             let count = 0;
             window.createImageBitmap = (...all) => { count += 1; return made(...all); };
             while (scrollY < document.documentElement.scrollHeight - innerHeight - 1) {
               scrollBy(0, 3 * innerHeight);
               await new Promise(requestAnimationFrame);
             }
             return count;
           }"""
    )
    assert drawn < 300  # of 900
    page.wait_for_selector("#image-300 [data-drawn]")


SCROLL = """<script>
const bitmaps = window.createImageBitmap;
let drawn = 0;
window.createImageBitmap = (...all) => { drawn += 1; return bitmaps(...all); };
async function go(step) {
  const end = () => document.documentElement.scrollHeight - innerHeight;
  do {
    scrollBy(0, step);
    await new Promise(requestAnimationFrame);
  } while (step > 0 ? scrollY < end() - 1 : scrollY > 0);
}
window.addEventListener("load", async function () {
  await new Promise((resolve) => setTimeout(resolve, 1000));
  await go(100);
  const slowly = drawn;
  await go(-3000);
  await go(500);
  const paint = performance.getEntriesByName("first-contentful-paint")[0].startTime;
  document.title = JSON.stringify({ done: true, slowly, paint, heap: performance.memory.usedJSHeapSize });
});
</script>"""


def resident(process: int) -> float:
    """Megabytes of memory of a process, with its part of what it shares."""
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="utf-8")
    return int(next(line for line in rollup.splitlines() if line.startswith("Pss:")).split()[1]) / 1000


def write_thousand(folder: Path) -> Path:
    rng = np.random.default_rng(1)
    first = {label: folder / f"{label}.png" for label in COLORS}
    for path in first.values():
        small = Image.fromarray(rng.integers(0, 256, (160, 240, 3), dtype=np.uint8))
        small.resize((481, 321), Image.Resampling.BICUBIC).save(path)  # about as many bytes as a photo
    rows = []
    for number in range(1000):
        for label, path in first.items():
            os.link(path, folder / f"{label}_{number}.png")
        images = {label: f"{label}_{number}.png" for label in COLORS}
        scores = {"real_A": {"psnr": 20.0}, "fake_B": {"psnr": float(rng.uniform(20, 30))}}
        rows.append(Row(f"row {number}", images, scores))
    return write_result_page(folder, ResultManifest("run", COLUMNS, tuple(rows), metrics=METRICS[:1]))


@pytest.mark.heavy
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_a_page_of_a_thousand_pairs_opens_quickly_and_stays_small(tmp_path: Path, browser: Any) -> None:
    """The page scrolls itself: to the end, back fast, and to the end again.

    Playwright must not look into it, or the developer tools keep 250 MB of files in the page's process.
    """
    page = write_thousand(tmp_path)
    page.write_text(page.read_text(encoding="utf-8") + SCROLL, encoding="utf-8")
    tools = browser.new_browser_cdp_session()
    context = tools.send("Target.createBrowserContext")["browserContextId"]
    before = {each["id"] for each in tools.send("SystemInfo.getProcessInfo")["processInfo"]}
    shown = tools.send("Target.createTarget", {"url": page.as_uri(), "browserContextId": context, **WIDE})["targetId"]
    megabytes: list[float] = []
    started, title = time.monotonic(), ""
    while not title.startswith("{") and time.monotonic() < started + PATIENCE:
        time.sleep(1)
        processes = tools.send("SystemInfo.getProcessInfo")["processInfo"]
        megabytes += [resident(e["id"]) for e in processes if e["type"] == "renderer" and e["id"] not in before]
        title = tools.send("Target.getTargetInfo", {"targetId": shown})["targetInfo"]["title"]
    tools.send("Target.disposeBrowserContext", {"browserContextId": context})
    told = json.loads(title)
    assert told["slowly"] > 2500  # of 3000 pictures: they were really drawn
    assert told["paint"] < 2000  # milliseconds
    assert told["heap"] < 50e6
    assert max(megabytes) < 250
