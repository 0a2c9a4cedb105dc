"""What the model does on the test scenes: gain by how much it rained, and harm to clean pictures."""

from __future__ import annotations

import csv
from pathlib import Path
from statistics import fmean

from util.text import aligned

BANDS: tuple[tuple[float, float], ...] = ((0.0, 20.0), (20.0, 25.0), (25.0, 30.0), (30.0, 100.0))
"""Input PSNR in dB, protocol y."""
MEAN_ROW = "mean"


def gain_by_input(metrics: Path) -> list[dict[str, float]]:
    """Mean PSNR of input and output, and their number, for every band of input PSNR, from a test's ``metrics.csv``."""
    with metrics.open(encoding="utf-8", newline="") as file:
        images = [row for row in csv.DictReader(file) if row["name"] != MEAN_ROW]
    rows = [(float(row["input_psnr"]), float(row["psnr"])) for row in images]
    bands = []
    for low, high in BANDS:
        within = [(before, after) for before, after in rows if low <= before < high]
        if within:
            before, after = (fmean(side) for side in zip(*within, strict=True))
            bands.append({"from": low, "to": high, "images": len(within), "input": before, "output": after})
    return bands


def table(bands: list[dict[str, float]]) -> str:
    """The bands as lines for a terminal."""
    lines = [["input PSNR (Y)", "images", "rainy", "derained", "gain"]]
    for band in bands:
        numbers = (f"{band['images']:.0f}", f"{band['input']:.2f}", f"{band['output']:.2f}")
        lines.append([f"{band['from']:.0f} to {band['to']:.0f} dB", *numbers, f"{band['output'] - band['input']:+.2f}"])
    return "\n".join("  ".join(line) for line in aligned(lines))
