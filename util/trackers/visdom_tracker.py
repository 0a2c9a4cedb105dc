"""Live plots in Visdom; a server that is absent, slow or dying never holds up the training."""

from __future__ import annotations

import importlib
import logging
import queue
import socket
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from util.pages.labels import LABEL_WORDS
from util.trackers.history import LEARNING_RATE, Curves, LossHistory
from util.trackers.tracker import Progress

logger = logging.getLogger(__name__)

QUEUE_LENGTH = 32
POINTS = 1000
RETRY_SECONDS = 30.0
CLOSE_SECONDS = 3.0
PADDING = 4
WHITE = 255
LOSS_WINDOW, RATE_WINDOW, IMAGE_WINDOW = "losses", "learning rate", "images"


def connect_visdom(
    server: str,
    port: int,
    env: str,
    ncols: int,
    timeout: float = 2.0,
    *,
    losses_csv: Path | None = None,
    words: Mapping[str, str] = LABEL_WORDS,
) -> VisdomTracker | None:
    """Connect to a Visdom server, trying once for ``timeout`` seconds.

    ``server`` is an address with or without scheme (``"http://localhost"``); ``ncols`` > 0 shows the images in one grid
    of so many columns, 0 in a window each. ``losses_csv`` of a resumed run is replayed into the plots.
    Returns None, after one log line that says how to start a server, if none answers.
    """
    host = urlsplit(server if "//" in server else f"//{server}").hostname or "localhost"
    try:
        socket.create_connection((host, port), timeout=timeout).close()
    except OSError:
        logger.warning(
            "No Visdom server answers at %s:%d, so there are no live plots (losses and images are still "
            "written to files). Start one with: python -m visdom.server -port %d   "
            "To watch from your own computer: ssh -L %d:localhost:%d <this machine>",
            *(host, port, port, port, port),
        )
        return None
    try:
        client = _quiet_client(server, port, env)
    except Exception as error:
        logger.warning("Visdom cannot be used (%s: %s), so there are no live plots.", type(error).__name__, error)
        return None
    logger.info("Live plots: http://%s:%d/env/%s", host, port, env)
    return VisdomTracker(client, f"{host}:{port}", ncols, losses_csv=losses_csv, words=words)


def _quiet_client(server: str, port: int, env: str) -> Any:
    """Return a Visdom client that prints and logs nothing and raises ConnectionError when the server is gone."""
    logging.getLogger("visdom").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        visdom = importlib.import_module("visdom")
        # The client's constructor talks to the server, and talks a lot; with send=False it does neither.
        client = visdom.Visdom(
            server=server, port=port, env=env, send=False, raise_exceptions=True, use_incoming_socket=False
        )
    client.send = True
    client.session.trust_env = False  # the server was reached directly, so no proxy belongs in between
    return client


class VisdomTracker:
    """Tracker that sends plots and pictures from a thread of its own.

    Reports wait in a bounded queue and are dropped when it is full. Every plot is sent whole, thinned to a fixed
    number of points, so a dropped report or a restarted server leaves no gap. A server that stops answering is reported
    in one log line and asked again now and then.
    """

    def __init__(
        self,
        client: Any,
        address: str,
        ncols: int,
        *,
        losses_csv: Path | None = None,
        words: Mapping[str, str] = LABEL_WORDS,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._client, self._address, self._ncols, self._words = client, address, ncols, words
        self._history = LossHistory(POINTS, losses_csv)
        self._retry_seconds = retry_seconds
        self._retry_at = 0.0
        self._reported = False
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(maxsize=QUEUE_LENGTH)
        self._thread = threading.Thread(target=self._work, name="visdom", daemon=True)
        self._thread.start()

    def scalars(self, progress: Progress, values: Mapping[str, float]) -> None:
        """Plot all losses so far in one window over epochs, and the learning rate in another."""
        self._history.add(progress, values)
        if not self._queue.full():
            curves = self._history.curves()
            self._put(lambda: self._send_curves(curves))

    def metrics(self, progress: Progress, values: Mapping[str, float]) -> None:
        """Validation metrics are not kept here yet."""

    def images(self, progress: Progress, images: Mapping[str, np.ndarray]) -> None:
        """Show pictures (uint8 [H, W, C]) in one grid, or in a window each if ``ncols`` is 0."""
        copies = {label: _to_rgb(image) for label, image in images.items()}
        if copies:
            self._put(lambda: self._send_images(progress.epoch, copies))

    def close(self) -> None:
        """Send what still waits, for at most a few seconds."""
        try:
            self._queue.put(None, timeout=CLOSE_SECONDS)
        except queue.Full:
            return
        self._thread.join(timeout=CLOSE_SECONDS)

    def _put(self, send: Callable[[], None]) -> None:
        try:
            self._queue.put_nowait(send)
        except queue.Full:
            logger.debug("Visdom is slower than the training; a report is dropped.")

    def _work(self) -> None:
        while (send := self._queue.get()) is not None:
            if time.monotonic() < self._retry_at:
                continue
            try:
                send()
            except Exception as error:
                self._retry_at = time.monotonic() + self._retry_seconds
                if not self._reported:
                    self._reported = True
                    logger.warning(
                        "The Visdom server at %s stopped answering (%s); the training goes on without live plots.",
                        *(self._address, type(error).__name__),
                    )

    def _send_curves(self, curves: Curves) -> None:
        losses = {name: line for name, line in curves.values.items() if name != LEARNING_RATE}
        self._plot(LOSS_WINDOW, curves.positions, losses, "loss")
        self._plot(RATE_WINDOW, curves.positions, {LEARNING_RATE: curves.values[LEARNING_RATE]}, "learning rate")

    def _plot(self, window: str, positions: np.ndarray, lines: Mapping[str, np.ndarray], ylabel: str) -> None:
        if not lines:
            return
        values = np.stack(list(lines.values()), axis=1)
        opts = {"title": window, "legend": list(lines), "xlabel": "epoch", "ylabel": ylabel}
        self._client.line(Y=values, X=np.repeat(positions[:, None], values.shape[1], axis=1), win=window, opts=opts)

    def _send_images(self, epoch: int, images: Mapping[str, np.ndarray]) -> None:
        if self._ncols > 0:
            title = f"epoch {epoch}: " + " · ".join(images)
            grid = image_grid(list(images.values()), self._ncols)
            self._client.image(grid.transpose(2, 0, 1), win=IMAGE_WINDOW, opts={"title": title})
            return
        for label, image in images.items():
            heading = f"{self._words[label]} ({label})" if label in self._words else label
            self._client.image(
                image.transpose(2, 0, 1), win=f"image {label}", opts={"title": f"epoch {epoch}: {heading}"}
            )


def image_grid(images: list[np.ndarray], ncols: int) -> np.ndarray:
    """Arrange uint8 images [H, W, 3] of any sizes on white, ``ncols`` side by side; each sits top left in its cell."""
    height = max(image.shape[0] for image in images) + PADDING
    width = max(image.shape[1] for image in images) + PADDING
    columns = min(ncols, len(images))
    rows = -(-len(images) // columns)
    grid = np.full((rows * height - PADDING, columns * width - PADDING, 3), WHITE, dtype=np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * height, index % columns * width
        grid[top : top + image.shape[0], left : left + image.shape[1]] = image
    return grid


def _to_rgb(image: np.ndarray) -> np.ndarray:
    """Return a copy of a uint8 image [H, W], [H, W, 1] or [H, W, 3] as [H, W, 3]."""
    image = image[:, :, None] if image.ndim == 2 else image
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image.copy()
