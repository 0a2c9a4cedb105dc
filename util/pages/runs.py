"""Finding the result folders that are to be compared, and short names for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from util.errors import UserError
from util.files import real_path
from util.names import find_results
from util.pages.manifest import MANIFEST_NAME, ResultManifest, load_manifest


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
