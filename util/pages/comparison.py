"""Several runs on one page: aligned by file name, with the input and the ground truth once and each one's metrics."""

from __future__ import annotations

import filecmp
import itertools
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from util.errors import UserError
from util.files import cannot_write, real_path, safe_child
from util.names import find_results
from util.pages.html import relative_address
from util.pages.manifest import MANIFEST_NAME, Column, MetricColumn, ResultManifest, Row, load_manifest
from util.pages.result_page import counted_rows
from util.pictures import UnreadablePicture, read_eight_bit
from util.text import first_names

IMAGES = "images"

Placing = Callable[[Path, str, str], str]
"""From an image file, its column's label and its row's name to the path that the page uses."""


@dataclass(frozen=True)
class Run:
    """One result folder under the name it has in a comparison."""

    name: str
    folder: Path
    manifest: ResultManifest


def load_runs(paths: Sequence[Path], names: Sequence[str] | None = None) -> tuple[Run, ...]:
    """Read the manifests of result folders.

    :func:`util.names.find_results` says what may be named. Without ``names``, runs are called by the parts of their
    paths that differ.

    Raises:
        UserError: fewer than two paths, one twice, no results there, results of several tests, a comparison, or
            names that are not one for each run.
    """
    folders = [find_results(path) for path in paths]
    for folder in folders:
        if not (folder / MANIFEST_NAME).is_file():
            raise UserError(
                f"{folder}: has no {MANIFEST_NAME}; name a folder that test.py wrote, or run test.py again."
            )
    resolved = [real_path(folder) for folder in folders]
    if len(folders) < 2:
        raise UserError(f"{len(folders)} result folder was given; name two or more to compare.")
    if len(set(resolved)) < len(folders):
        raise UserError("a result folder is named twice; name each run once.")
    chosen = list(names) if names else differing_parts(resolved)
    if len(chosen) != len(folders) or len(set(chosen)) < len(chosen) or not all(chosen):
        raise UserError(f"--names: {len(folders)} different names are needed, one for each run, got {chosen}.")
    runs = tuple(
        Run(name, folder, load_manifest(folder / MANIFEST_NAME)) for name, folder in zip(chosen, folders, strict=True)
    )
    for run in runs:
        if run.manifest.runs:
            raise UserError(f"{run.folder}: is a comparison itself; name the runs that it compares.")
    return runs


def differing_parts(folders: Sequence[Path]) -> list[str]:
    """Names for different folders: the parts of their paths that not all have in common at that place from the end.

    ``results/a/test_latest`` and ``results/b/test_latest`` become ``a`` and ``b``.
    """
    reversed_parts = [list(reversed(folder.parts)) for folder in folders]
    depth = max(map(len, reversed_parts))
    padded = [parts + [""] * (depth - len(parts)) for parts in reversed_parts]
    levels = [level for level in range(depth) if len({parts[level] for parts in padded}) > 1]
    names = [""] * len(folders)
    for level in levels:  # from the end of the paths, until the names are different
        names = ["/".join(filter(None, (parts[level], name))) for parts, name in zip(padded, names, strict=True)]
        if len(set(names)) == len(names):
            break
    return names


def link_images(folder: Path) -> Placing:
    """Images stay where they are; the page in ``folder`` names them by relative paths."""
    return lambda file, label, name: relative_address(folder, file)


def copy_images(folder: Path) -> Placing:
    """Images are copied into ``folder/images``, so that the folder can be given away.

    Files that are no readable images, and names that lead out of the folder, raise a UserError.
    """

    def place(file: Path, label: str, name: str) -> str:
        read_eight_bit(file)  # only pictures are copied, even if a manifest names other files
        path = f"{IMAGES}/{label}/{name}{file.suffix}"
        target = safe_child(folder, path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        except OSError as error:
            raise cannot_write(target, error) from error
        return path

    return place


def compare_runs(
    runs: Sequence[Run], place: Placing, *, reaches_out: bool, with_metrics: bool = True
) -> ResultManifest:
    """The manifest of the page that shows ``runs`` side by side.

    Rows are aligned by name. A row that is not in every run, or whose input or ground truth is another picture in one
    of them, says so and does not count in the means.

    Raises:
        UserError: a metric was measured by different protocols, no image counts, or an image cannot be placed.
    """
    metrics = _common_metrics(runs) if with_metrics else ()
    found: dict[str, list[tuple[Run, Row]]] = {}
    for run in runs:
        for row in run.manifest.rows:
            found.setdefault(row.name, []).append((run, row))
    columns = _columns(runs)
    rows = tuple(_row(runs, name, together, columns, place) for name, together in found.items())
    if all(row.excluded for row in rows):
        reason = rows[0].excluded if rows else "there are no images"
        raise UserError(f"{' and '.join(run.name for run in runs)}: have no image in common to compare ({reason}).")
    manifest = ResultManifest(
        title=f"Comparison: {', '.join(run.name for run in runs)}",
        columns=columns,
        rows=rows if with_metrics else tuple(replace(row, scores={}) for row in rows),
        notes=_notes(runs, rows),
        metrics=metrics,
        before=columns[0].label,
        after=columns[1].label,
        target=runs[0].manifest.target,
        reaches_out=reaches_out,
        runs=tuple(run.name for run in runs),
    )
    if metrics and not counted_rows(manifest):
        raise UserError(
            f"{manifest.title}: no image that counts has metrics; use --no_metrics to look at the pictures."
        )
    return manifest


def _output_label(runs: Sequence[Run], run: Run) -> str:
    return f"{run.manifest.after}.{runs.index(run) + 1}"


def _columns(runs: Sequence[Run]) -> tuple[Column, ...]:
    """The input, each run's output, and the ground truth if any run has it."""
    first = runs[0].manifest
    before = _column(runs, first.before) or Column(first.before, first.before)
    outputs = (Column(_output_label(runs, run), run.name) for run in runs)
    target = _column(runs, first.target)
    return (before, *outputs, *([target] if target else []))


def _column(runs: Sequence[Run], label: str) -> Column | None:
    return next((column for run in runs for column in run.manifest.columns if column.label == label), None)


def _common_metrics(runs: Sequence[Run]) -> tuple[MetricColumn, ...]:
    """All metrics of the runs, each once.

    Raises:
        UserError: two runs measured one by different protocols.
    """
    found: dict[str, tuple[Run, MetricColumn]] = {}
    for run in runs:
        for metric in run.manifest.metrics:
            first, same = found.setdefault(metric.key, (run, metric))
            if metric.protocol != same.protocol:
                raise UserError(
                    f"{metric.heading} of {run.name} and {same.heading} of {first.name} follow different protocols "
                    f"('{metric.protocol}' and '{same.protocol}'); run test.py again with one --protocol, or use "
                    "--no_metrics to look at the pictures alone."
                )
    return tuple(metric for _, metric in found.values())


def _row(
    runs: Sequence[Run], name: str, found: Sequence[tuple[Run, Row]], columns: Sequence[Column], place: Placing
) -> Row:
    """One row of the comparison, from the rows of that name; the input and the ground truth come from the first."""
    labels = {column.label for column in columns}
    row = Row(name, {}, {}, {}, {}, {}, _why_excluded(runs, found, columns))
    for run, own in found:
        manifest = run.manifest
        new_labels = {label: label for label in (manifest.before, manifest.target)}
        new_labels[manifest.after] = _output_label(runs, run)
        taken = {old: new for old, new in new_labels.items() if old in own.images and new in labels - row.images.keys()}
        row = replace(
            row,
            images={**row.images, **_placed(own.images, taken, run, place, name)},
            scores={**row.scores, **{new: own.scores[old] for old, new in taken.items() if old in own.scores}},
            sizes={**row.sizes, **{new: own.sizes[old] for old, new in taken.items() if old in own.sizes}},
            originals={**row.originals, **_placed(own.originals, taken, run, place, name, "_original")},
            thumbnails={**row.thumbnails, **_placed(own.thumbnails, taken, run, place, name, "_thumbnail")},
        )
    return row


def _placed(
    files: Mapping[str, str], taken: Mapping[str, str], run: Run, place: Placing, name: str, suffix: str = ""
) -> dict[str, str]:
    """The files of the labels that are taken, under their new labels and where the page finds them."""
    return {new: place(run.folder / files[old], new + suffix, name) for old, new in taken.items() if old in files}


def _why_excluded(runs: Sequence[Run], found: Sequence[tuple[Run, Row]], columns: Sequence[Column]) -> str:
    """Why a row cannot be compared; empty if it can."""
    have = [run.name for run, _ in found]
    if missing := [run.name for run in runs if run.name not in have]:
        return f"not in {', '.join(missing)}"
    (first, row), *others = found
    words = {first.manifest.before: "input", first.manifest.target: "ground truth"}
    same = [column.label for column in columns if column.paired and column.label in words]
    for run, other in others:
        for label in same:
            both = label in row.images and label in other.images
            if both and not same_picture(first.folder / row.images[label], run.folder / other.images[label]):
                return f"another {words[label]} in {run.name}"
    if unmeasured := [run.name for run, row in found if run.manifest.metrics and not row.scores]:
        return f"not measured in {', '.join(unmeasured)}"
    return ""


def same_picture(one: Path, other: Path) -> bool:
    """Whether two files hold the same pixels; no unless both can be read."""
    try:
        if filecmp.cmp(one, other, shallow=False):
            return True
        return bool(np.array_equal(np.asarray(read_eight_bit(one)), np.asarray(read_eight_bit(other))))
    except (OSError, UnreadablePicture):
        return False


def _notes(runs: Sequence[Run], rows: Sequence[Row]) -> tuple[str, ...]:
    described = (" ".join((f"{run.name} ({run.manifest.title}).", *run.manifest.notes)) for run in runs)
    reasons: Iterable[tuple[str, Iterable[Row]]] = itertools.groupby(
        sorted((row for row in rows if row.excluded), key=lambda row: row.excluded), key=lambda row: row.excluded
    )
    return (*described, *(_left_out(reason, [row.name for row in group]) for reason, group in reasons))


def _left_out(reason: str, names: Sequence[str]) -> str:
    images = f"{len(names)} {'image' if len(names) == 1 else 'images'}"
    return f"Left out of the means, {reason}: {images} ({first_names(names, quote='')})."
