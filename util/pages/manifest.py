"""What the result page shows, as data that is saved with it as ``manifest.json``."""

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
from util.metrics.metric import Metric
from util.metrics.protocols import Protocol
from util.names import MANIFEST_NAME

VERSION = 2
READABLE_VERSIONS = (1, VERSION)


@dataclass(frozen=True)
class Column:
    """A column of images: technical ``label`` (``"fake_B"``), ``heading`` in words.

    ``paired`` is False for images that show another scene than the input of their row.
    """

    label: str
    heading: str
    paired: bool = True


@dataclass(frozen=True)
class MetricColumn:
    """How a metric's numbers are shown: ``key`` in the rows, ``heading`` for people, ``unit``, decimal ``digits``.

    ``protocol`` says in words how it was computed; a number without it means little.
    """

    key: str
    heading: str
    protocol: str
    unit: str = ""
    higher_is_better: bool = True
    digits: int = 2

    @classmethod
    def of(cls, metric: Metric, protocol: Protocol) -> MetricColumn:
        """How ``metric`` is shown where it was measured under ``protocol``."""
        description = metric.description(protocol)
        return cls(
            metric.key, metric.heading(protocol), description, metric.unit, metric.higher_is_better, metric.digits
        )


@dataclass(frozen=True)
class Row:
    """One test image.

    ``images`` maps labels to paths relative to the page's folder, with ``/``. Browsers show PNG (also of 16 bits),
    JPEG, WebP, GIF, BMP and AVIF; of other files, such as TIFF, ``images`` names a PNG preview and ``originals`` the
    file itself, which the page then offers to open.

    ``scores`` holds what was measured: label -> metric's key -> value; no entry where there is no ground truth.
    ``sizes`` maps labels to (width, height) in pixels; :func:`util.pages.result_page.write_result_page` reads what is
    missing from the files, and makes ``thumbnails`` (label -> path) of large images for the overview.
    ``excluded`` says why the row does not count in the means; empty if it does.
    """

    name: str
    images: Mapping[str, str]
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    originals: Mapping[str, str] = field(default_factory=dict)
    thumbnails: Mapping[str, str] = field(default_factory=dict)
    excluded: str = ""


@dataclass(frozen=True)
class ResultManifest:
    """Everything on a result page.

    ``before`` and ``after`` are the labels that the slider compares at first; changes are counted from ``before``.
    ``target`` is the label of the ground truth, if there is such a column.

    Images normally lie inside the page's folder, so that the folder can be moved. With ``reaches_out`` they may also
    lie elsewhere on the same drive (``"../../photos/a.jpg"``): the page then works where it is and not when moved.
    Addresses on a server and absolute paths are never possible. ``runs`` names the runs that a comparison compares;
    it is empty on the page of one run.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    subtitle: str = ""
    notes: tuple[str, ...] = ()
    metrics: tuple[MetricColumn, ...] = ()
    before: str = "real_A"
    after: str = "fake_B"
    target: str = "real_B"
    reaches_out: bool = False
    runs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError if a row names an unknown column or metric, or a path that is not allowed."""
        labels, keys = {column.label for column in self.columns}, {metric.key for metric in self.metrics}
        if len(labels) < len(self.columns):
            raise ValueError(f"two columns have the same label: {[column.label for column in self.columns]}")
        for row in self.rows:
            measured = {key for values in row.scores.values() for key in values}
            files = (row.images, row.originals, row.thumbnails)
            named = set(row.scores).union(row.sizes, *files)
            if unknown := (named - labels) | (measured - keys):
                raise ValueError(f"row {row.name!r}: no column or metric is called {sorted(unknown)}")
            for path in (path for paths in files for path in paths.values()):
                if not (is_relative(path) if self.reaches_out else is_inside(path)):
                    raise ValueError(f"row {row.name!r}: {path!r} is not a relative path inside the page's folder")


def is_relative(path: str) -> bool:
    """Whether ``path`` (with ``/``) is relative; it may climb out of the folder it starts from."""
    return bool(PurePosixPath(path).parts) and not PurePosixPath(path).is_absolute()


def is_inside(path: str) -> bool:
    """Whether ``path`` (with ``/``) is relative and stays in the folder it starts from."""
    return is_relative(path) and ".." not in PurePosixPath(path).parts


def as_json(manifest: ResultManifest) -> dict[str, Any]:
    """The manifest as plain data for JSON; infinite numbers as ``"inf"`` and ``"-inf"``, no number as ``"nan"``."""
    data: dict[str, Any] = _to_json({"version": VERSION, **dataclasses.asdict(manifest)})
    return data


def save_manifest(folder: Path, manifest: ResultManifest) -> Path:
    """Write ``folder/manifest.json`` and return its path."""
    path = folder / MANIFEST_NAME
    write_text_atomically(path, json.dumps(as_json(manifest), indent=1, allow_nan=False) + "\n")
    return path


def load_manifest(path: Path) -> ResultManifest:
    """Read back what :func:`save_manifest` wrote, now or in version 1.

    Raises:
        UserError: the file is missing, damaged or of another version.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["version"] not in READABLE_VERSIONS:
            raise UserError(f"{path}: manifest version {data['version']} instead of {VERSION}; run test.py again.")
        return _from_json(data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a readable result manifest ({error}); run test.py again.") from error


def _from_json(data: Mapping[str, Any]) -> ResultManifest:
    before, after = data["before"], data["after"]
    return ResultManifest(
        title=data["title"],
        subtitle=data["subtitle"],
        notes=tuple(data["notes"]),
        columns=tuple(Column(**column) for column in data["columns"]),
        metrics=tuple(MetricColumn(**metric) for metric in data["metrics"]),
        rows=tuple(_row(row, before, after) for row in data["rows"]),
        before=before,
        after=after,
        target=data.get("target", "real_B"),
        reaches_out=data.get("reaches_out", False),
        runs=tuple(data.get("runs", ())),
    )


def _row(data: Mapping[str, Any], before: str, after: str) -> Row:
    scores = data["scores"] if "scores" in data else _scores_of_version_1(data["metrics"], before, after)
    return Row(
        name=data["name"],
        images=dict(data["images"]),
        scores={label: {key: float(value) for key, value in values.items()} for label, values in scores.items()},
        sizes={label: (int(width), int(height)) for label, (width, height) in data.get("sizes", {}).items()},
        originals=dict(data.get("originals", {})),
        thumbnails=dict(data.get("thumbnails", {})),
        excluded=data.get("excluded", ""),
    )


def _scores_of_version_1(metrics: Mapping[str, Any], before: str, after: str) -> dict[str, dict[str, Any]]:
    """Version 1 kept, for each metric, the number of the output and, unless null, of the input."""
    found = {
        before: {key: score["input"] for key, score in metrics.items() if score["input"] is not None},
        after: {key: score["output"] for key, score in metrics.items()},
    }
    return {label: values for label, values in found.items() if values}


def _to_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
