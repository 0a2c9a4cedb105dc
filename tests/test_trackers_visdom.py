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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from util.trackers.csv_files import CsvFiles
from util.trackers.tracker import Report
from util.trackers.visdom import VisdomServer, VisdomTracker, announce, connect, image_grid

HOST = "http://127.0.0.1"
START_SECONDS = 60.0


def progress_at(total: int) -> Report:
    return Report((total - 1) // 100 + 1, 4, (total - 1) % 100 + 1, 100, total, 2e-4, 3.0, 0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class FakeClient:
    """Stands in for Visdom's client where the server's behavior is what matters."""

    def __init__(self, error: Exception | None = None, gate: threading.Event | None = None) -> None:
        self.error, self.gate = error, gate
        self.lines: list[dict[str, Any]] = []
        self.images: list[str] = []

    def _answer(self) -> None:
        if self.gate is not None:
            self.gate.wait(10)
        if self.error is not None:
            raise self.error

    def close(self, window: str) -> None:
        self._answer()

    def save(self, envs: list[str]) -> None:
        self._answer()

    def get_env_list(self) -> list[str]:
        self._answer()
        return ["run"] if self.lines else []

    def line(self, **call: Any) -> None:
        self._answer()
        self.lines.append(call)

    def image(self, _: np.ndarray, **call: Any) -> None:
        self._answer()
        self.images.append(call["win"])

    def of(self, window: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["win"] == window]


def tracker_with(client: FakeClient, past: Path | None = None, connects: bool = True) -> VisdomTracker:
    def connect(_: VisdomServer) -> FakeClient:
        if not connects:
            raise ConnectionError("nothing listens")
        return client

    server = VisdomServer(HOST, 1, "run", 4)
    return VisdomTracker(server, past=past, connect=connect, retry_seconds=0.01, seconds_between_sendings=0.01)


def wait_until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def test_no_server_is_one_line_that_says_how_to_start_one(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    with caplog.at_level(logging.DEBUG):
        announce(VisdomServer(HOST, port, "main", 4))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert f"python scripts/visdom_server.py --port {port}" in lines[0]
    assert f"ssh -L {port}:localhost:{port}" in lines[0]
    assert "\n" not in lines[0]


def test_that_nothing_listens_is_not_said_again(caplog: pytest.LogCaptureFixture) -> None:
    tracker = tracker_with(FakeClient(), connects=False)
    with caplog.at_level(logging.INFO):
        for total in (10, 20, 30):
            tracker.scalars(progress_at(total), {"G": 1.0})
            time.sleep(0.02)
        tracker.close()
    assert caplog.records == []


def test_a_dying_server_is_one_line_and_its_return_another(caplog: pytest.LogCaptureFixture) -> None:
    client = FakeClient(ConnectionError("gone"))
    with caplog.at_level(logging.INFO):
        tracker = tracker_with(client)
        for total in (10, 20, 30):
            tracker.scalars(progress_at(total), {"G": 1.0})
            time.sleep(0.03)
        client.error = None
        wait_until(lambda: len(client.lines) > 0)
        tracker.close()
    assert ["stopped answering" in record.getMessage() for record in caplog.records] == [True, False]
    assert "answers" in caplog.records[1].getMessage()


def test_a_server_that_comes_back_gets_everything_without_a_further_report() -> None:
    client = FakeClient(ConnectionError("gone"))
    tracker = tracker_with(client)
    tracker.scalars(progress_at(10), {"G": 1.0})
    tracker.metrics(progress_at(10), {"psnr": 20.0})
    tracker.images(progress_at(10), {"fake_B": np.zeros((2, 2, 3), np.uint8)})
    tracker.scalars(progress_at(20), {"G": 2.0})
    time.sleep(0.05)
    client.error = None
    wait_until(lambda: client.images == ["images"])
    np.testing.assert_allclose(client.of("losses")[-1]["Y"][:, 0], [1, 2])
    np.testing.assert_allclose(client.of("metric psnr")[-1]["Y"][:, 0], [20])
    tracker.close()


def test_a_server_restarted_unnoticed_gets_the_pictures_again() -> None:
    client = FakeClient()
    tracker = tracker_with(client)
    tracker.scalars(progress_at(10), {"G": 1.0})
    tracker.images(progress_at(10), {"fake_B": np.zeros((2, 2, 3), np.uint8)})
    wait_until(lambda: client.images == ["images"])
    client.lines.clear()  # and with them the environment
    tracker.scalars(progress_at(20), {"G": 2.0})
    wait_until(lambda: client.images == ["images", "images"])
    tracker.close()


def test_what_was_reported_last_is_sent_at_the_end() -> None:
    client = FakeClient()
    tracker = VisdomTracker(VisdomServer(HOST, 1, "run", 4), connect=lambda _: client, seconds_between_sendings=1000)
    tracker.scalars(progress_at(10), {"G": 1.0})
    wait_until(lambda: len(client.lines) == 2)
    tracker.scalars(progress_at(20), {"G": 2.0})
    tracker.close()
    np.testing.assert_allclose(client.of("losses")[-1]["Y"][:, 0], [1, 2])


@pytest.fixture
def mute_server() -> Iterator[int]:
    """A port where connections are accepted and nothing ever answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield int(listener.getsockname()[1])


def test_a_server_that_accepts_and_never_answers_holds_up_nothing(
    mute_server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("util.trackers.visdom.CLOSE_SECONDS", 0.2)
    tracker = VisdomTracker(VisdomServer(HOST, mute_server, "run", 4))
    slowest = 0.0
    for total in range(1, 200):
        began = time.perf_counter()
        tracker.scalars(progress_at(total), {"G": 1.0})
        tracker.images(progress_at(total), {"fake_B": np.zeros((64, 64, 3), np.uint8)})
        slowest = max(slowest, time.perf_counter() - began)
        time.sleep(0.002)  # the thread gets its chance to hang
    began = time.perf_counter()
    tracker.close()
    assert time.perf_counter() - began < 1
    assert slowest < 0.5


def test_the_client_gives_up_on_a_server_that_never_answers(mute_server: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("util.trackers.visdom.ANSWER_SECONDS", 0.05)
    with pytest.raises(ConnectionError):
        connect(VisdomServer(HOST, mute_server, "run", 4)).get_env_list()


def test_a_resumed_run_replays_its_past(tmp_path: Path) -> None:
    files = CsvFiles(tmp_path, None)
    files.scalars(progress_at(50), {"G": 5.0})
    files.metrics(progress_at(50), {"psnr": 25.0})
    files.close()
    client = FakeClient()
    tracker = tracker_with(client, past=tmp_path)
    tracker.scalars(progress_at(100), {"G": 10.0})
    tracker.metrics(progress_at(100), {"psnr": 26.0})
    tracker.close()
    np.testing.assert_allclose(client.of("losses")[-1]["X"][:, 0], [0.5, 1.0])
    np.testing.assert_allclose(client.of("losses")[-1]["Y"][:, 0], [5, 10])
    np.testing.assert_allclose(client.of("metric psnr")[-1]["Y"][:, 0], [25, 26])


def test_the_grid_puts_each_image_into_its_cell() -> None:
    images = [np.full((4 + index, 6, 3), index, dtype=np.uint8) for index in range(3)]
    grid = image_grid(images, 2)
    height, width = 6 + 4, 6 + 4  # the largest image and the padding
    assert grid.shape == (2 * height - 4, 2 * width - 4, 3)
    np.testing.assert_array_equal(grid[:4, :6], images[0])
    np.testing.assert_array_equal(grid[:5, width : width + 6], images[1])
    np.testing.assert_array_equal(grid[height : height + 6, :6], images[2])
    assert (grid[height:, width:] == 255).all()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real Visdom server on a free port, started without the download of its scripts."""
    port, folder = free_port(), tmp_path_factory.mktemp("visdom")
    code = "from visdom.server.run_server import main; main()"
    flags = ["-port", str(port), "-env_path", str(folder / "env"), "-bind_local"]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-c", code, *flags], stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert process.poll() is None, (folder / "server.log").read_text()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield port
    finally:
        process.kill()
        process.wait()


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
        tracker = VisdomTracker(VisdomServer(HOST, server, "run", 2))
        for total in (50, 100, 150):
            tracker.scalars(progress_at(total), {"G": total / 100, "D": float("nan") if total == 100 else 0.5})
        tracker.metrics(progress_at(150), {"psnr": 21.5, "ciede2000": 4.0})
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
    assert window(server, "run", "metric psnr")["content"]["data"][0]["y"] == [21.5]
    assert window(server, "run", "metric ciede2000")["title"] == "validation: CIEDE2000"
    shown = window(server, "run", "images")
    assert shown["content"]["src"].startswith("data:image/png;base64,")
    assert "real_A" in shown["title"] and "gray" in shown["title"]
    assert caplog.records == []
    assert "".join(capfd.readouterr()) == ""


def test_without_a_grid_each_image_has_a_window_with_words(server: int) -> None:
    tracker = VisdomTracker(VisdomServer("127.0.0.1", server, "each", 0))
    tracker.images(progress_at(10), {"fake_B": np.zeros((8, 8, 3), np.uint8)})
    tracker.close()
    assert window(server, "each", "image fake_B")["title"] == "epoch 1: derained (fake_B)"
