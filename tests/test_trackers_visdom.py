"""Live plots: with a real server, without one, and with one that goes away."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from util.trackers.loss_files import LossFiles
from util.trackers.tracker import Progress
from util.trackers.visdom_tracker import QUEUE_LENGTH, VisdomTracker, connect_visdom, image_grid

LOGGER = "util.trackers.visdom_tracker"
HOST = "http://127.0.0.1"
START_SECONDS = 60.0


def progress_at(total: int) -> Progress:
    return Progress((total - 1) // 100 + 1, 4, (total - 1) % 100 + 1, 100, total, 2e-4, 3.0, 0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class FakeClient:
    """Stands in for Visdom's client where the server's behaviour is what matters."""

    def __init__(self, error: Exception | None = None, gate: threading.Event | None = None) -> None:
        self.error, self.gate = error, gate
        self.lines: list[dict[str, Any]] = []

    def line(self, **call: Any) -> None:
        if self.gate is not None:
            self.gate.wait(10)
        if self.error is not None:
            raise self.error
        self.lines.append(call)


def test_no_server_is_one_line_that_says_how_to_start_one(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    with caplog.at_level(logging.DEBUG):
        assert connect_visdom(HOST, port, "main", 4) is None
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert f"python -m visdom.server -port {port}" in lines[0]
    assert f"ssh -L {port}:localhost:{port}" in lines[0]
    assert "\n" not in lines[0]
    assert "".join(capfd.readouterr()).strip() in ("", lines[0])


def test_a_dying_server_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    tracker = VisdomTracker(FakeClient(ConnectionError("gone")), "here:1", 4, retry_seconds=0.0)
    with caplog.at_level(logging.INFO, LOGGER):
        for total in (10, 20, 30):
            tracker.scalars(progress_at(total), {"G": 1.0})
        tracker.close()
    assert len(caplog.records) == 1
    assert "here:1" in caplog.records[0].getMessage()


def test_a_server_that_comes_back_gets_the_whole_curve() -> None:
    client = FakeClient(ConnectionError("gone"))
    tracker = VisdomTracker(client, "here:1", 4, retry_seconds=0.0)
    tracker.scalars(progress_at(10), {"G": 1.0})
    while not tracker._queue.empty():
        time.sleep(0.005)
    client.error = None
    tracker.scalars(progress_at(20), {"G": 2.0})
    tracker.close()
    np.testing.assert_allclose(client.lines[-2]["Y"][:, 0], [1, 2])


def test_a_server_that_hangs_never_blocks_the_training() -> None:
    gate = threading.Event()
    tracker = VisdomTracker(FakeClient(gate=gate), "here:1", 4)
    began = time.perf_counter()
    for total in range(1, 3 * QUEUE_LENGTH):
        tracker.scalars(progress_at(total), {"G": 1.0})
    took = time.perf_counter() - began
    gate.set()
    tracker.close()
    assert took < 2.0


def test_a_resumed_run_replays_its_losses(tmp_path: Path) -> None:
    files = LossFiles(tmp_path, None)
    files.scalars(progress_at(50), {"G": 5.0})
    files.close()
    client = FakeClient()
    tracker = VisdomTracker(client, "here:1", 4, losses_csv=tmp_path / "losses.csv")
    tracker.scalars(progress_at(100), {"G": 10.0})
    tracker.close()
    np.testing.assert_allclose(client.lines[0]["X"][:, 0], [0.5, 1.0])
    np.testing.assert_allclose(client.lines[0]["Y"][:, 0], [5, 10])


def test_the_grid_puts_each_image_into_its_cell() -> None:
    images = [np.full((4 + index, 6, 3), index, dtype=np.uint8) for index in range(3)]
    grid = image_grid(images, 2)
    height, width = 6 + 4, 6 + 4  # the largest image and the padding
    assert grid.shape == (2 * height - 4, 2 * width - 4, 3)
    np.testing.assert_array_equal(grid[:4, :6], images[0])
    np.testing.assert_array_equal(grid[:5, width : width + 6], images[1])
    np.testing.assert_array_equal(grid[height : height + 6, :6], images[2])
    assert (grid[height:, width:] == 255).all()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[int]:
    """A real Visdom server on a free port, started without the download of its scripts."""
    port = free_port()
    code = "from visdom.server.run_server import main; main()"
    flags = ["-port", str(port), "-env_path", str(tmp_path / "env"), "-bind_local"]
    log = (tmp_path / "server.log").open("w")
    process = subprocess.Popen([sys.executable, "-c", code, *flags], stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield port
    finally:
        process.kill()
        process.wait()
        log.close()


def window(port: int, env: str, name: str) -> dict[str, Any]:
    """Ask the server what it shows in a window."""
    body = json.dumps({"win": name, "eid": env}).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{HOST}:{port}/win_data", data=body, timeout=10) as answer:
        return dict(json.loads(answer.read()))


def test_a_real_server_shows_losses_rate_and_images(
    server: int, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.WARNING):
        tracker = connect_visdom(HOST, server, "run", 2, timeout=10.0)
        assert tracker is not None
        for total in (50, 100, 150):
            tracker.scalars(progress_at(total), {"G": total / 100, "D": float("nan") if total == 100 else 0.5})
        tracker.images(
            progress_at(150), {"real_A": np.zeros((8, 8, 3), np.uint8), "gray": np.ones((8, 8, 1), np.uint8)}
        )
        tracker.close()
    losses = window(server, "run", "losses")["content"]["data"]
    assert {line["name"]: (line["x"], line["y"]) for line in losses} == {
        "G": ([0.5, 1.0, 1.5], [0.5, 1.0, 1.5]),
        "D": ([0.5, 1.0, 1.5], [0.5, None, 0.5]),
    }
    assert window(server, "run", "learning rate")["content"]["data"][0]["y"] == [2e-4] * 3
    shown = window(server, "run", "images")
    assert shown["content"]["src"].startswith("data:image/png;base64,")
    assert "real_A" in shown["title"] and "gray" in shown["title"]
    assert caplog.records == []
    assert "".join(capfd.readouterr()) == ""


def test_without_a_grid_each_image_has_a_window_with_words(server: int) -> None:
    tracker = connect_visdom("127.0.0.1", server, "run", 0, timeout=10.0)
    assert tracker is not None
    tracker.images(progress_at(10), {"fake_B": np.zeros((8, 8, 3), np.uint8)})
    tracker.close()
    assert window(server, "run", "image fake_B")["title"] == "epoch 1: derained (fake_B)"
