"""A dataset folder as training and test will see it: layout, broken files, sizes, pairs, and the same file twice."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from scripts._doctor.checks import OK, PROBLEM, WARNING, Check, Finding, examine
from scripts._doctor.run import Request
from util.text import first_names

if TYPE_CHECKING:
    from data.files import ImageFile
    from util.pictures import Size, UnreadablePicture

T = TypeVar("T")

FEW = 10  # images of a training folder
BLANK = 2.0  # standard deviation of gray levels, of 255, below which there is nothing to see
DECODING_SECONDS = 5.0
_named = partial(first_names, most=3, quote="")
HEAD_BYTES = 1 << 16


@dataclass(frozen=True)
class Survey:
    """What is there: the images of each folder, the sizes from their headers, and the headers that cannot be read."""

    root: Path
    folders: Mapping[str, Sequence[ImageFile]]
    sizes: Mapping[Path, Size]
    bad: Sequence[UnreadablePicture]

    def readable(self, folder: str) -> list[ImageFile]:
        """The images of a folder whose headers can be read."""
        return [file for file in self.folders.get(folder, ()) if file.path in self.sizes]


def check_dataset(request: Request) -> Iterator[Finding]:
    """All there is to say about the dataset of the command line or of the run; nothing where neither names one.

    Raises:
        UserError: there is no dataset in that folder; the message says what is there instead.
    """
    root = request.dataset()
    if root is None:
        return
    survey = survey_of(root)
    yield Finding(
        OK, "dataset", f"{root}: " + ", ".join(f"{name} {len(found)}" for name, found in survey.folders.items())
    )
    parts: tuple[tuple[str, Callable[[], Iterable[Finding]]], ...] = (
        ("images", partial(check_images, survey)),
        ("training images", lambda: check_training(survey, request.options())),
        ("test pairs", lambda: check_pairs_of(survey, "test", request.options().direction)),
        ("validation pairs", lambda: check_pairs_of(survey, request.options().val_phase, request.options().direction)),
        ("same files", partial(check_same_files, survey)),
    )
    for name, part in parts:
        yield from examine(Check(name, part), {})


def survey_of(root: Path) -> Survey:
    """Find the images, and read every header.

    Raises:
        UserError: no dataset there, a folder of it is empty, or cannot be listed.
    """
    from data.files import DOMAIN_FOLDERS, PHASES, existing_folder, find_images, missing_folder
    from util.pictures import UnreadablePicture, picture_size

    names = [name for name in sorted({*DOMAIN_FOLDERS, *PHASES}) if root.is_dir() and existing_folder(root, name)]
    folders = {name: find_images(root / name) for name in names}
    if not folders and root.is_dir() and (alone := find_images(root)):
        folders = {"images without layout (--dataset_mode single, or test.py --input)": alone}
    if not folders:
        raise missing_folder(root, "trainA")
    looked = _in_parallel(picture_size, [file.path for found in folders.values() for file in found])
    sizes = {path: size for path, size in looked.items() if not isinstance(size, UnreadablePicture)}
    return Survey(root, folders, sizes, [size for size in looked.values() if isinstance(size, UnreadablePicture)])


def _in_parallel(read: Callable[[Path], T], paths: Iterable[Path]) -> dict[Path, T | UnreadablePicture]:
    """What ``read`` gives for each path, or its complaint."""
    from util.pictures import UnreadablePicture

    def look(path: Path) -> T | UnreadablePicture:
        try:
            return read(path)
        except UnreadablePicture as error:
            return error

    ordered = sorted(set(paths))
    with ThreadPoolExecutor() as pool:
        return dict(zip(ordered, pool.map(look, ordered), strict=True))


def check_images(
    survey: Survey, budget: float = DECODING_SECONDS, clock: Callable[[], float] = time.monotonic
) -> Iterator[Finding]:
    """Decode images in random order until the time is over: which are broken, and which show nothing."""
    from util.pictures import UnreadablePicture

    paths = sorted(survey.sizes)
    random.Random(0).shuffle(paths)
    bad, blank, decoded, end = list(survey.bad), list[Path](), 0, clock() + budget
    step = 4 * (os.cpu_count() or 1)
    while decoded < len(paths) and (decoded == 0 or clock() < end):
        for path, spread in _in_parallel(_spread, paths[decoded : decoded + step]).items():
            if isinstance(spread, UnreadablePicture):
                bad.append(spread)
            elif spread < BLANK:
                blank.append(path)
        decoded = min(decoded + step, len(paths))
    if bad:
        named = _named(f"{error.path} ({error.reason})" for error in bad)
        found = f"{len(bad)} cannot be read: {named}"
        yield Finding(PROBLEM, "images", found, "repair or remove them, or pass --skip_bad")
    if blank:
        found = f"{len(blank)} show nothing, all pixels nearly alike: {_named(map(str, sorted(blank)))}"
        yield Finding(WARNING, "images", found, "look at them, and remove them if that is so")
    if not bad and not blank:
        every = "all" if decoded == len(paths) else f"a random {decoded:,} of"
        yield Finding(OK, "images", f"{every} {len(paths):,} decoded, the headers of all read")


def _spread(path: Path) -> float:
    """Standard deviation of an image's gray levels."""
    from PIL import ImageStat

    from util.pictures import read_eight_bit

    return float(ImageStat.Stat(read_eight_bit(path, 1)).stddev[0])


def check_training(survey: Survey, opt: Any) -> Iterator[Finding]:
    """Whether every training image can be cropped as the options say, and whether there are enough."""
    from data.files import DOMAINS, aligned_units, check_pairs, images_in
    from data.transforms import TrainingTransform
    from util.streams import UNPAIRED, folder_ends

    folders = [f"{opt.phase}{domain}" for domain in DOMAINS]
    aligned = opt.dataset_mode == "aligned"
    if not any(name in survey.folders for name in (*folders, *([opt.phase] if aligned else []))):
        found = f"there are none ({' and '.join(folders)}); enough to test, not to train"
        yield Finding(WARNING, "training images", found)
        return
    transform = TrainingTransform(preprocess=opt.preprocess, load_size=opt.load_size, crop_size=opt.crop_size)
    sizes = dict(survey.sizes)
    if aligned:
        units = [
            unit
            for unit in aligned_units(survey.root, opt.phase, folder_ends(UNPAIRED, opt.direction))
            if all(f.path in sizes for f in unit)
        ]
        check_pairs(units, sizes)
        domains = {"pairs": [source for source, _ in units]}
    else:
        domains = {name: [file for file in images_in(survey.root, name) if file.path in sizes] for name in folders}
    for name, files in domains.items():
        transform.check(files, sizes, batch_size=opt.batch_size)
        sides = [side for file in files for side in file.size(sizes[file.path])]
        if len(files) < FEW:
            yield Finding(WARNING, "training images", f"{name} has only {len(files)}", "add more; hundreds are usual")
        else:
            found = f"{name}: {len(files):,}, sides {min(sides)} to {max(sides)}, fit --preprocess {opt.preprocess}"
            yield Finding(OK, "training images", found)


def check_pairs_of(survey: Survey, phase: str, direction: str) -> Iterator[Finding]:
    """Whether images have their ground truth; nothing where the phase has no folders."""
    from data.files import DOMAINS, check_pairs, find_test_units

    if not any(f"{phase}{domain}" in survey.folders for domain in DOMAINS):
        return
    from util.metrics.ssim import SSIM_WINDOW
    from util.streams import UNPAIRED, source_and_target

    subject, sizes = f"{phase} pairs", dict(survey.sizes)
    ends = source_and_target(UNPAIRED, direction)
    units = find_test_units(dataroot=survey.root, phase=phase, ends=ends, eval_pairs="auto")
    units = [unit for unit in units if all(file.path in sizes for file in unit)]
    if all(len(unit) == 1 for unit in units):
        todo = "for numbers, put the same scenes without rain under the same names into the other domain's folder"
        yield Finding(OK, subject, f"{len(units):,} images without ground truth: pictures, but no numbers", todo)
        return
    check_pairs(units, sizes)
    small = [str(unit[0].path) for unit in units if min(sizes[unit[0].path]) < SSIM_WINDOW]
    if small:
        found = f"{len(small)} are below {SSIM_WINDOW} pixels a side, too small to measure: {_named(small)}"
        yield Finding(PROBLEM, subject, found, "leave them out, or test with --eval_pairs no")
    else:
        yield Finding(OK, subject, f"{len(units):,}, all of equal size")


def check_same_files(survey: Survey) -> Iterator[Finding]:
    """Files that lie, byte for byte, on both sides of the unpaired training sets, or in training and test."""
    shared: dict[tuple[str, str], list[str]] = {}
    for group in same_files(survey.folders):
        for first in sorted(group):
            for second in sorted(group):
                if first < second:
                    shared.setdefault((first, second), []).append(f"{group[first]} = {group[second]}")
    for (first, second), names in shared.items():
        found = f"{len(names)} in {first} and in {second}: {_named(names)}"
        yield Finding(WARNING, "same files", found, _leak(first, second))
    if not shared and len(survey.folders) > 1:
        yield Finding(OK, "same files", "no file lies in two of the folders")


def _leak(first: str, second: str) -> str:
    if first[:-1] == second[:-1]:
        return "remove them from one: a picture cannot be both the rainy one and the clean one"
    return "remove them from one: results on pictures that were trained or chosen on say nothing"


def same_files(folders: Mapping[str, Sequence[ImageFile]]) -> list[dict[str, str]]:
    """Groups of equal files that lie in more than one folder: folder -> name of the first such file there.

    Files are told apart by size, then by their beginnings, and only then by all of their content.
    """
    groups = [[(folder, file) for folder, files in folders.items() for file in files if file.path.is_file()]]
    for key in (_size, partial(_digest, HEAD_BYTES), partial(_digest, None)):
        groups = [part for group in groups for part in _split(group, key) if len({folder for folder, _ in part}) > 1]
    return [{folder: file.name for folder, file in reversed(group)} for group in groups]


def _split(
    group: Sequence[tuple[str, ImageFile]], key: Callable[[Path], object]
) -> Iterable[list[tuple[str, ImageFile]]]:
    parts: dict[object, list[tuple[str, ImageFile]]] = {}
    for folder, file in group:
        parts.setdefault(key(file.path), []).append((folder, file))
    return parts.values()


def _size(path: Path) -> int:
    return path.stat().st_size


def _digest(length: int | None, path: Path) -> bytes:
    """Of the first ``length`` bytes of a file, or of all."""
    with path.open("rb") as file:
        if length is not None:
            return hashlib.blake2b(file.read(length)).digest()
        digest = hashlib.blake2b()
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.digest()
