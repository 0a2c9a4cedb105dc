"""What a data set that was made here says about itself, by which it is recognized: reused, replaced or left alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from util.errors import UserError

MANIFEST = "dataset.yaml"
_OLDER = {MANIFEST: "prepare_dataset", "dataset.json": "make_demo_dataset", "general.json": "train_general"}
"""What manifests were called before they all had one name and said what made them."""


def write_manifest(folder: Path, made_by: str, fingerprint: str, about: Mapping[str, Any]) -> dict[str, Any]:
    """Write ``dataset.yaml`` and return its content: ``about``, the number and size of the files, the fingerprint.

    ``fingerprint`` changes with everything that the files depend on.

    Raises:
        OSError: it cannot be written.
    """
    number, size = _contents(folder)
    files = {"number": number, "bytes": size, **about.get("files", {})}
    manifest = {"made_by": made_by, **about, "files": files, "fingerprint": fingerprint}
    text = yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True, width=120)
    (folder / MANIFEST).write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
    return manifest


def existing(
    place: Path,
    made_by: str,
    fingerprint: str,
    *,
    flag: str,
    replace: bool = False,
    advice: str = "name another folder, or remove this one",
) -> dict[str, Any] | None:
    """The manifest of the complete data set with this fingerprint in ``place``; None where it is to be made.

    That is where nothing is, or with ``replace`` another or an incomplete data set that ``made_by`` has made.

    Raises:
        UserError: there is something else; ``advice`` says what to do about a data set that is another one.
    """
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return None
    manifest = _read(place)
    if manifest is None or manifest["made_by"] != made_by:
        raise UserError(f"{flag} {place}: there is something else, without our {MANIFEST}; name another folder.")
    if manifest.get("fingerprint", manifest.get("request")) != fingerprint:
        complaint = "was made from other images or options, or by another version"
    elif _damaged(place, manifest):
        complaint = "is damaged: files are missing or have other sizes"
    else:
        return manifest
    if replace:
        return None
    raise UserError(f"{flag} {place}: the data set there {complaint}; {advice}.")


def _read(folder: Path) -> dict[str, Any] | None:
    for name, maker in _OLDER.items():
        try:
            manifest = yaml.safe_load((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            continue
        if isinstance(manifest, dict) and {"fingerprint", "request"} & manifest.keys():
            return {"made_by": maker, **manifest}
    return None


def _damaged(folder: Path, manifest: Mapping[str, Any]) -> bool:
    files = manifest.get("files")
    if not isinstance(files, dict) or "number" not in files:  # of an older version, which counted in another way
        return False
    return _contents(folder) != (files["number"], files.get("bytes"))


def _contents(folder: Path) -> tuple[int, int]:
    """Number and bytes of the files in the sub-folders; descriptions lie next to these."""
    sizes = [
        os.stat(os.path.join(place, name)).st_size  # noqa: PTH116, PTH118 - of a million files
        for place, _, names in os.walk(folder)
        if place != str(folder)
        for name in names
    ]
    return len(sizes), sum(sizes)
