"""The paper's tables as data: what each row trains, and the numbers printed there (arXiv 2407.11750).

A row's flags come after everybody else's, so "off" stays off whatever weights are given for the whole grid. The L1
identity term of the preset is on in every row of CCLGAN; ``-- --lambda_identity 0`` takes it out of all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

PAPER_DATA = "RainCityscapes"


@dataclass(frozen=True)
class GridRow:
    """``key`` is part of the run's name; ``paper`` is (PSNR in dB, SSIM) where known."""

    key: str
    label: str
    flags: tuple[str, ...]
    paper: tuple[float, float] | None = None


@dataclass(frozen=True)
class Grid:
    """One table: its rows, top to bottom."""

    title: str
    rows: tuple[GridRow, ...]


_CCLGAN = ("--model", "cclgan")
_FULL = (29.17, 0.9234)
_NO_LCL, _NO_INTRA, _NO_INTER = ("--lambda_NCE", "0"), ("--lambda_intra", "0"), ("--lambda_inter", "0")
_SOURCES = ("real", "fake", "both")

GRIDS: dict[str, Grid] = {
    "table1": Grid(
        "Table 1: methods",
        (
            GridRow("cycle_gan", "CycleGAN", ("--model", "cycle_gan"), (24.86, 0.7906)),
            GridRow("cut", "CUT", ("--model", "cut"), (25.21, 0.8225)),
            GridRow("cclgan", "CCLGAN", _CCLGAN, _FULL),
        ),
    ),
    "table2": Grid(
        "Table 2: components of CCLGAN, beside the adversarial loss",
        (
            GridRow("C", "C: LCL + inter-CCL", (*_CCLGAN, *_NO_INTRA), (27.67, 0.8860)),
            GridRow("D", "D: LCL + intra-CCL", (*_CCLGAN, *_NO_INTER), (27.43, 0.9117)),
            GridRow("E", "E: LCL", (*_CCLGAN, *_NO_INTRA, *_NO_INTER), (26.37, 0.8498)),
            GridRow("F", "F: intra-CCL + inter-CCL", (*_CCLGAN, *_NO_LCL), (26.21, 0.8544)),
            GridRow("G", "G: LCL + intra-CCL + inter-CCL", _CCLGAN, _FULL),
        ),
    ),
    "table3": Grid(
        "Table 3: negatives of intra-CCL",
        tuple(GridRow(key, key, (*_CCLGAN, "--intra_negatives", key)) for key in _SOURCES),
    ),
    "table4": Grid(
        "Table 4: positives of inter-CCL",
        tuple(GridRow(key, key, (*_CCLGAN, "--inter_positives", key)) for key in _SOURCES),
    ),
}
