"""Visdom's server without the download that its own command begins with, and the files that its web page needs.

Visdom downloads them one by one from several hosts when its own command starts. The same files are in packages of the
npm registry, which ``npm`` fetches from wherever it is configured to. Standard library only.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import importlib.metadata
import importlib.util
import logging
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from util.errors import UserError
from util.files import write_atomically
from util.text import first_names

VISDOM_VERSION = "0.2.4"
BUILT_NAME = "version.built"  # where Visdom notes for which version it has all files
ROOT_OF_PACKAGE = "package/"
MATHJAX = "js/mathjax/2.7.5/"
NPM_PATIENCE = ("--fetch-retries=1", "--fetch-timeout=60000")
NAMED_FILES = 3  # as many missing files are named in a message


@dataclass(frozen=True)
class Package:
    """A package of the npm registry: exact version, sha512 as npm states it, and its files -> places in ``static``."""

    name: str
    version: str
    integrity: str
    files: Mapping[str, str]

    @property
    def archive(self) -> str:
        """What ``npm pack`` calls the package's file."""
        return f"{self.name}-{self.version}.tgz"


def _same(folder: str, target: str, names: Sequence[str]) -> dict[str, str]:
    return {folder + name: target + name for name in names}


PACKAGES: tuple[Package, ...] = (
    Package(
        "jquery",
        "3.1.1",
        "zuiWRmx65Kd1oFGdWLvAjbsumdOBFvs3r1vuqCyKFF79R7exBHNbiNEJ8LR+xkzgfxqBznMD/4Cv6PHXS6mvEw==",
        {"dist/jquery.min.js": "js/jquery.min.js"},
    ),
    Package(
        "bootstrap",
        "3.3.7",
        "qcFaisBrcBhTFkz1IUnGDYnX6ZWfFzH8zOixUDtHW9Ip+r+7MfMFav2rzy7cIHc7rgIg7xjhWBoo1mS/U26j4g==",
        {
            "dist/js/bootstrap.min.js": "js/bootstrap.min.js",
            "dist/css/bootstrap.min.css": "css/bootstrap.min.css",
            **_same(
                "dist/", "", [f"fonts/glyphicons-halflings-regular.{kind}" for kind in ("eot", "woff2", "woff", "ttf")]
            ),
            "dist/fonts/glyphicons-halflings-regular.svg": (
                "fonts/glyphicons-halflings-regular.svg#glyphicons_halflingsregular"
            ),
        },
    ),
    Package(
        "react",
        "16.2.0",
        "ZmIomM7EE1DvPEnSFAHZn9Vs9zJl5A9H7el0EGTE6ZbW9FKe/14IYAlPbC8iH25YarEQxZL+E8VW7Mi7kfQrDQ==",
        {"umd/react.production.min.js": "js/react-react.min.js"},
    ),
    Package(
        "react-dom",
        "16.2.0",
        "zpGAdwHVn9K0091d+hr+R0qrjoJ84cIBFL2uU60KvWBPfZ7LPSrfqviTxGHWN0sjPZb2hxWzMexwrvJdKePvjg==",
        {"umd/react-dom.production.min.js": "js/react-dom.min.js"},
    ),
    Package(
        "react-modal",
        "3.1.10",
        "7b77AGWCkdg0YOf/qcYIGCpuwbxRwOA8P3UrUovk4grUNv+idOmHovJAx/Dcd3fuwHtgixxVjpcjVG60985MSA==",
        {"dist/react-modal.min.js": "js/react-modal.min.js"},
    ),
    Package(
        "plotly.js-dist-min",
        "2.11.1",
        "F9WWNht0D3yBLZGHbLoJNfvplXvy+GUPSsA/lCbMuYd/UwzSu6Vmyprxlps9Einw1LDS1hYBrJeioK0lE3ieXA==",
        {"plotly.min.js": "js/plotly-plotly.min.js"},
    ),
    Package(
        "sjcl",
        "1.0.7",
        "xQbiwKfiAj6vyk44ANJ5RRymALRdRZOuRoKNYkWUU404p/RFXmMaay1Z5vRn30GJjkD+psox4Jd38jZojSuNYA==",
        {"sjcl.js": "js/sjcl.js"},
    ),
    Package(
        "layout-bin-packer",
        "1.4.0",
        "dQOZnajbOBGIcS9YlzKrkRtMCGa2oEpyf1zGRn93suphSvPclJe54Sbgtb053GJ21DUk84IBzaeQvjn+Gb10fA==",
        {
            "dist/layout-bin-packer.js": "js/layout_bin_packer.js",
            "dist/layout-bin-packer.js.map": "js/layout-bin-packer.js.map",
        },
    ),
    Package(
        "d3",
        "3.5.17",
        "yFk/2idb8OHPKkbAL8QaOaqENNoMhIaSHZerk3oQsECwkObkCpJyjYwCe+OHiq6UEdhe1m8ZGARRRO3ljFjlKg==",
        {"d3.min.js": "js/d3.v3.min.js"},
    ),
    Package(
        "d3-selection-multi",
        "1.0.1",
        "mEnRkJ6A+Otd1LuRPV3az+s/RLDmIEhuz/MnT21O2nPcWNH7wZotdIlRjMA4Wpr+n7AESQ5fD8v1J3nL2Mnw9g==",
        {"build/d3-selection-multi.js": "js/d3-selection-multi.v1.js"},
    ),
    Package(
        "save-svg-as-png",
        "1.4.17",
        "7QDaqJsVhdFPwviCxkgHiGm9omeaMBe1VKbHySWU6oFB2LtnGCcYS13eVoslUgq6VZC6Tjq/HddBd1K6p2PGpA==",
        {"lib/saveSvgAsPng.js": "js/saveSvgAsPng.js"},
    ),
    Package(
        "react-resizable",
        "1.4.6",
        "4zLORO51u0/mlDsrVCAA4p266d+3mb2ZMNdiWOotAh/PdnfrRzZhgePmKE08PSQatXVIfMjmyD+Sapay8tmxdQ==",
        {"css/styles.css": "css/react-resizable-styles.css"},
    ),
    Package(
        "react-grid-layout",
        "0.16.3",
        "ytP92EqUjqcFhGzvdeKrK610dQ04GdFwRCWtD6PoeL5wR3liETcFISO7k8RBqnosV86JtXf/DwIfrL0COLs0gg==",
        {"css/styles.css": "css/react-grid-layout-styles.css"},
    ),
    Package(
        "classnames",
        "2.2.5",
        "DTt3GhOUDKhh4ONwIJW4lmhyotQmV2LjNlGK/J2hkwUcqcbKkCLAdJPtxQnxnlc7SR3f1CEXCyMmc7WLUsWbNA==",
        {"index.js": "fonts/classnames"},  # among the fonts, as Visdom itself puts it
    ),
    Package(
        "mathjax",
        "2.7.5",
        "OzsJNitEHAJB3y4IIlPCAvS0yoXwYjlo2Y4kmm9KQzyIBZt2d8yKRalby3uTRNN4fZQiGL2iMXjpdP1u2Rq2DQ==",
        _same(
            "",
            MATHJAX,
            [
                "MathJax.js",
                "config/Safe.js",
                "config/TeX-AMS-MML_HTMLorMML.js",
                "extensions/Safe.js",
                "jax/output/SVG/config.js",
                "jax/output/SVG/jax.js",
                "jax/output/SVG/fonts/TeX/fontdata.js",
                "jax/output/SVG/fonts/TeX/Size1/Regular/Main.js",
            ],
        ),
    ),
)


def static_folder() -> Path:
    """Where the installed Visdom looks for its page's files.

    Raises:
        UserError: Visdom is not installed.
    """
    found = importlib.util.find_spec("visdom")
    if found is None or not found.submodule_search_locations:
        raise UserError("visdom is not installed; pip install visdom (requirements.txt has its version).")
    return Path(found.submodule_search_locations[0]) / "static"


def installed_version() -> str:
    """The installed Visdom's version."""
    return importlib.metadata.version("visdom")


def missing_files(static: Path) -> list[str]:
    """Files of the page that are not in ``static``, relative to it."""
    return [place for package in PACKAGES for place in package.files.values() if not (static / place).is_file()]


def require_files(static: Path) -> None:
    """Raise :class:`UserError`, with what is missing and what to do, unless the page is complete."""
    missing = missing_files(static)
    if not missing:
        return
    raise UserError(
        f"Visdom's page would stay blank: in {static} {len(missing)} files are missing "
        f"({first_names(missing, NAMED_FILES, quote='')}); add --fetch_browser_files to get them with npm (25 MB,"
        f" once), or --browser_packages FOLDER, with a folder of packages fetched elsewhere."
    )


def fetch(folder: Path) -> None:
    """Fetch with npm, into ``folder``, the packages that are not there.

    Raises:
        UserError: there is no npm, it fails, or the folder cannot be made.
    """
    wanted = [package for package in PACKAGES if not (folder / package.archive).is_file()]
    if not wanted:
        return
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(
            "--fetch_browser_files: npm is not installed (it comes with Node.js); install it, or run this script where "
            "it is, with --browser_packages FOLDER, and bring that folder here."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--browser_packages {folder}: cannot be made ({error.strerror}).") from error
    specs = [f"{package.name}@{package.version}" for package in wanted]
    command = [npm, "pack", "--ignore-scripts", *NPM_PATIENCE, "--pack-destination", str(folder.resolve()), *specs]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode:
        raise UserError(f"--fetch_browser_files: npm failed ({_reason(done.stderr)}); check the network and try again.")


def _reason(output: str) -> str:
    """What npm complains of, without the lines about its log files."""
    lines = [line.removeprefix("npm error").strip() for line in output.splitlines() if line.startswith("npm error")]
    told = [line for line in lines if line and "complete log" not in line and "_logs" not in line]
    return "; ".join(told[:3]) or "it says nothing more"


def place(folder: Path, static: Path) -> int:
    """Check the packages in ``folder`` and put the page's files into ``static``; returns how many files.

    Nothing is written unless every package is there and is the one that npm vouches for.

    Raises:
        UserError: a package is missing or damaged, or ``static`` cannot be written.
    """
    contents = {where: data for package in PACKAGES for where, data in _read(package, folder).items()}
    for where, data in contents.items():
        write_atomically(static / where, data)
    write_atomically(static / BUILT_NAME, VISDOM_VERSION.encode())
    return len(contents)


def _read(package: Package, folder: Path) -> dict[str, bytes]:
    """The package's files for the page: place -> content."""
    path = folder / package.archive
    try:
        with path.open("rb") as file:
            digest = hashlib.sha512(file.read()).digest()
    except OSError as error:
        raise UserError(
            f"--browser_packages {folder}: {package.archive} cannot be read ({error.strerror}); "
            f"add --fetch_browser_files where there is a network."
        ) from error
    if base64.b64encode(digest).decode() != package.integrity:
        raise UserError(
            f"{path}: is not the package that npm vouches for (its sha512 differs); delete it, fetch again."
        )
    with tarfile.open(path) as archive:
        files = {}
        for name, where in package.files.items():
            member = archive.extractfile(ROOT_OF_PACKAGE + name)
            assert member is not None, f"{package.archive} has no file {name}"
            files[where] = member.read()
        return files


def get_files(static: Path, packages: Path | None, *, may_fetch: bool) -> int:
    """Put the page's files into ``static``; returns how many.

    They come out of the packages in the folder ``packages``, into which the lacking ones are fetched first if
    ``may_fetch``; without a folder they are fetched into one that lasts only as long.
    """
    if packages is not None:
        if may_fetch:
            fetch(packages)
        return place(packages, static)
    with tempfile.TemporaryDirectory() as folder:
        fetch(Path(folder))
        return place(Path(folder), static)


def serve(
    port: int, hostname: str, env_path: Path | None, *, local: bool, readonly: bool, started: Callable[[int], None]
) -> None:
    """Run the server until it is stopped; ``started`` is called with the port once it listens.

    ``local`` refuses other machines. ``env_path`` is where saved plots are, Visdom's own folder if None.

    Raises:
        UserError: the port is taken, or the folder cannot be used.
    """
    from tornado.web import StaticFileHandler
    from visdom.server.app import tornado_settings
    from visdom.server.defaults import DEFAULT_ENV_PATH
    from visdom.server.run_server import start_server

    class PageFiles(StaticFileHandler):
        """Lets the page name the user's style sheet as ``../user/style.css``, which tornado 6.6 and later refuse.

        The address alone is allowed, without looking at a file; what is served stays inside of Visdom's folder.
        """

        @classmethod
        def make_static_url(cls, settings: dict[str, Any], path: str, include_version: bool = True) -> str:
            return super().make_static_url(settings, path, include_version and ".." not in path.split("/"))

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
