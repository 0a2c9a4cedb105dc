"""What the result page shows, as data that is saved beside it as ``manifest.json``."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from util.errors import UserError
from util.files import write_text_atomically

VERSION = 1
MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True)
class Column:
    """A column of images: technical ``label`` (``"fake_B"``), ``heading`` in words.

    ``paired`` is False for images that show another scene than the input of their row.
    """

    label: str
    heading: str
    paired: bool = True


@dataclass(frozen=True)
class Metric:
    """How a metric is named and written: ``key`` in the rows, ``heading`` for people, ``unit``, decimal ``digits``.

    ``protocol`` says in words how it was computed; a number without it means little.
    """

    key: str
    heading: str
    protocol: str
    unit: str = ""
    higher_is_better: bool = True
    digits: int = 2


@dataclass(frozen=True)
class Score:
    """One metric of one row: for the output image and, if measured, for the untouched input."""

    output: float
    input: float | None = None

    @property
    def change(self) -> float | None:
        """Output minus input; None if there is no input score or the difference is not a number."""
        if self.input is None:
            return None
        change = self.output - self.input
        return None if math.isnan(change) else change


@dataclass(frozen=True)
class Row:
    """One test image: its ``name``, its ``images`` (label -> path relative to the page's folder, with ``/``)
    and its ``metrics`` (key -> score), empty if it has no ground truth."""

    name: str
    images: Mapping[str, str]
    metrics: Mapping[str, Score] = field(default_factory=dict)


@dataclass(frozen=True)
class ResultManifest:
    """Everything on a result page. ``before`` and ``after`` are the labels that the slider compares at first."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    subtitle: str = ""
    notes: tuple[str, ...] = ()
    metrics: tuple[Metric, ...] = ()
    before: str = "real_A"
    after: str = "fake_B"

    def __post_init__(self) -> None:
        """Raises ValueError if a row names an unknown column or metric, or a path that leaves the folder."""
        labels, keys = {column.label for column in self.columns}, {metric.key for metric in self.metrics}
        for row in self.rows:
            if unknown := (row.images.keys() - labels) | (row.metrics.keys() - keys):
                raise ValueError(f"row {row.name!r}: no column or metric is called {sorted(unknown)}")
            for path in row.images.values():
                if not is_inside(path):
                    raise ValueError(f"row {row.name!r}: {path!r} is not a relative path inside the page's folder")


def is_inside(path: str) -> bool:
    """Whether ``path`` (with ``/``) is relative and stays in the folder it starts from."""
    parts = PurePosixPath(path).parts
    return bool(parts) and not PurePosixPath(path).is_absolute() and ".." not in parts


def save_manifest(folder: Path, manifest: ResultManifest) -> Path:
    """Write ``folder/manifest.json`` and return its path."""
    path = folder / MANIFEST_NAME
    data = {"version": VERSION, **dataclasses.asdict(manifest)}
    write_text_atomically(path, json.dumps(_to_json(data), indent=1, allow_nan=False) + "\n")
    return path


def load_manifest(path: Path) -> ResultManifest:
    """Read back what :func:`save_manifest` wrote.

    Raises:
        UserError: the file is missing, damaged or of another version.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["version"] != VERSION:
            raise UserError(f"{path}: manifest version {data['version']} instead of {VERSION}; run test.py again.")
        return _from_json(data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a readable result manifest ({error}); run test.py again.") from error


def _from_json(data: Mapping[str, Any]) -> ResultManifest:
    return ResultManifest(
        title=data["title"],
        subtitle=data["subtitle"],
        notes=tuple(data["notes"]),
        columns=tuple(Column(**column) for column in data["columns"]),
        metrics=tuple(Metric(**metric) for metric in data["metrics"]),
        rows=tuple(
            Row(row["name"], dict(row["images"]), {key: _score(score) for key, score in row["metrics"].items()})
            for row in data["rows"]
        ),
        before=data["before"],
        after=data["after"],
    )


def _score(data: Mapping[str, Any]) -> Score:
    return Score(float(data["output"]), None if data["input"] is None else float(data["input"]))


def _to_json(value: Any) -> Any:
    """Turn non-finite numbers into strings (``"inf"``), which JSON has no other way to write."""
    if isinstance(value, Mapping):
        return {key: _to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
