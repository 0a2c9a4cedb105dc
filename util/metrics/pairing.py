"""Which image belongs to which ground truth, with nothing dropped in silence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from util.errors import UserError
from util.files import real_path
from util.finding import find_files, same_name
from util.metrics.evaluate import Item
from util.pages.labels import INPUT, OUTPUT, TARGET
from util.text import first_names

IMAGES = "images"
"""Where ``test.py`` puts its pictures: ``<results>/images/fake_B/…``."""

INPUT_LABEL, GROUND_TRUTH, RESULTS = "rainy input", "ground truth", "all results"
RAINCITYSCAPES_SUFFIXES = ("_rain_alpha_*", "_leftImg8bit")
"""``<scene>_rain_alpha_…_pattern_<n>`` and ``<scene>_leftImg8bit``: 36 rainy versions of each clean scene."""

WAY_OUT = "complete the folders, or pass --allow_missing to leave such images out, which the files will say"

Images = Mapping[str, Path]


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


@dataclass(frozen=True)
class NameRule:
    """``key`` maps a relative name without extension to what pairs; ``description`` says how."""

    description: str
    key: Callable[[str], str]


def same_names() -> NameRule:
    """Equal relative paths without extension."""
    return NameRule("equal relative paths without extension", lambda name: name)


def without_suffixes(suffixes: Sequence[str]) -> NameRule:
    """Names from whose end one of ``suffixes`` is taken off, where ``*`` stands for anything within the file's name.

    Raises:
        UserError: an empty suffix, or one that begins with ``*``.
    """
    if not all(suffix.strip("*") and not suffix.startswith("*") for suffix in suffixes):
        raise UserError("--strip_suffix: is empty or begins with *, which leaves nothing; give the end of the names.")
    endings = [re.compile("[^/]*".join(map(re.escape, suffix.split("*"))) + "$") for suffix in suffixes]

    def key(name: str) -> str:
        for ending in endings:
            found = ending.search(name)
            if found and found.start() > name.rfind("/") + 1:
                return name[: found.start()]
        return name

    return NameRule(f"relative paths without extension and without {' or '.join(map(repr, suffixes))} at the end", key)


def by_pattern(pattern: str) -> NameRule:
    """What the first group that takes part in the match of ``pattern`` holds, or the whole match without groups.

    The pattern is searched for in relative names without extension, on all sides; names without a match are errors.

    Raises:
        UserError: not a regular expression.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--pattern {pattern}: is no regular expression ({error}); correct it.") from error

    def key(name: str) -> str:
        found = expression.search(name)
        if found is None:
            raise UserError(f"--pattern {pattern}: does not match the name '{name}'; widen it.")
        return next((group for group in found.groups() if group is not None), found.group())

    return NameRule(f"what the pattern {pattern!r} finds in relative paths without extension", key)


@dataclass(frozen=True)
class Pairing:
    """The scenes to score, the ``labels`` of their images, and how they were found.

    ``folders`` says by label where the images lie; ``images_per_target`` is the smallest and the largest number of
    scenes that share a ground truth; ``unused_targets`` counts those that no scene needs. ``left_out`` lists by label
    the names that a folder lacks, because of which ``--allow_missing`` left them out of all.
    """

    items: tuple[Item, ...]
    labels: tuple[str, ...]
    rule: str
    folders: Mapping[str, str]
    left_out: Mapping[str, tuple[str, ...]]
    images_per_target: tuple[int, int] | None = None
    unused_targets: int = 0


def default_rule(protocol: str, results: Sequence[Folder], target: Folder | None) -> NameRule:
    """Equal names; under RainCityscapes' own protocol its many-to-one names, unless some name is equal as it is."""
    if (
        protocol != "raincityscapes"
        or target is None
        or any(folder.images.keys() & target.images for folder in results)
    ):
        return same_names()
    return without_suffixes(RAINCITYSCAPES_SUFFIXES)


def pair(
    folders: Sequence[Folder],
    target: Folder | None,
    rule: NameRule,
    *,
    inputs_given: bool = False,
    allow_missing: bool = False,
) -> Pairing:
    """Match the images of all ``folders`` with one another and with their ground truth.

    Images that keep different names after ``rule`` pair one to one; where several share one (the rainy versions of
    a clean scene), their full names tell them apart. With ``allow_missing`` only scenes that every folder has count.
    With ``inputs_given``, ground truth that no rainy version of a scene needs is no error, only counted: the inputs
    say what belongs to the test, and the clean folder of RainCityscapes serves the training too.

    Raises:
        UserError: an image without partner, named; or two ground truths for one image.
    """
    one_to_one = all(len(set(map(rule.key, folder.images))) == len(folder.images) for folder in folders)
    images = [_renamed(folder, rule.key) if one_to_one else dict(folder.images) for folder in folders]
    names, left_out = _in_every(folders, images, allow_missing=allow_missing)
    labels, where = tuple(folder.label for folder in folders), {folder.label: str(folder.path) for folder in folders}
    if target is None:
        items = [Item(name, None, _images_of(name, labels, images)) for name in names]
        return Pairing(_some(items, folders), labels, rule.description, where, left_out)
    key: Callable[[str], str] = (lambda name: name) if one_to_one else rule.key
    targets = _renamed(target, rule.key)
    orphans = tuple(name for name in names if key(name) not in targets)
    counts = Counter(key(name) for name in names if key(name) in targets)
    unused = tuple(sorted(targets.keys() - counts.keys()))
    inputs_decide = inputs_given and not one_to_one
    if (orphans or (unused and not inputs_decide)) and not allow_missing:
        raise _without_partner(folders[-1], target, orphans, unused, matching=sum(counts.values()))
    left_out |= {GROUND_TRUTH: orphans} if orphans else {}
    left_out |= {RESULTS: unused} if unused and not inputs_decide else {}
    own = {rule.key(name): name for name in folders[-1].images} if one_to_one else {}
    items = [
        Item(own.get(name, name), targets[key(name)], _images_of(name, labels, images))
        for name in names
        if name not in orphans
    ]
    return Pairing(
        items=_some(items, folders),
        labels=labels,
        rule=rule.description,
        folders={GROUND_TRUTH: str(target.path), **where},
        left_out=left_out,
        images_per_target=(min(counts.values()), max(counts.values())),
        unused_targets=len(unused),
    )


def _in_every(
    folders: Sequence[Folder], images: Sequence[Images], *, allow_missing: bool
) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """The names that all folders have, and by label those that a folder lacks."""
    everything = set().union(*images)
    lacking = {
        folder.label: tuple(sorted(everything - has.keys())) for folder, has in zip(folders, images, strict=True)
    }
    left_out = {label: missing for label, missing in lacking.items() if missing}
    if left_out and not allow_missing:
        raise _unmatched(folders, left_out)
    return sorted(everything.intersection(*images)), left_out


def _images_of(name: str, labels: Sequence[str], images: Sequence[Images]) -> Images:
    return {label: has[name] for label, has in zip(labels, images, strict=True)}


def _renamed(folder: Folder, key: Callable[[str], str]) -> dict[str, Path]:
    """The images by their key, of which each must have its own."""
    renamed: dict[str, Path] = {}
    for name, path in folder.images.items():
        if (new := key(name)) in renamed:
            raise UserError(
                f"{folder.flag} {folder.path}: '{renamed[new].name}' and '{path.name}' both pair as '{new}', so which "
                "one is meant is open; remove one or choose another --strip_suffix or --pattern."
            )
        renamed[new] = path
    return renamed


def _some(items: Sequence[Item], folders: Sequence[Folder]) -> tuple[Item, ...]:
    if not items:
        raise UserError(
            f"--allow_missing: no image is in all of {first_names([str(folder.path) for folder in folders])}."
        )
    return tuple(items)


def _unmatched(folders: Sequence[Folder], left_out: Mapping[str, tuple[str, ...]]) -> UserError:
    complaints = [
        f"{folder.flag} {folder.path} lacks {len(left_out[folder.label])} of the others' images "
        f"({first_names(left_out[folder.label])})"
        for folder in folders
        if folder.label in left_out
    ]
    return UserError(f"{'; '.join(complaints)}: {WAY_OUT}.")


def _without_partner(
    folder: Folder, target: Folder, orphans: Sequence[str], unused: Sequence[str], *, matching: int
) -> UserError:
    complaints = []
    if orphans:
        complaints.append(f"{len(orphans)} in {folder.path} without ground truth ({first_names(orphans)})")
    if unused:
        complaints.append(f"{len(unused)} in {target.path} without a result ({first_names(unused)})")
    return UserError(
        f"--gt {target.path}: {matching} images match, {' and '.join(complaints)}; {_advice(orphans, unused)}."
    )


def _advice(orphans: Sequence[str], unused: Sequence[str]) -> str:
    """The suffix that stands in the way, if one does."""
    for name in orphans:
        longest = max((other for other in unused if name.startswith(other)), key=len, default="")
        if longest:
            return f"pair them with --strip_suffix {name[len(longest) :]}"
    return f"pair them with --strip_suffix or --pattern, or {WAY_OUT}"
