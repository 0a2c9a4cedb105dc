"""Writing files so that a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path

from util.errors import UserError


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` by way of a temporary file beside it.

    Missing parent folders are created; a failed write leaves the old file as it was and no temporary file behind.

    Raises:
        UserError: the file cannot be written there.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_text_atomically(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, as :func:`write_atomically` does.

    Characters that UTF-8 cannot hold (lone surrogates from undecodable file names) are escaped: ``\\udcff``.

    Raises:
        UserError: the file cannot be written there.
    """
    write_atomically(path, text.encode("utf-8", errors="backslashreplace"))


def cannot_write(path: Path, error: OSError) -> UserError:
    """The one sentence for a file or folder that the system refuses to write."""
    return UserError(f"{path}: cannot be written ({error.strerror or error}); free the place or choose another folder.")
