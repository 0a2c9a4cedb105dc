"""Start the Visdom server that shows live plots of trainings, also on a machine without internet.

  python scripts/visdom_server.py                            # http://localhost:8097, as train.py expects it
  python scripts/visdom_server.py --fetch_browser_files      # the first time: the page's scripts, from npm

Visdom's own command (python -m visdom.server) downloads its page's scripts at every first start and dies where there
is no internet. For such a machine run this elsewhere, bring the folder along, and start with it:

  python scripts/visdom_server.py --fetch_browser_files --browser_packages visdom_packages   # with internet
  python scripts/visdom_server.py --browser_packages visdom_packages                         # without
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file: Python put scripts/ there, not the checkout
    sys.path.insert(0, str(ROOT))

from scripts import _visdom
from util.command_line import CommandLine
from util.errors import UserError, entry_point

LOCAL = "localhost"
DEFAULT_PORT = 8097
HIGHEST_PORT = 65535


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = CommandLine(description=__doc__)
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="(%(default)s)")
    parser.add_argument(
        "--hostname",
        default=LOCAL,
        help="this machine's name for others, who are let in then, without a password; "
        "%(default)s, the default, refuses others",
    )
    parser.add_argument("--env_path", type=Path, help="where finished plots are kept (Visdom's own folder)")
    parser.add_argument("--fetch_browser_files", action="store_true", help="get the page's scripts from npm, 25 MB")
    parser.add_argument("--browser_packages", type=Path, metavar="FOLDER", help="where npm's packages are kept")
    parser.add_argument("--readonly", action="store_true", help="the browser cannot change the plots")
    args = parser.parse_args(argv)
    if not 0 < args.port <= HIGHEST_PORT:
        raise UserError(f"--port {args.port}: is not a port between 1 and {HIGHEST_PORT}.")
    return args


def prepare_page(args: argparse.Namespace) -> None:
    """See to it that the page's files are there."""
    static = _visdom.static_folder()
    if (version := _visdom.installed_version()) != _visdom.VISDOM_VERSION:
        print(f"The files are those of Visdom {_visdom.VISDOM_VERSION}; {version} may want others.")
    wanted = args.fetch_browser_files or args.browser_packages is not None
    if wanted and _visdom.missing_files(static):
        if args.fetch_browser_files:
            print(f"Fetching {len(_visdom.PACKAGES)} packages with npm ...", flush=True)
        count = _visdom.get_files(static, args.browser_packages, may_fetch=args.fetch_browser_files)
        print(f"{count} files of the page checked and put into {static}")
    elif args.fetch_browser_files and args.browser_packages is not None:
        _visdom.fetch(args.browser_packages)
        print(f"The packages are in {args.browser_packages}")
    _visdom.require_files(static)


@entry_point
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, complete the page, serve until Ctrl-C."""
    args = parse(argv)
    prepare_page(args)

    with contextlib.suppress(KeyboardInterrupt):
        _visdom.serve(
            args.port,
            args.hostname,
            args.env_path,
            local=args.hostname == LOCAL,
            readonly=args.readonly,
            started=lambda port: print(
                f"Plots: http://{args.hostname}:{port}   (Ctrl-C stops the server, not the trainings)", flush=True
            ),
        )


if __name__ == "__main__":
    sys.exit(main())
