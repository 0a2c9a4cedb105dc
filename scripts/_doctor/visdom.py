"""Visdom: whether its server answers, and whether its page has the scripts it needs."""

from __future__ import annotations

from collections.abc import Iterator

from scripts._doctor.report import OK, WARNING, Finding
from scripts._visdom import files
from util.errors import UserError

START = "python scripts/visdom_server.py"


def check_server(address: str, port: int) -> Iterator[Finding]:
    """A server is not needed: everything it shows is in files as well."""
    from util.trackers.visdom import VisdomServer, answers, connect

    server = VisdomServer(address, port, env="main", ncols=0)
    where = f"{server.host}:{port}"
    if not answers(server):
        todo = f"for live plots: {START} --port {port}; to train without: --display_id 0"
        yield Finding(WARNING, "Visdom server", f"none answers at {where}; trainings write files all the same", todo)
        return
    try:
        environments = connect(server).get_env_list()
    except ImportError:
        raise
    except Exception as error:  # whatever Visdom's client makes of an answer that is not Visdom's
        todo = "choose another port: --display_port, and --port of the server"
        yield Finding(WARNING, "Visdom server", f"what answers at {where} is none ({type(error).__name__})", todo)
        return
    yield Finding(OK, "Visdom server", f"answers at {where}, {len(environments)} environments")


def check_page() -> Iterator[Finding]:
    """The files that the page needs and Visdom's package lacks."""
    try:
        static = files.static_folder()
    except UserError as error:  # it is not installed
        yield Finding(WARNING, "Visdom page", str(error))
        return
    missing = files.missing_files(static)
    if missing:
        found = f"{len(missing)} of its files are missing in {static}, so it would stay blank"
        yield Finding(WARNING, "Visdom page", found, f"{START} --fetch_browser_files (npm, 25 MB, once)")
    else:
        yield Finding(OK, "Visdom page", f"complete in {static}")
