"""What a benchmark found, as tables and as JSON."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from util.text import aligned

GIGA = 1e9
_LOADED = 0.1  # share of the processors in use from which on other programs take part
_LOOK = 0.5  # seconds
_STATISTICS = Path("/proc/stat")  # Linux


@dataclass(frozen=True)
class Timing:
    """Seconds of the same thing, several times."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        return f"{_short(self.median)} ({_short(min(self.seconds))}–{_short(max(self.seconds))})"


@dataclass(frozen=True)
class StepRow:
    """A training step of one model in one mode, or in an original repository (without ``flops``)."""

    model: str
    mode: str
    timing: Timing
    images: int
    peak_bytes: int
    flops: int | None = None
    bytes_moved: int | None = None
    ceiling_flops: float | None = None
    ceiling_bytes: float | None = None
    times_original: float | None = None

    @property
    def share(self) -> float | None:
        """Achieved FLOP/s by those of the convolution that was measured in the same rounds."""
        if self.flops is None or not self.ceiling_flops:
            return None
        return self.flops / self.timing.median / self.ceiling_flops

    def cells(self) -> list[str]:
        rate = None if self.flops is None else self.flops / self.timing.median / GIGA
        return [
            self.model,
            self.mode,
            str(self.timing),
            f"{self.images / self.timing.median:.3g}",
            _number(self.flops, 1 / GIGA),
            _number(rate),
            _number(self.ceiling_flops, 1 / GIGA),
            "–" if self.share is None else f"{self.share:.0%}",
            _number(self.bytes_moved, 1 / GIGA),
            f"{self.peak_bytes / GIGA:.2f}",
            "–" if self.times_original is None else f"{self.times_original:.2f}×",
        ]


STEP_HEADINGS = (
    "model", "mode", "s/step (min–max)", "images/s", "GFLOP", "GFLOP/s", "ceiling", "share", "GB moved", "peak GB",
    "× original",
)  # fmt: skip


@dataclass(frozen=True)
class InferenceRow:
    """One image of a size through the generator."""

    model: str
    mode: str
    size: str
    timing: Timing
    peak_bytes: int

    def cells(self) -> list[str]:
        rate = f"{1 / self.timing.median:.3g}"
        return [self.model, self.mode, self.size, str(self.timing), rate, f"{self.peak_bytes / GIGA:.2f}"]


INFERENCE_HEADINGS = ("model", "mode", "size", "s/image (min–max)", "images/s", "peak GB")


@dataclass(frozen=True)
class LoadingRow:
    """One epoch of the data loader."""

    cache: str
    epoch: int
    images: int
    seconds: float

    def cells(self) -> list[str]:
        return [
            self.cache,
            str(self.epoch),
            str(self.images),
            _short(self.seconds),
            f"{self.images / self.seconds:.4g}",
        ]


LOADING_HEADINGS = ("--cache", "epoch", "images", "s", "images/s")


@dataclass
class Report:
    """Everything that one run of the benchmark found."""

    settings: Mapping[str, Any]
    steps: list[StepRow] = field(default_factory=list)
    inference: list[InferenceRow] = field(default_factory=list)
    loading: list[LoadingRow] = field(default_factory=list)

    def markdown(self) -> str:
        """The tables that have rows, one after another."""
        tables: list[tuple[Sequence[str], Sequence[StepRow | InferenceRow | LoadingRow]]] = [
            (STEP_HEADINGS, self.steps),
            (INFERENCE_HEADINGS, self.inference),
            (LOADING_HEADINGS, self.loading),
        ]
        return "\n\n".join(table(headings, [row.cells() for row in rows]) for headings, rows in tables if rows)

    def as_json(self) -> dict[str, Any]:
        """The same with every sample, in seconds, bytes and FLOPs."""
        steps = [{**asdict(row), "median": row.timing.median, "share": row.share} for row in self.steps]
        inference = [{**asdict(row), "median": row.timing.median} for row in self.inference]
        loading = [asdict(row) for row in self.loading]
        return {"settings": dict(self.settings), "steps": steps, "inference": inference, "loading": loading}


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns also line up on a console."""
    head, *body = aligned([headings, *rows], left=2)
    rule = "|".join("-" * (len(cell) + 1) + ("-" if index < 2 else ":") for index, cell in enumerate(head))
    return "\n".join([f"| {' | '.join(head)} |", f"|{rule}|", *(f"| {' | '.join(line)} |" for line in body)])


def machine(device: str) -> dict[str, Any]:
    """What the figures were measured on."""
    named = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    return {
        "device": named,
        "processors": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def load_warning(sleep: Callable[[float], None] = time.sleep) -> str | None:
    """A sentence if other programs compete for the processors while this one sleeps, where the system tells."""
    processors, before = os.cpu_count() or 1, _seconds_in_use()
    sleep(_LOOK)
    after = _seconds_in_use()
    if before is None or after is None or (in_use := (after - before) / _LOOK) < _LOADED * processors:
        return None
    return f"other programs use {in_use:.1f} of {processors} processors: seconds are too long, ratios are rough."


def _seconds_in_use() -> float | None:
    """What all processors together have worked since the system started; None where there is no ``/proc/stat``."""
    try:
        user, nice, system = map(int, _STATISTICS.read_text(encoding="ascii").split()[1:4])
    except (OSError, ValueError):
        return None
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def _short(seconds: float) -> str:
    return f"{seconds:.3g}" if seconds < 10 else f"{seconds:.1f}"


def _number(value: float | None, factor: float = 1.0) -> str:
    return "–" if value is None else f"{value * factor:.4g}"
