"""A real training and a real Visdom server, which comes late, is killed and comes back."""

from __future__ import annotations

import csv
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SMALL_CROPS, SMALL_NETWORKS

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 180.0
SERVE = (
    "import sys; from scripts._visdom import serve; from pathlib import Path; "
    "serve(int(sys.argv[1]), 'localhost', Path(sys.argv[2]), local=True, readonly=False, started=print)"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.2)


class Server:
    """Visdom's server on one port, which can be killed and started again with nothing left of its plots."""

    def __init__(self, folder: Path) -> None:
        self.port, self.folder, self.starts = free_port(), folder, 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.starts += 1
        command = [sys.executable, "-c", SERVE, str(self.port), str(self.folder / f"env{self.starts}")]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def curve(self, window: str, name: str) -> list[float]:
        """The values that the server shows in a window, none if it is not there or has no such window."""
        body = json.dumps({"win": window, "eid": "run"}).encode()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{self.port}/win_data", data=body, timeout=5) as answer:
                lines = json.loads(answer.read())["content"]["data"]
        except (urllib.error.URLError, ConnectionError, ValueError, KeyError, TypeError):
            return []
        return [value for line in lines if line["name"] == name for value in line["y"]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.kill()


def column(path: Path, name: str) -> list[float]:
    with path.open(encoding="utf-8", newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file)]


def start_training(dataset: Path, tmp_path: Path, port: int, *more: str) -> subprocess.Popen[Any]:
    command = [sys.executable, "train.py", "--dataroot", str(dataset), "--checkpoints_dir", str(tmp_path / "runs")]
    command += ["--name", "run", "--model", "cut", *SMALL_NETWORKS, *SMALL_CROPS, "--num_patches", "16"]
    command += ["--gpu_ids", "-1", "--num_threads", "0", "--print_freq", "2", "--display_port", str(port)]
    command += ["--val_phase", "test", "--val_freq", "20", "--n_epochs_decay", "0", *more]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_curves_are_complete_after_the_server_came_late_was_killed_and_came_back(
    dataset: Path, tmp_path: Path, server: Server
) -> None:
    training = start_training(dataset, tmp_path, server.port, "--n_epochs", "100000")
    run = tmp_path / "runs" / "run"
    try:
        wait_until((run / "metrics.csv").is_file, "the first validation")
        server.start()
        wait_until(lambda: len(server.curve("losses", "G_GAN")) > 0, "the late server's plots")
        server.kill()
        rows = len(column(run / "losses.csv", "G_GAN"))
        wait_until(lambda: len(column(run / "losses.csv", "G_GAN")) > rows + 20, "training without a server")
        server.start()
        wait_until(lambda: len(server.curve("losses", "G_GAN")) > rows + 20, "the plots after the restart")
        assert training.poll() is None
    finally:
        training.terminate()
        training.wait()
    told, written = server.curve("losses", "G_GAN"), column(run / "losses.csv", "G_GAN")
    assert len(written) < 1000, "so that no point is a mean of several reports"
    assert told == pytest.approx(written[: len(told)], abs=1e-6)
    metrics = column(run / "metrics.csv", "psnr")
    shown = server.curve("metric psnr", "psnr")
    assert shown == pytest.approx(metrics[: len(shown)], abs=1e-6) and shown
