"""Keeping what an earlier run of the same name left, instead of mixing it with the new one's."""

from __future__ import annotations

import shutil
from pathlib import Path

from util.files import cannot_write


def put_aside(folder: Path, previous: Path) -> None:
    """Rename ``folder``, if it is there, to ``previous``, in place of an older one.

    Raises:
        UserError: it cannot be renamed, or the older one not be removed.
    """
    if not folder.exists():
        return
    try:
        if previous.is_dir():
            shutil.rmtree(previous)
        folder.replace(previous)
    except OSError as error:
        raise cannot_write(previous, error) from error
