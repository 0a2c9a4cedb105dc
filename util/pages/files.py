"""Writing a text file so that a reader never meets half of it."""

from __future__ import annotations

from pathlib import Path


def write_text_atomically(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path`` by way of a temporary file beside it; folders are created.

    Characters that UTF-8 cannot hold (lone surrogates from undecodable file names) become ``?``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(text.encode("utf-8", errors="replace"))
    temporary.replace(path)
