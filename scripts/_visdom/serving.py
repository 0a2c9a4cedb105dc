"""Running Visdom's server inside this process, without the download that its own command begins with."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tornado.web import StaticFileHandler
from visdom.server.app import tornado_settings
from visdom.server.defaults import DEFAULT_ENV_PATH
from visdom.server.run_server import start_server

from util.errors import UserError


class PageFiles(StaticFileHandler):
    """Lets Visdom's page name the user's style sheet as ``../user/style.css``, which tornado 6.6 and later refuse.

    The address alone is allowed, without looking at a file; what is served stays inside of Visdom's folder.
    """

    @classmethod
    def make_static_url(cls, settings: dict[str, Any], path: str, include_version: bool = True) -> str:
        """The address of a file of the page, with its version if it is one of Visdom's own."""
        return super().make_static_url(settings, path, include_version and ".." not in path.split("/"))


def serve(
    port: int, hostname: str, env_path: Path | None, *, local: bool, readonly: bool, started: Callable[[int], None]
) -> None:
    """Run the server until it is stopped; ``started`` is called with the port once it listens.

    ``local`` lets nobody on other machines in. ``env_path`` is where saved plots are, Visdom's own folder if None.

    Raises:
        UserError: the port is taken, or the folder cannot be used.
    """
    logging.getLogger("tornado.access").setLevel(logging.ERROR)
    tornado_settings["static_handler_class"] = PageFiles
    folder = str(env_path or DEFAULT_ENV_PATH)
    try:
        start_server(
            port=port,
            hostname=hostname,
            base_url="",
            env_path=folder,
            readonly=readonly,
            bind_local=local,
            print_func=started,
        )
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise UserError(f"--port {port}, --env_path {folder}: {error}; choose others.") from error
        raise UserError(
            f"--port {port}: in use already, perhaps by a Visdom server; choose another here and with "
            f"train.py --display_port."
        ) from error
