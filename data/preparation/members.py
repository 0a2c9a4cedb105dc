"""What a source holds and what is made of it: files, pictures and pairs. Plain values, without any reading."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal

from util.finding import same_name

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
