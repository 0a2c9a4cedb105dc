"""Folders of images to evaluate: our own results or another program's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from util.errors import UserError
from util.files import real_path
from util.finding import find_files, same_name

INPUT, OUTPUT, TARGET = "real_A", "fake_B", "real_B"
IMAGES = "images"
"""Where ``test.py`` puts its pictures: ``<results>/images/fake_B/…``."""

INPUT_LABEL = "rainy input"
LISTED = 6  # names in a message


@dataclass(frozen=True)
class Folder:
    """Images by their path below ``path`` without extension, with forward slashes; ``flag`` gave the folder."""

    flag: str
    label: str
    path: Path
    images: Mapping[str, Path]


@dataclass(frozen=True)
class Results:
    """What one ``--results`` holds: outputs, and of our own tests the inputs and the ground truth they had."""

    output: Folder
    input: Path | None = None
    target: Path | None = None


def read_folder(path: Path, *, flag: str, label: str = "") -> Folder:
    """Find the images below ``path``.

    Raises:
        UserError: no folder, no images, or two images that differ in the extension only.
    """
    if not path.is_dir():
        raise UserError(f"{flag} {path}: is no folder; give the folder that holds the images.")
    images: dict[str, Path] = {}
    for relative, file in find_files(path).items():
        name = same_name(PurePosixPath(relative).with_suffix("").as_posix())
        if name in images:
            raise UserError(
                f"{flag} {path}: '{images[name].name}' and '{file.name}' differ in the extension only (or in the "
                f"Unicode form), so which one is '{name}' is open; remove one."
            )
        images[name] = file
    if not images:
        raise UserError(f"{flag} {path}: holds no images; give the folder that holds them.")
    return Folder(flag, label or path.name, path, images)


def find_results(path: Path, *, label: str) -> Results:
    """Take ``path`` as a results folder of ``test.py`` if it has that layout, else as a folder of outputs.

    Raises:
        UserError: as :func:`read_folder`.
    """
    images = path / IMAGES
    if not (images / OUTPUT).is_dir():
        return Results(read_folder(path, flag="--results", label=label))
    output = read_folder(images / OUTPUT, flag="--results", label=label)
    inputs, targets = (images / name if (images / name).is_dir() else None for name in (INPUT, TARGET))
    return Results(output, inputs, targets)


def labels_for(paths: Sequence[Path]) -> list[str]:
    """A short label for each folder: its name, of our results the run's; longer ones where those coincide."""
    parts = [real_path(path).parts for path in paths]
    own = [(path / IMAGES / OUTPUT).is_dir() for path in paths]
    labels = [part[-2] if is_own and len(part) > 1 else part[-1] for part, is_own in zip(parts, own, strict=True)]
    depth = 1
    while len(set(labels)) < len(labels) and depth < max(map(len, parts)):
        depth += 1
        labels = ["/".join(part[-depth:]) for part in parts]
    return labels


def listed(names: Sequence[str]) -> str:
    """The first names, quoted, and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(f"'{name}'" for name in names[:LISTED]) + more
