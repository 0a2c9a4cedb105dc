"""What the page of a running training shows, as data that is saved beside it as ``manifest.json``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from util.files import write_text_atomically
from util.pages.manifest import MANIFEST_NAME, is_inside

VERSION = 1


@dataclass(frozen=True)
class Picture:
    """A picture's file, relative to the page's folder and with ``/``, and its size in pixels."""

    path: str
    width: int
    height: int


@dataclass(frozen=True)
class Moment:
    """Pictures (label -> picture) from one moment of a training; ``epoch`` counts from 1."""

    epoch: int
    images_in_epoch: int
    total_images: int
    pictures: Mapping[str, Picture]

    def to_json(self) -> str:
        """The moment as one line of JSON."""
        pictures = {
            label: {"path": picture.path, "width": picture.width, "height": picture.height}
            for label, picture in self.pictures.items()
        }
        return json.dumps(
            {
                "epoch": self.epoch,
                "images_in_epoch": self.images_in_epoch,
                "total_images": self.total_images,
                "pictures": pictures,
            }
        )


def save_moments(folder: Path, moments: Iterable[str]) -> None:
    """Write ``folder/manifest.json`` from what :meth:`Moment.to_json` returned, oldest first."""
    lines = ",\n".join(moments)
    write_text_atomically(folder / MANIFEST_NAME, f'{{"version": {VERSION}, "moments": [\n{lines}\n]}}\n')


def load_moments(folder: Path) -> list[Moment]:
    """Read back what :func:`save_moments` wrote, oldest first; an absent file is an empty list.

    Raises:
        ValueError: the file is damaged or of another version.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        return []
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["version"] != VERSION:
            raise ValueError(f"version {data['version']} instead of {VERSION}")
        moments = [
            Moment(**{**moment, "pictures": {label: Picture(**item) for label, item in moment["pictures"].items()}})
            for moment in data["moments"]
        ]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: not a readable manifest of a training page ({error})") from error
    if any(not is_inside(picture.path) for moment in moments for picture in moment.pictures.values()):
        raise ValueError(f"{path}: names a file outside its folder")
    return moments
