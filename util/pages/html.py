"""What all pages share: a self-contained document, safe addresses of images and safe embedded data."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dominate import document, tags
from dominate.util import raw

from util.errors import UserError
from util.files import real_path

VIEWPORT = "width=device-width, initial-scale=1"
SHOWN_BY_BROWSERS = frozenset({"AVIF", "BMP", "GIF", "JPEG", "PNG", "WEBP"})  # Pillow's names of formats


def read_asset(name: str) -> str:
    """Return the text of a style sheet or script that comes with this package."""
    return (files(__package__) / "assets" / name).read_text(encoding="utf-8")


def new_document(title: str, styles: Sequence[str]) -> document:
    """Return an empty page with the named style sheets inlined; it asks no server for anything."""
    page = document(title=title)
    page["lang"] = "en"
    page.head.add(
        tags.meta(charset="utf-8"),
        tags.meta(name="viewport", content=VIEWPORT),
        tags.meta(name="color-scheme", content="light dark"),
        tags.link(rel="icon", href="data:,"),  # keeps browsers from asking for /favicon.ico
        tags.style(raw("\n".join(read_asset(name) for name in styles))),
    )
    return page


def add_scripts(page: document, scripts: Sequence[str]) -> None:
    """Inline the named scripts at the end of the page, in one function, so that their names stay their own."""
    parts = "\n".join(read_asset(name) for name in scripts)
    page.body.add(tags.script(raw(f'(function () {{\n"use strict";\n{parts}\n}})();')))


def embedded_json(element_id: str, data: Any) -> tags.html_tag:
    """Return a script element that holds ``data`` for scripts; no text in it can end the element."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return tags.script(raw(text), type="application/json", id=element_id)


def relative_address(folder: Path, file: Path) -> str:
    """The path from a page's folder to a file, with ``/``.

    Raises:
        UserError: they lie on different drives, so that there is none.
    """
    try:
        return Path(os.path.relpath(real_path(file), real_path(folder))).as_posix()
    except ValueError as error:
        raise UserError(f"{file}: is on another drive than the page in {folder}; put both on one drive.") from error


def image_address(path: str) -> str:
    """Return the relative address of a file, given its path with ``/``; every other special character is quoted."""
    return quote(path, safe="/", errors="surrogateescape")
