"""A user's own pairs: a folder (or archive) with a rainy and a clean folder, each optionally below train and test."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from data.published.layouts.base import Layout, ReadText
from data.published.members import (
    CLEAN_FOLDERS,
    RAINY_FOLDERS,
    Found,
    Member,
    Pair,
    Phase,
    Picture,
    Side,
    images,
    phase_of,
    plain,
    side_of,
    some,
)
from data.published.splitting import Share, evenly_spaced

DEFAULT_TEST = Share(0.1)
PHASE_FOLDER = re.compile(r"(?i)(train|test)(ing)?")
SIDE_OF_SOURCE: dict[int, Side] = {0: "rainy", 1: "clean"}


@dataclass(frozen=True)
class FolderPairs(Layout):
    """Pairs have equal names, or names that are equal without their endings.

    Where no folder is named for its side, the first source is rainy and the second clean. ``rainy_suffix`` and
    ``clean_suffix`` end the stems; ``*`` in them stands for any text, so ``_*`` takes ``street_1`` and ``street_2`` as
    two versions of ``street``. ``test`` is the share of scenes for the test set where the folders do not say.
    """

    title = "folder-pairs"
    rule_text = (
        "scenes sorted by name; where no folder says train or test, evenly spaced ones are the test set; of the rest "
        "1st, 3rd, ... rainy side, 2nd, 4th, ... clean side"
    )
    compare_content = True
    rainy_suffix: str = ""
    clean_suffix: str = ""
    test: Share = DEFAULT_TEST

    def recognizes(self, members: Sequence[Member]) -> bool:
        """Both a rainy and a clean folder."""
        sides = {side_of(member.path) for member in images(members)}
        return {"rainy", "clean"} <= sides

    def find(self, members: Sequence[Member], read_text: ReadText) -> Found:
        """Pair by relative path without the endings."""
        found = Found()
        by_side: dict[str | None, list[Member]] = {}
        files = images(members)
        named = any(side_of(member.path) for member in files)
        for member in files:
            side = side_of(member.path) if named else SIDE_OF_SOURCE.get(member.source)
            by_side.setdefault(side, []).append(member)
        clean = {_stripped(_key(m), self.clean_suffix): m for m in by_side.get("clean", [])}
        used, lonely = set(), []
        pairs: list[tuple[Phase | None, Pair]] = []
        for member in by_side.get("rainy", []):
            key = self._clean_key(_key(member), clean)
            if key is None:
                lonely.append(str(member))
                continue
            used.add(key)
            pairs.append((phase_of(member.path), _pair(member, clean[key], key)))
        if lonely:
            found.problems.append(f"{len(lonely)} rainy image(s) have no clean one ({some(lonely)})")
        if unused := [str(member) for key, member in clean.items() if key not in used]:
            found.problems.append(f"{len(unused)} clean image(s) have no rainy one ({some(unused)})")
        found.test = [pair for phase, pair in pairs if phase == "test"]
        found.train = [pair for phase, pair in pairs if phase != "test"]
        if not found.test:
            self._divide(found)
        return found

    def _clean_key(self, stem: str, clean: dict[str, Member]) -> str | None:
        """The longest clean key that, with the ending, gives the rainy one."""
        for length in range(len(stem), 0, -1):
            if stem[:length] in clean and fnmatchcase(stem[length:], self.rainy_suffix):
                return stem[:length]
        return None

    def _divide(self, found: Found) -> None:
        scenes = sorted({pair.scene for pair in found.train})
        chosen = set(evenly_spaced(scenes, min(len(scenes), self.test.of(len(scenes)))))
        found.test = [pair for pair in found.train if pair.scene in chosen]
        found.train = [pair for pair in found.train if pair.scene not in chosen]


def _key(member: Member) -> str:
    """Relative path without extension and without the folders that tell the side."""
    sides = RAINY_FOLDERS | CLEAN_FOLDERS
    return "/".join([*(part for part in member.folders[1:] if plain(part) not in sides), member.stem])


def _stripped(stem: str, suffix: str) -> str:
    """``stem`` without the shortest ending that matches ``suffix``."""
    for length in range(len(stem), 0, -1):
        if fnmatchcase(stem[length:], suffix):
            return stem[:length]
    return stem


def _pair(rainy: Member, clean: Member, key: str) -> Pair:
    return Pair(_flat(_key(rainy)), Picture(rainy), Picture(clean), key, _flat(key), str(clean))


def _flat(key: str) -> str:
    """A file name without folders; those that only tell the phase are left out."""
    *folders, name = key.split("/")
    return "_".join([*(part for part in folders if not PHASE_FOLDER.fullmatch(part)), name])
