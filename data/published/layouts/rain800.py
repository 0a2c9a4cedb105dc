"""Rain800 (Zhang et al., ID-CGAN): ``rain/training/`` and ``rain/test_syn/`` with side-by-side JPEG files.

The left half is clean, the right half rainy: the authors train with which_direction=BtoA. ``test_nature/`` has no clean
side and is ignored. Repackagings with rainy and clean folders (``input|target`` and the like) are read as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from data.published.layouts.base import Expected, Layout, ReadText
from data.published.members import (
    Found,
    Key,
    Member,
    Pair,
    Phase,
    Picture,
    images,
    join,
    numbered,
    phase_of,
    plain,
    side_of,
)

PHASES: dict[str, Phase] = {"training": "train", "train": "train", "test_syn": "test", "test": "test"}
NATURE = "test_nature"


def _phase_of_file(member: Member) -> Phase | None:
    """The phase of a side-by-side file: it lies directly in the phase's folder."""
    parts = member.path.parts
    return PHASES.get(plain(parts[-2])) if len(parts) > 1 else None


def _rainy_key(stem: str) -> Key | None:
    return numbered(stem), ""


@dataclass(frozen=True)
class Rain800(Layout):
    """Recognized by its folder names."""

    title = "Rain800"
    rule_text = (
        "training scenes sorted by number take turns: 1st, 3rd, ... rainy side, 2nd, 4th, ... clean side; "
        "all test images; side-by-side files are cut in two and stored as PNG"
    )
    expected: Expected = field(default_factory=lambda: Expected(train=(700,), test=(100,)))
    rainy_half: Literal["left", "right"] = "right"

    def recognizes(self, members: Sequence[Member]) -> bool:
        """The folder ``test_syn``, or a folder that names the set."""
        folders = {plain(part) for member in images(members) for part in member.path.parts[:-1]}
        return "test_syn" in folders or any("rain800" in folder or "idcgan" in folder for folder in folders)

    def find(self, members: Sequence[Member], read_text: ReadText) -> Found:
        """Side-by-side files where there are any, else rainy and clean folders."""
        files = [member for member in images(members) if NATURE not in map(plain, member.path.parts)]
        found = Found()
        for member in files:
            if phase := _phase_of_file(member):
                (found.train if phase == "train" else found.test).append(self._halves(member))
        if not found.train and not found.test:
            found = join(
                [file for file in files if side_of(file.path)],
                rainy_key=_rainy_key,
                clean_key=numbered,
                phase=lambda member: phase_of(member.path),
            )
        self.expected.check(found)
        return found

    def _halves(self, member: Member) -> Pair:
        rainy, clean = Picture(member, "right"), Picture(member, "left")
        if self.rainy_half == "left":
            rainy, clean = clean, rainy
        key = numbered(member.stem)
        return Pair(key, rainy, clean, scene=key, clean_name=key, content=str(member))
