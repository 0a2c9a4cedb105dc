"""Live plots in Visdom; a server that is absent, slow or dying never holds up the training."""

from __future__ import annotations

import functools
import importlib
import logging
import socket
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from util.metrics.metric import DEFAULT_METRICS, shown_metrics
from util.metrics.protocols import PROTOCOLS
from util.pages.labels import LABEL_WORDS
from util.pages.training_page import DEFAULT_PROTOCOL, Curves
from util.trackers.history import LEARNING_RATE, RunHistory
from util.trackers.tracker import Report

logger = logging.getLogger(__name__)

PROBE_SECONDS = 2.0
ANSWER_SECONDS = 10.0
SERVER_SCRIPT = "scripts/visdom_server.py"
POINTS = 1000
SECONDS_BETWEEN_SENDINGS = 2.0  # at least
LARGEST_PAUSE = 30.0
LARGEST_SHARE = 0.005  # of one core that sending may take
RETRY_SECONDS = 10.0
CLOSE_SECONDS = 3.0
PADDING = 4
WHITE = 255
LOSSES, VALIDATIONS, IMAGES = "losses", "metrics", "images"
RATE_WINDOW = "learning rate"
RATE_HEADROOM = 1.1


@dataclass(frozen=True)
class VisdomServer:
    """Where a Visdom server should be, and how it shows pictures.

    ``address`` is a host with or without scheme (``"http://localhost"``), ``env`` the run's environment; ``ncols`` > 0
    shows the pictures in one grid of so many columns, 0 in a window each.
    """

    address: str
    port: int
    env: str
    ncols: int

    @property
    def host(self) -> str:
        """The host's name alone."""
        return urlsplit(self.address if "//" in self.address else f"//{self.address}").hostname or "localhost"

    @property
    def page(self) -> str:
        """Where a browser finds the run's plots."""
        return f"http://{self.host}:{self.port}/env/{self.env}"


def answers(server: VisdomServer, timeout: float = PROBE_SECONDS) -> bool:
    """Whether anything listens at the server's port; asked once, for at most ``timeout`` seconds."""
    try:
        socket.create_connection((server.host, server.port), timeout=timeout).close()
    except OSError:
        return False
    return True


def announce(server: VisdomServer, timeout: float = PROBE_SECONDS) -> None:
    """Say in one log line where the plots are, or how to start a server if none answers."""
    if answers(server, timeout):
        logger.info("Live plots: %s", server.page)
        return
    logger.warning(
        "No Visdom server answers at %s:%d, so there are no live plots yet (losses and images are still written to "
        "files). Start one at any time with: python %s --port %d   "
        "To watch from your own computer: ssh -L %d:localhost:%d <this machine>",
        *(server.host, server.port, SERVER_SCRIPT, server.port, server.port, server.port),
    )


def connect(server: VisdomServer) -> Any:
    """Return Visdom's client, which prints and logs nothing, and raises ConnectionError when the server is gone.

    Raises:
        ConnectionError: no server listens.
    """
    if not answers(server):
        raise ConnectionError(f"nothing listens at {server.host}:{server.port}")
    logging.getLogger("visdom").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        visdom = importlib.import_module("visdom")
        # The client's constructor talks to the server, and talks a lot; with send=False it does neither.
        client = visdom.Visdom(
            server=server.address if "//" in server.address else f"http://{server.address}",
            port=server.port,
            env=server.env,
            send=False,
            raise_exceptions=True,
            use_incoming_socket=False,
        )
    client.send = True
    client.session.trust_env = False  # the server was reached directly, so no proxy belongs in between
    client.session.post = _with_time_limit(client.session.post)
    return client


def _with_time_limit(post: Callable[..., Any]) -> Callable[..., Any]:
    """Visdom itself would wait for ever for a server that accepts and never answers."""
    return functools.partial(post, timeout=(PROBE_SECONDS, ANSWER_SECONDS))


class VisdomTracker:
    """Tracker that sends plots and pictures from a thread of its own.

    Nothing waits in a queue: the thread sends the curves and the pictures as they are now, each whole (thinned to a
    fixed number of points), at most every few seconds and so seldom that it takes next to nothing of the processor.
    So at most one report of each kind waits, however slow the server is, and a server that was restarted, or started
    long after the training, gets everything. One that stops answering is reported in one log line and asked again now
    and then.

    ``past`` is the folder of a resumed run, whose numbers are replayed into the plots; ``words`` maps labels of
    pictures to headings; ``protocol`` is that of the validations.
    """

    def __init__(
        self,
        server: VisdomServer,
        *,
        past: Path | None = None,
        words: Mapping[str, str] = LABEL_WORDS,
        protocol: str = DEFAULT_PROTOCOL,
        connect: Callable[[VisdomServer], Any] = connect,
        retry_seconds: float = RETRY_SECONDS,
        seconds_between_sendings: float = SECONDS_BETWEEN_SENDINGS,
    ) -> None:
        self._server, self._words, self._connect = server, words, connect
        self._retry_seconds, self._pause = retry_seconds, seconds_between_sendings
        self._protocol = PROTOCOLS[protocol]
        self._client: Any = None
        self._outage = False
        self._is_new = past is None
        # What the two threads share is guarded by _changed.
        self._changed = threading.Condition()
        self._history = RunHistory(POINTS, past)
        self._pictures: tuple[int, Mapping[str, np.ndarray]] = (0, {})
        self._reported: set[str] = set()
        self._waiting: set[str] = set()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="visdom", daemon=True)
        self._thread.start()

    def scalars(self, report: Report, values: Mapping[str, float]) -> None:
        """Plot all losses so far in one window over epochs, and the learning rate in another."""
        with self._changed:
            self._history.add_losses(report, values)
            self._note(LOSSES)

    def metrics(self, report: Report, values: Mapping[str, float]) -> None:
        """Plot all validations so far over epochs, each metric in a window of its own."""
        with self._changed:
            self._history.add_metrics(report, values)
            self._note(VALIDATIONS)

    def images(self, report: Report, images: Mapping[str, np.ndarray]) -> None:
        """Show pictures (uint8 [H, W, C]) in one grid, or in a window each if ``ncols`` is 0."""
        copies = {label: _to_rgb(image) for label, image in images.items()}
        if copies:
            with self._changed:
                self._pictures = (report.epoch, copies)
                self._note(IMAGES)

    def close(self) -> None:
        """Send what still waits, for at most a few seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout=CLOSE_SECONDS)

    def _note(self, kind: str) -> None:
        self._reported.add(kind)
        self._waiting.add(kind)
        self._changed.notify()

    def _work(self) -> None:
        not_before = 0.0
        while kinds := self._next(not_before):
            try:
                seconds = self._send(kinds)
                if self._closing:
                    self._client.save([self._server.env])  # for a server that is started again later
                not_before = time.monotonic() + max(self._pause, min(seconds / LARGEST_SHARE, LARGEST_PAUSE))
                if self._outage:
                    self._outage = False
                    logger.info("The Visdom server at %s:%d answers: %s", *self._where, self._server.page)
            except Exception as error:
                self._report_outage(error)
                self._client = None
                not_before = time.monotonic() + self._retry_seconds
                with self._changed:
                    if self._closing:
                        return
                    self._waiting |= kinds

    def _next(self, not_before: float) -> set[str]:
        """Wait until something is to be sent and its time has come; nothing at all is left at the end."""
        with self._changed:
            while not self._closing:
                seconds = not_before - time.monotonic()
                if self._waiting and seconds <= 0:
                    break
                self._changed.wait(seconds if self._waiting else None)
            kinds, self._waiting = self._waiting, set()
            return kinds

    def _send(self, kinds: set[str]) -> float:
        """Send these kinds of reports, or all there were so far to a server that has not got them.

        Returns the seconds that the processor was busy with it.
        """
        if self._client is None:
            self._client = self._connect(self._server)
            self._clear()
            kinds |= self._reported
        began = time.thread_time()
        if self._server.env.replace("/", "_") not in self._client.get_env_list():
            kinds |= self._reported
        with self._changed:
            losses, metrics, pictures = self._history.losses(), self._history.metrics(), self._pictures
        if LOSSES in kinds:
            self._send_losses(losses)
        if VALIDATIONS in kinds:
            self._send_metrics(metrics)
        if IMAGES in kinds:
            self._send_images(*pictures)
        return time.thread_time() - began

    def _clear(self) -> None:
        """A new run does not show what an earlier one of its name left on the server."""
        if self._is_new:
            for window in (LOSSES, RATE_WINDOW, IMAGES, *(metric_window(metric.key) for metric in DEFAULT_METRICS)):
                self._client.close(window)
            self._is_new = False

    def _report_outage(self, error: Exception) -> None:
        if self._outage:
            return
        if self._client is not None:
            logger.warning(
                "The Visdom server at %s:%d stopped answering (%s); training continues without live plots until it "
                "is back.",
                *(*self._where, type(error).__name__),
            )
        elif not isinstance(error, ConnectionError):  # that no server listens was said at the start
            logger.warning("Visdom cannot be used (%s: %s), so there are no live plots.", type(error).__name__, error)
        self._outage = True

    @property
    def _where(self) -> tuple[str, int]:
        return self._server.host, self._server.port

    def _send_losses(self, curves: Curves) -> None:
        losses = {name: line for name, line in curves.values.items() if name != LEARNING_RATE}
        self._plot(LOSSES, curves.positions, losses, {"title": LOSSES, "ylabel": "loss"})
        rate = curves.values[LEARNING_RATE]
        # Left alone, the axis of a constant goes from -1 to 1, and the rate looks like 0.
        axis = {"ytickmin": 0.0, "ytickmax": RATE_HEADROOM * float(rate.max())} if rate.max() > 0 else {}
        opts = {"title": RATE_WINDOW, "ylabel": "learning rate", **axis}
        self._plot(RATE_WINDOW, curves.positions, {LEARNING_RATE: rate}, opts)

    def _send_metrics(self, curves: Curves) -> None:
        for metric in shown_metrics(self._protocol, curves.values):
            heading = metric.heading(self._protocol) + (f", {metric.unit}" if metric.unit else "")
            opts = {"title": f"validation: {heading}", "ylabel": heading, "markers": True, "markersize": 6}
            self._plot(metric_window(metric.key), curves.positions, {metric.key: curves.values[metric.key]}, opts)

    def _plot(self, window: str, positions: np.ndarray, lines: Mapping[str, np.ndarray], opts: dict[str, Any]) -> None:
        if not lines:
            return
        values = np.stack(list(lines.values()), axis=1)
        places = np.repeat(positions[:, None], values.shape[1], axis=1)
        self._client.line(Y=values, X=places, win=window, opts={**opts, "legend": list(lines), "xlabel": "epoch"})

    def _send_images(self, epoch: int, images: Mapping[str, np.ndarray]) -> None:
        if self._server.ncols > 0:
            title = f"epoch {epoch}: " + " · ".join(images)
            grid = image_grid(list(images.values()), self._server.ncols)
            self._client.image(grid.transpose(2, 0, 1), win=IMAGES, opts={"title": title})
            return
        for label, image in images.items():
            heading = f"{self._words[label]} ({label})" if label in self._words else label
            self._client.image(
                image.transpose(2, 0, 1), win=f"image {label}", opts={"title": f"epoch {epoch}: {heading}"}
            )


def metric_window(name: str) -> str:
    """The window of a metric; a loss may have the same name."""
    return f"metric {name}"


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
