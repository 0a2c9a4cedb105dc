"""What a source holds and what is made of it: files, pictures and pairs, and what their names say.

The deraining sets have been repackaged many times, under many names. Plain values, without any reading.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal

from util.finding import IMAGE_SUFFIXES, same_name
from util.text import first_names

Half = Literal["whole", "left", "right"]
Side = Literal["rainy", "clean"]
Phase = Literal["train", "test"]


@dataclass(frozen=True)
class Member:
    """One file of a source: ``source`` is the source's position, ``label`` its name, ``name`` the path inside it.

    ``name`` is as it is stored; what a layout looks at is in composed Unicode, so that names compare.
    """

    source: int
    label: str
    name: str
    size: int

    @property
    def path(self) -> PurePosixPath:
        """The path with the source's name in front, as a layout looks at it."""
        return PurePosixPath(self.label, same_name(self.name))

    @property
    def file(self) -> str:
        """File name without folders. (Sets have up to 1.3 million files: plain strings, as paths are slow.)"""
        return same_name(self.name.rsplit("/", 1)[-1])

    @property
    def folders(self) -> list[str]:
        """The source's name and the folders that lead to the file."""
        return [self.label, *same_name(self.name).split("/")[:-1]]

    @property
    def stem(self) -> str:
        """File name without extension."""
        file = self.file
        dot = file.rfind(".")
        return file[:dot] if dot > 0 else file

    @property
    def suffix(self) -> str:
        """Extension in lower case, with its dot."""
        return self.file[len(self.stem) :].lower()

    def __str__(self) -> str:
        """The path for messages."""
        return f"{self.label}/{self.name}"


@dataclass(frozen=True)
class Picture:
    """A whole image file, or one half of a side-by-side file."""

    member: Member
    half: Half = "whole"

    @property
    def suffix(self) -> str:
        """Extension of the file that is written; a half is cut out and stored without loss."""
        return self.member.suffix if self.half == "whole" else ".png"


@dataclass(frozen=True)
class Pair:
    """A rainy image and its clean target.

    ``name`` becomes the file name of both sides where they stay a pair, ``clean_name`` that of the clean side alone.
    Pairs of one ``scene`` are never torn apart by a split. Clean images with the same ``content`` count as one.
    """

    name: str
    rainy: Picture
    clean: Picture
    scene: str
    clean_name: str
    content: str


@dataclass
class Found:
    """The pairs of a source, and what is wrong with it as one phrase each."""

    train: list[Pair] = field(default_factory=list)
    test: list[Pair] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def pairs(self) -> Iterator[Pair]:
        """All pairs, those of the training set first."""
        yield from self.train
        yield from self.test


RAINY_FOLDERS = frozenset({"rain", "rainy", "rainy_image", "rainy_images", "input", "inputs", "x2"})
CLEAN_FOLDERS = frozenset(
    {"norain", "no_rain", "clean", "gt", "ground_truth", "groundtruth", "target", "targets", "label"}
)
LISTED = 3  # how many names a message lists

Key = tuple[str, str]
"""Which scene a file shows, and (rainy files) which version of it."""


def images(members: Iterable[Member]) -> list[Member]:
    """Those that are images by their extension."""
    return [member for member in members if member.suffix in IMAGE_SUFFIXES]


def plain(part: str) -> str:
    """A folder name in lower case with underscores."""
    return re.sub(r"[\s-]+", "_", part.lower())


def side_of(path: PurePosixPath) -> Side | None:
    """Rainy or clean, by the innermost folder that says so, else by the file name's prefix."""
    for part in reversed(path.parts[:-1]):
        if plain(part) in RAINY_FOLDERS:
            return "rainy"
        if plain(part) in CLEAN_FOLDERS:
            return "clean"
    prefix = re.match(r"(no)?rain-\d", path.name.lower())
    return None if prefix is None else "clean" if prefix[1] else "rainy"


def phase_of(path: PurePosixPath) -> Phase | None:
    """Training or test set, by the innermost folder that says so."""
    for part in reversed(path.parts[:-1]):
        found = re.search(r"train|test", part.lower())
        if found:
            return "train" if found[0] == "train" else "test"
    return None


def numbered(text: str) -> str:
    """Numbers with leading zeros, so that text order is number order."""
    return f"{int(text):04d}" if text.isdecimal() else text


def some(names: Iterable[str]) -> str:
    """The first few names for a message, and how many more there are."""
    return first_names(sorted(names), LISTED)


def join(
    members: Iterable[Member],
    *,
    rainy_key: Callable[[str], Key | None],
    clean_key: Callable[[str], str | None],
    phase: Callable[[Member], Phase | None],
) -> Found:
    """Pair rainy and clean files by key within each phase; what has no partner or comes twice is a problem.

    ``rainy_key`` and ``clean_key`` take a stem and return the key, or None for files to ignore.
    """
    found = Found()
    for name in ("train", "test"):
        rainy: dict[Key, Member] = {}
        clean: dict[Key, Member] = {}
        for member in members:
            if phase(member) != name:
                continue
            side = side_of(member.path)
            key = rainy_key(member.stem) if side == "rainy" else None
            if side == "clean" and (text := clean_key(member.stem)) is not None:
                key = (text, "")
            if side is None or key is None:
                continue
            known = rainy if side == "rainy" else clean
            if key in known:
                found.problems.append(f"'{known[key]}' and '{member}' are the same {side} image of the {name} set")
            known[key] = member
        pairs = found.train if name == "train" else found.test
        pairs += [_pair(key, file, clean[key[0], ""]) for key, file in rainy.items() if (key[0], "") in clean]
        _report_lonely(found, name, rainy, clean)
    return found


def _report_lonely(found: Found, phase: str, rainy: dict[Key, Member], clean: dict[Key, Member]) -> None:
    scenes = {scene for scene, _ in rainy}
    sides = (
        ("rainy image(s) have no clean one", [str(file) for key, file in rainy.items() if (key[0], "") not in clean]),
        ("clean image(s) have no rainy one", [str(file) for key, file in clean.items() if key[0] not in scenes]),
    )
    found.problems += [f"{len(names)} {phase} {what} ({some(names)})" for what, names in sides if names]


def _pair(key: Key, rainy: Member, clean: Member) -> Pair:
    scene, version = key
    return Pair(
        name=scene + (f"_{version}" if version else ""),
        rainy=Picture(rainy),
        clean=Picture(clean),
        scene=scene,
        clean_name=scene,
        content=str(clean),
    )
