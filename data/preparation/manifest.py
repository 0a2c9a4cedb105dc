"""What a prepared data set says about itself: ``dataset.yaml`` and the checksums in ``files.sha256``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from data.preparation.members import Member

MANIFEST = "dataset.yaml"
CHECKSUMS = "files.sha256"
VERSION = 1
"""Raised when the same source and options give other files."""


@dataclass(frozen=True)
class Written:
    """One file of the data set: path below its folder, size in bytes, checksum of its content."""

    path: str
    size: int
    sha256: str


def request_hash(dataset: str, options: Mapping[str, Any], members: Iterable[Member]) -> str:
    """Changes with everything that the result depends on, as far as it can be told without reading the images."""
    digest = hashlib.sha256(json.dumps([VERSION, dataset, dict(options)], sort_keys=True).encode())
    for member in members:
        digest.update(f"\n{member.source} {member.size} {member.label}/{member.name}".encode(errors="surrogatepass"))
    return digest.hexdigest()


def checksum_lines(files: Iterable[Written]) -> str:
    """The text of ``files.sha256``, in the format of the program sha256sum, sorted by path."""
    return "".join(f"{file.sha256}  {file.path}\n" for file in sorted(files, key=lambda file: file.path))


def write_manifest(folder: Path, description: Mapping[str, Any], files: Sequence[Written]) -> str:
    """Write both files into ``folder`` and return the hash of the file list.

    The hash depends on the names and contents of the files alone, not on where the source lay or whether it was packed.
    """
    lines = checksum_lines(files)
    file_hash = hashlib.sha256(lines.encode()).hexdigest()
    (folder / CHECKSUMS).write_text(lines, encoding="utf-8", newline="\n")
    entry = {
        "list": CHECKSUMS,
        "number": len(files),
        "bytes": sum(file.size for file in files),
        "sha256": file_hash,
    }
    text = yaml.safe_dump({**description, "files": entry}, sort_keys=False, allow_unicode=True, width=120)
    (folder / MANIFEST).write_text(text, encoding="utf-8", newline="\n")
    return file_hash


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The content of ``dataset.yaml``; None if there is none or it was not written here."""
    try:
        content = yaml.safe_load((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return content if isinstance(content, dict) and "request" in content and "files" in content else None


def damage(folder: Path, manifest: Mapping[str, Any]) -> str | None:
    """What differs from the manifest in names or sizes, in a few words; None if nothing. Contents are not read."""
    try:
        lines = (folder / CHECKSUMS).read_text(encoding="utf-8")
        names = [line.split("  ", 1)[1] for line in lines.splitlines()]
    except (OSError, ValueError, IndexError):
        return f"{CHECKSUMS} is missing or changed"
    if hashlib.sha256(lines.encode()).hexdigest() != manifest["files"].get("sha256"):
        return f"{CHECKSUMS} is changed"
    total = 0
    for name in names:
        path = folder / name
        if not path.is_file():
            return f"'{name}' is missing"
        total += path.stat().st_size
    return None if total == manifest["files"].get("bytes") else "some files have other sizes"
