"""One way to find files: which folders are looked into, which files count, and a line about what was left out."""

from __future__ import annotations

import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from util.errors import UserError
from util.files import patiently
from util.text import first_names

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset(
    {
        *(".apng", ".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg"),
        *(".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
    }
)
_JUNK = frozenset(
    {
        *("@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot", "~snapshot"),  # network drives
        *("$recycle.bin", "system volume information", "thumbs", "thumbs.db", "desktop.ini"),  # Windows
        *("lost+found", "__macosx"),  # Linux, macOS
    }
)


def is_junk(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or put there by a system: thumbnails, trash, snapshots."""
    return name.startswith(".") or name.casefold() in _JUNK


def same_name(name: str) -> str:
    """The form in which names are compared: systems write é as one character or as two."""
    return unicodedata.normalize("NFC", name)


_PSEUDO_FILE_SYSTEMS = ("/proc/", "/sys/", "/dev/")


def find_files(folder: Path, suffixes: Collection[str] | None = IMAGE_SUFFIXES) -> dict[str, Path]:
    """The files below ``folder`` that end in one of ``suffixes`` (in any case; None: all), by relative path, sorted.

    Sub-folders and symbolic links are followed, except a link back into a folder it lies in, or into /proc, /sys or
    /dev. Junk is left out, and so are pipes and devices. A dangling link is listed, so that reading it names it. A
    logged line counts what else was left out, by kind.

    Raises:
        UserError: the folder itself cannot be listed; a sub-folder that cannot is left out with a warning.
    """
    found: dict[str, Path] = {}
    left_out: Counter[str] = Counter()
    junk: set[str] = set()
    pending: list[tuple[Path, PurePosixPath, tuple[str, ...]]] = [(folder, PurePosixPath(), ())]
    while pending:
        place, relative, parents = pending.pop()
        real = os.path.realpath(place)
        if real in parents:
            continue
        if f"{real}/".startswith(_PSEUDO_FILE_SYSTEMS):  # where links lead to the whole system, and round in circles
            left_out["links to system folders"] += 1
            continue
        try:
            entries = patiently(lambda place=place: _entries(place))  # type: ignore[misc]
        except OSError as error:
            if place == folder:
                raise UserError(f"'{folder}' cannot be listed ({error.strerror}); check its permissions.") from error
            logger.warning("'%s' cannot be listed (%s) and is left out", place, error.strerror)
            continue
        for entry in entries:
            path, name = place / entry.name, relative / entry.name
            try:
                is_folder, is_file = entry.is_dir(), entry.is_file()
            except OSError:  # a link in a circle, or no permission: where the name is an image's, reading it names it
                is_folder, is_file = False, True
            if is_junk(entry.name):
                junk |= {entry.name} if is_folder and not entry.name.startswith(".") else set()
            elif is_folder:
                pending.append((path, name, (*parents, real)))
            elif not (is_file or entry.is_symlink()):
                left_out["pipes or devices"] += 1
            elif suffixes is None or path.suffix.lower() in suffixes:
                found[name.as_posix()] = path
            else:
                left_out[path.suffix.lower() or "without an ending"] += 1
    said = []
    if left_out and suffixes is not None:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(left_out.items()))
        said.append(f"{sum(left_out.values()):,} file{'s' * (sum(left_out.values()) > 1)}: {kinds}")
    if junk:
        said.append(f"what is below {first_names(sorted(junk))}")
    if said:
        logger.info("'%s': left out %s", folder, "; ".join(said))
    return dict(sorted(found.items()))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)
