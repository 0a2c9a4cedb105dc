"""The connection to a Visdom server: quiet, without proxies, and never without a time limit."""

from __future__ import annotations

import functools
import importlib
import logging
import socket
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

logger = logging.getLogger(__name__)

PROBE_SECONDS = 2.0
ANSWER_SECONDS = 10.0
SERVER_SCRIPT = "scripts/visdom_server.py"


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
