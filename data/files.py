"""The files of a data set: finding them, pairing them by name, and looking at each before any work is done."""

from __future__ import annotations

import logging
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple, overload

import numpy as np

from util.errors import UserError
from util.finding import IMAGE_SUFFIXES, find_files, same_name
from util.pictures import Size, UnreadablePicture, picture_size, read_eight_bit
from util.text import did_you_mean, first_names

logger = logging.getLogger(__name__)

PHASES = ("train", "test", "val")
DOMAINS = ("A", "B")
DOMAIN_FOLDERS = frozenset(phase + domain for phase in PHASES for domain in DOMAINS)
FOLDER_NAME = re.compile(r"\w[\w .-]*")  # no separators, no drive letters, nothing that starts with a dot

# From so many files on, a look at them says how many they are; then how far it is, after so many seconds again.
MANY, PAUSE = 5000, 4.0
AT_ONCE = 256


Part = Literal["whole", "left", "right"]
"""Of a file: all of it, or one half of two images side by side."""


@dataclass(frozen=True)
class ImageFile:
    """A file of a dataset, or one half of it.

    ``name`` is the path relative to the folder that was searched, with forward slashes. ``part`` tells
    apart the two images of a side-by-side file.
    """

    path: Path
    name: str
    part: Part = "whole"

    def size(self, file_size: Size) -> Size:
        """Size of this image in a file of ``file_size``."""
        width, height = file_size
        return (width, height) if self.part == "whole" else (width // 2, height)


Unit = tuple[ImageFile, ...]
"""One image, or images of one scene, such as a pair (source, target)."""


class PackedPaths(Sequence[Path]):
    """Many paths in one block of memory: worker processes share it, as reading it counts no references."""

    def __init__(self, paths: Iterable[Path]) -> None:
        names = [os.fsencode(path) for path in paths]
        self._names = b"".join(names)
        self._ends = np.cumsum([0, *map(len, names)])

    def __len__(self) -> int:
        """Number of paths."""
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> Path: ...

    @overload
    def __getitem__(self, index: slice) -> list[Path]: ...

    def __getitem__(self, index: int | slice) -> Path | list[Path]:
        """One path, or several."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        return Path(os.fsdecode(self._names[self._ends[number] : self._ends[number + 1]]))


class UnfitPairs(UserError):
    """Images that should be pairs and do not go together; ``complaint`` says why, without what to do about it."""

    def __init__(self, complaint: str, way_out: str, *, flag: str = "") -> None:
        super().__init__(f"{flag}{complaint}; {way_out}.")
        self.complaint = complaint


def find_images(folder: Path) -> list[ImageFile]:
    """All images below ``folder``, sorted by relative path; see :func:`util.finding.find_files`."""
    return [ImageFile(path, name) for name, path in find_files(folder).items()]


def has_layout(dataroot: Path) -> bool:
    """Whether ``dataroot`` holds any of trainA, trainB, testA, …"""
    return any((dataroot / name).is_dir() for name in DOMAIN_FOLDERS)


def existing_folder(dataroot: Path, name: str) -> Path | None:
    """``dataroot/name`` where it is a folder, else None.

    Raises:
        UserError: ``name`` is no plain folder name, so it could lead out of ``dataroot``.
    """
    if not FOLDER_NAME.fullmatch(name):
        raise UserError(f"--phase: '{name}' is no folder name; give a word such as train, val or test.")
    folder = dataroot / name
    return folder if folder.is_dir() else None


def images_in(dataroot: Path, name: str) -> list[ImageFile]:
    """All images of the folder ``dataroot/name``; at least one.

    Raises:
        UserError: the folder is missing or has no image; the message says what is there instead.
    """
    folder = existing_folder(dataroot, name)
    if folder is None:
        raise missing_folder(dataroot, name)
    return require_images(folder, find_images(folder))


def require_images(folder: Path, images: list[ImageFile]) -> list[ImageFile]:
    """``images`` itself, or a :class:`UserError` that says what ``folder`` holds instead."""
    if not images:
        known = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
        instead = f" but {_listing(folder)}" if _visible(folder) else ""
        raise UserError(f"'{folder}' holds no image{instead}; images are files that end in {known}.")
    return images


def missing_folder(dataroot: Path, name: str, *, alternative: str = "") -> UserError:
    """The error for a missing ``dataroot/name`` (and ``alternative``), with the likeliest mistake behind it.

    ``name`` is a phase and a domain, such as ``trainA``.
    """
    flag = f"--dataroot {dataroot}"
    if dataroot.is_file():
        return UserError(f"{flag} is a file; give the folder that contains '{name}'.")
    if not dataroot.is_dir():
        parent = dataroot.absolute().parent
        siblings = [entry.name for entry in parent.iterdir() if entry.is_dir()] if parent.is_dir() else []
        return UserError(
            f"{flag}: there is no such folder{did_you_mean(dataroot.name, siblings)}; "
            f"give the folder that contains '{name}'."
        )
    if dataroot.absolute().name in DOMAIN_FOLDERS:
        return UserError(f"{flag} is one domain's folder; give the folder above it, '{dataroot.absolute().parent}'.")
    folders = sorted(entry.name for entry in dataroot.iterdir() if entry.is_dir())
    nested = next((entry for entry in folders if (dataroot / entry / name).is_dir()), None)
    if nested is not None:
        return UserError(f"{flag} has no folder '{name}', but its sub-folder does; give '{dataroot / nested}'.")
    suggestion = did_you_mean(name, [entry for entry in folders if entry not in DOMAIN_FOLDERS])
    nor = f" (nor '{alternative}')" if alternative else ""
    return UserError(
        f"{flag} has no folder '{name}'{nor}{suggestion} but holds {_listing(dataroot)}; {_way_out(dataroot, name)}."
    )


def _way_out(dataroot: Path, name: str) -> str:
    """What to do about a missing folder ``name``, judged by what lies around it."""
    phase, domain = name[:-1], name[-1]
    if (dataroot / phase).is_dir():
        return f"for side-by-side pairs in '{phase}' use --dataset_mode aligned"
    other = next((other for other in PHASES if (dataroot / f"{other}{domain}").is_dir()), None)
    if other:
        return f"create it, or choose another --phase, for example '{other}'"
    if any(entry.suffix.lower() in IMAGE_SUFFIXES for entry in dataroot.iterdir()):
        return f"move images into it, or use --dataset_mode single for those in '{dataroot}'"
    return "create it"


def _visible(folder: Path) -> list[str]:
    """Names of the entries of ``folder``, without hidden ones, sorted."""
    return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))


def _listing(folder: Path) -> str:
    """The first entries of ``folder`` in words."""
    return first_names(_visible(folder)) or "nothing at all"


class Matching(NamedTuple):
    """Two sets of images, matched by name."""

    pairs: list[tuple[ImageFile, ImageFile]]
    only_first: list[str]
    only_second: list[str]

    @property
    def complete(self) -> bool:
        """Whether every image has its partner."""
        return bool(self.pairs) and not self.only_first and not self.only_second

    def complaint(self, first: str, second: str) -> str:
        """What does not match, with counts and the first names; ``first`` and ``second`` name the folders."""
        lonely = " and ".join(
            f"{len(names)} in {folder} (first '{names[0]}')"
            for names, folder in ((self.only_first, first), (self.only_second, second))
            if names
        )
        return f"matching file names: {len(self.pairs)}, without a partner: {lonely}"


def match(first: Sequence[ImageFile], second: Sequence[ImageFile]) -> Matching:
    """Pair images with the same relative path without extension, case-sensitively, in the order of ``first``.

    Names are compared in composed Unicode. Where a folder has two files that differ in nothing but the extension,
    extensions count as well; where it has two that differ in nothing but the Unicode form, that does.
    """
    keys: tuple[Callable[[ImageFile], str], ...] = (
        lambda file: same_name(stem(file)),
        lambda file: same_name(file.name),
        lambda file: file.name,
    )
    key = next((key for key in keys if all(len(set(map(key, f))) == len(f) for f in (first, second))), keys[-1])
    ours, theirs = ({key(file): file for file in files} for files in (first, second))
    return Matching(
        pairs=[(file, theirs[name]) for name, file in ours.items() if name in theirs],
        only_first=[file.name for name, file in ours.items() if name not in theirs],
        only_second=[file.name for name, file in theirs.items() if name not in ours],
    )


def check_pairs(units: Sequence[Unit], sizes: dict[Path, Size]) -> None:
    """Check that the images of each unit have the same size; single images pass.

    Raises:
        UserError: names two files with their sizes, or a side-by-side file of odd width.
    """
    for unit in units:
        for file in unit:
            if file.part != "whole" and sizes[file.path][0] % 2:
                raise UserError(
                    f"'{file.path}' is {_pixels(sizes[file.path])} and has no two equal halves; "
                    "a side-by-side image must have an even width."
                )
        described = [f"'{file.path}' ({_pixels(file.size(sizes[file.path]))})" for file in unit]
        other = next(
            (k for k, f in enumerate(unit) if f.size(sizes[f.path]) != unit[0].size(sizes[unit[0].path])), None
        )
        if other is not None:
            raise UnfitPairs(
                f"{described[0]} and {described[other]} are a pair but differ in size",
                "make them equal, or use --eval_pairs no in a test and --dataset_mode unaligned in training",
            )


def _pixels(size: Size) -> str:
    return f"{size[0]}×{size[1]}"


def matched_units(
    dataroot: Path, phase: str, ends: Sequence[str], *, flag: str = "", advice: str = "they belong together"
) -> list[Unit]:
    """The images of the folders ``<phase><end>``, one of each folder in a unit, matched by name; at least one unit.

    Raises:
        UserError: a folder is missing or has no image, or names that do not match.
    """
    first, *others = folders = [f"{phase}{end}" for end in ends]
    images = {folder: images_in(dataroot, folder) for folder in folders}
    units: list[Unit] = [(file,) for file in images[first]]
    for other in others:
        matching = match(images[first], images[other])
        if not matching.complete:
            raise UserError(f"{flag}{matching.complaint(first, other)}; fix the names, {advice}.")
        partners = dict(matching.pairs)
        units = [(*unit, partners[unit[0]]) for unit in units]
    return units


def aligned_units(dataroot: Path, phase: str, ends: Sequence[str]) -> list[Unit]:
    """All images of the same scenes, in either layout: side by side in ``<phase>``, or in one folder each.

    Raises:
        UserError: no such folders, no images, or names that do not match.
    """
    together = existing_folder(dataroot, phase)
    if together is not None and len(ends) == 2:
        files = require_images(together, find_images(together))
        halves = [(replace(file, part="left"), replace(file, part="right")) for file in files]
        return [(right, left) if tuple(ends) == ("B", "A") else (left, right) for left, right in halves]
    if not any(existing_folder(dataroot, f"{phase}{end}") for end in ends):
        raise missing_folder(dataroot, f"{phase}{ends[0]}", alternative=phase)
    advice = "or use --dataset_mode unaligned for images that are no pairs"
    return matched_units(dataroot, phase, ends, flag="--dataset_mode aligned: ", advice=advice)


def single_images(dataroot: Path, phase: str, end: str) -> list[ImageFile]:
    """The images of ``<phase><end>``, or of a data set that is a plain folder of images; at least one.

    Raises:
        UserError: no such folder, or no image in it.
    """
    if existing_folder(dataroot, f"{phase}{end}") or has_layout(dataroot):
        return images_in(dataroot, f"{phase}{end}")
    if not dataroot.is_dir():
        raise missing_folder(dataroot, f"{phase}{end}")
    return require_images(dataroot, find_images(dataroot))


def find_test_units(*, dataroot: Path, phase: str, ends: tuple[str, str], eval_pairs: str) -> list[Unit]:
    """The test images of source and target: pairs where the names say so, else the source alone.

    ``ends`` follow the phase in the names of their folders.

    ``eval_pairs``: ``no`` never pairs; ``yes`` demands that all names match; ``auto`` pairs when all match
    and does not when there is no target folder or no name in common.

    Raises:
        UserError: no source images; only some names match; ``yes`` and the names do not match.
    """
    source, target = (f"{phase}{end}" for end in ends)
    images = images_in(dataroot, source)
    alone: list[Unit] = [(file,) for file in images]
    if eval_pairs == "no":
        return alone
    folder = existing_folder(dataroot, target)
    if folder is None and eval_pairs == "yes":
        raise missing_folder(dataroot, target)
    matching = match(images, find_images(folder) if folder else [])
    if matching.complete:
        return list(matching.pairs)
    if not matching.pairs and eval_pairs == "auto":
        if matching.only_second and folder:
            logger.warning(
                "%s and %s have no file name in common ('%s', '%s'), so nothing is measured; give the two images of a "
                "pair one name, or measure the results with scripts/evaluate.py --gt %s --pattern.",
                *(source, target, matching.only_first[0], matching.only_second[0], folder),
            )
        return alone
    raise UnfitPairs(
        matching.complaint(source, target),
        "fix the names, or pass --eval_pairs no to test without ground truth",
        flag=f"--eval_pairs {eval_pairs}: ",
    )


def stem(file: ImageFile) -> str:
    """Relative path without extension, with forward slashes."""
    return PurePosixPath(file.name).with_suffix("").as_posix()


def output_names(files: Sequence[ImageFile]) -> list[str]:
    """A unique relative name for the result of each file: its path without extension.

    Files whose names would collide, also on a file system that ignores case or Unicode forms, keep their extension
    (``a.jpg`` and ``a.png``). Names never contain ``..``, so they stay below the folder they are used in.
    """
    names = [stem(file) for file in files]
    while True:
        count = Counter(_as_one(name) for name in names)
        fuller = [f.name if count[_as_one(name)] > 1 else name for f, name in zip(files, names, strict=True)]
        if fuller == names:
            break
        names = fuller
    seen: Counter[str] = Counter()
    for index, name in enumerate(names):  # the same name in two forms, or in two cases
        seen[_as_one(name)] += 1
        if (number := seen[_as_one(name)]) > 1:
            names[index] = f"{name}~{number}"
    return names


def _as_one(name: str) -> str:
    """What some file system takes for the same name."""
    return same_name(name).casefold()


class UnreadableImage(UnreadablePicture):
    """An image of a folder that cannot be read. ``others`` counts further such files not named here."""

    def __init__(self, path: Path, reason: str, others: int = 0, *, in_file: bool = True) -> None:
        """``reason`` says in a few words what is wrong with the file, or without ``in_file`` with the drive."""
        super().__init__(path, reason, others, in_file=in_file)
        self.others = others

    @classmethod
    def of(cls, error: UnreadablePicture) -> UnreadableImage:
        """The error where ``--skip_bad`` may leave the file out."""
        return cls(error.path, error.reason, in_file=error.in_file)

    def __str__(self) -> str:
        """The sentence for the user."""
        others = f", and so it is with {self.others} more" if self.others else ""
        advice = self.advice("repair or remove what is broken")
        ways_out = f"{advice}, or pass" if advice else "; pass"
        return f"'{self.path}' cannot be read as an image ({self.reason}){others}{ways_out} --skip_bad to leave it out."


class Checked(NamedTuple):
    """What is left after a look at every file."""

    units: list[tuple[ImageFile, ...]]
    sizes: dict[Path, Size]
    skipped: list[UnreadableImage]


def check_readable(units: Sequence[tuple[ImageFile, ...]], *, skip_bad: bool, decode: bool = False) -> Checked:
    """Open every file of ``units`` in parallel: the header only, or with ``decode`` every pixel.

    A unit is what stands or falls together: one image, or a pair. Files that cannot be read are an error;
    with ``skip_bad`` their units are left out and each file is named in a logged warning.

    Raises:
        UnreadableImage: without ``skip_bad``, names the first unreadable file and counts the others.
        UserError: with ``skip_bad``, if nothing is left.
    """
    found = _inspect({file.path for unit in units for file in unit}, decode)
    sizes = {path: result for path, result in found.items() if not isinstance(result, UnreadableImage)}
    bad = [result for result in found.values() if isinstance(result, UnreadableImage)]
    if bad and not skip_bad:
        raise UnreadableImage(bad[0].path, bad[0].reason, len(bad) - 1, in_file=bad[0].in_file)
    for error in bad:
        logger.warning("--skip_bad leaves out '%s' (%s)", error.path, error.reason)
    kept = [unit for unit in units if all(file.path in sizes for file in unit)]
    if bad and not kept:
        raise UserError(f"--skip_bad: nothing is left, for example '{bad[0].path}' cannot be read ({bad[0].reason}).")
    return Checked(kept, sizes, bad)


def _inspect(paths: Iterable[Path], decode: bool) -> dict[Path, Size | UnreadableImage]:
    """Upright size of each file, or what is wrong with it, in sorted order."""

    def look(path: Path) -> Size | UnreadableImage:
        try:
            return read_eight_bit(path).size if decode else picture_size(path)
        except UnreadablePicture as error:
            return UnreadableImage.of(error)

    ordered = sorted(paths, key=str)
    found: dict[Path, Size | UnreadableImage] = {}
    if len(ordered) > MANY:
        logger.info("looking at %s files", f"{len(ordered):,}")
    due = time.monotonic() + PAUSE
    # Decoding is bound by the cores and its images by memory; headers wait for the disk, so more threads help.
    with ThreadPoolExecutor(max_workers=os.cpu_count() if decode else None) as pool:
        for start in range(0, len(ordered), AT_ONCE):
            some = ordered[start : start + AT_ONCE]
            found.update(zip(some, pool.map(look, some), strict=True))
            if time.monotonic() > due and len(found) < len(ordered):
                logger.info("looked at %s of %s files", f"{len(found):,}", f"{len(ordered):,}")
                due = time.monotonic() + PAUSE
    return found
