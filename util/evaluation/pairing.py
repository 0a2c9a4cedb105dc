"""Which image belongs to which ground truth, with nothing dropped in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from util.errors import UserError
from util.evaluation.folders import Folder, listed
from util.evaluation.measuring import Item
from util.evaluation.names import RAINCITYSCAPES_SUFFIXES, NameRule, same_names, without_suffixes

GROUND_TRUTH, RESULTS = "ground truth", "all results"
WAY_OUT = "complete the folders, or pass --allow_missing to leave such images out, which the files will say"

Images = Mapping[str, Path]


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


def usual_rule(protocol: str, results: Sequence[Folder], target: Folder | None) -> NameRule:
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
        raise UserError(f"--allow_missing: no image is in all of {listed([str(folder.path) for folder in folders])}.")
    return tuple(items)


def _unmatched(folders: Sequence[Folder], left_out: Mapping[str, tuple[str, ...]]) -> UserError:
    complaints = [
        f"{folder.flag} {folder.path} lacks {len(left_out[folder.label])} of the others' images "
        f"({listed(left_out[folder.label])})"
        for folder in folders
        if folder.label in left_out
    ]
    return UserError(f"{'; '.join(complaints)}: {WAY_OUT}.")


def _without_partner(
    folder: Folder, target: Folder, orphans: Sequence[str], unused: Sequence[str], *, matching: int
) -> UserError:
    complaints = []
    if orphans:
        complaints.append(f"{len(orphans)} in {folder.path} without ground truth ({listed(orphans)})")
    if unused:
        complaints.append(f"{len(unused)} in {target.path} without a result ({listed(unused)})")
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
