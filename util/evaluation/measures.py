"""The metrics by the names that ``--metrics`` knows, and the scorer that computes chosen ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from util.errors import UserError
from util.metrics import PROTOCOLS, Protocol, colour_difference, psnr, ssim
from util.suggest import did_you_mean

Image = np.ndarray
Measuring = Callable[[Image, Image], float]


@dataclass(frozen=True)
class Measure:
    """A metric: its ``key`` in files, ``heading`` for people, what it means and how it is written.

    ``extra`` names the optional package it comes from. Without ``needs_target`` it looks at the image alone.
    """

    key: str
    heading: str
    meaning: str
    digits: int = 2
    higher_is_better: bool = True
    needs_target: bool = True
    follows_protocol: bool = False
    extra: str = ""

    def title(self, protocol: Protocol) -> str:
        """The heading with what qualifies it, as in ``PSNR (y) ↑``."""
        arrow = "↑" if self.higher_is_better else "↓"
        return f"{self.heading} ({protocol.name}) {arrow}" if self.follows_protocol else f"{self.heading} {arrow}"


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        measure.key: measure
        for measure in (
            Measure("psnr", "PSNR", "dB, under the protocol; higher is better", follows_protocol=True),
            Measure("ssim", "SSIM", "under the protocol; higher is better", digits=4, follows_protocol=True),
            Measure("psnr_rgb", "PSNR (RGB)", "dB, over the three RGB channels; higher is better"),
            Measure(
                "ciede2000",
                "CIEDE2000",
                "mean CIEDE2000 colour difference (sRGB, D65); lower is better",
                higher_is_better=False,
            ),
            Measure(
                "lpips",
                "LPIPS",
                "learned perceptual distance, version 0.1; lower is better",
                digits=4,
                higher_is_better=False,
                extra="lpips",
            ),
            Measure(
                "niqe",
                "NIQE",
                "distance from the statistics of natural photographs, without ground truth; lower is better",
                higher_is_better=False,
                needs_target=False,
                extra="deepinv",
            ),
            Measure(
                "brisque",
                "BRISQUE",
                "quality predicted from the statistics of distorted photographs, without ground truth; lower is better",
                higher_is_better=False,
                needs_target=False,
                extra="piq",
            ),
        )
    }
)

COMPANIONS = ("psnr_rgb", "ciede2000")  # of luma PSNR, which never stands alone
USUAL = ("psnr", "ssim", *COMPANIONS)
RGB = PROTOCOLS["rgb"]


def choose_measures(names: Sequence[str] | None, protocol: Protocol, *, has_target: bool) -> tuple[Measure, ...]:
    """The metrics for ``names``, by default PSNR, SSIM and their companions; what luma PSNR hides comes with it.

    Raises:
        UserError: an unknown name, one twice, or one that needs ground truth where there is none.
    """
    if names is None and not has_target:
        alone = ",".join(key for key, measure in MEASURES.items() if not measure.needs_target)
        raise UserError(
            "--gt: not given, so there is nothing to compare with; give it, or choose metrics that need no ground "
            f"truth: --metrics {alone}."
        )
    chosen = list(names) if names is not None else [key for key in USUAL if protocol.luma or key != "psnr_rgb"]
    if not chosen:
        raise UserError(f"--metrics: names none; choose from {', '.join(MEASURES)}.")
    for name in chosen:
        _check(name, has_target)
    if "psnr" in chosen and protocol.luma:
        chosen += COMPANIONS
    return tuple(MEASURES[name] for name in dict.fromkeys(chosen))


def _check(name: str, has_target: bool) -> None:
    if name not in MEASURES:
        raise UserError(
            f"--metrics: there is no '{name}'{did_you_mean(name, MEASURES)}; choose from {', '.join(MEASURES)}."
        )
    if MEASURES[name].needs_target and not has_target:
        raise UserError(f"--metrics {name}: compares with ground truth; give its folder with --gt.")


class Scorer:
    """Computes chosen metrics of an image. ``facts`` says what its learned ones were computed with."""

    def __init__(self, measures: Sequence[Measure], protocol: Protocol, *, lpips_weights: Path | None = None) -> None:
        """Loads what the metrics need.

        Raises:
            UserError: an optional package or its weights are missing.
        """
        self.measures, self.protocol = tuple(measures), protocol
        self.facts: dict[str, str] = {}
        self._compute = {measure.key: self._computation(measure, lpips_weights) for measure in measures}

    @property
    def smallest(self) -> int:
        """Pixels that each side of an image needs."""
        fixed = self.protocol.size is not None
        return 1 if fixed or "ssim" not in self._compute else self.protocol.smallest

    def __call__(self, image: Image, target: Image | None) -> dict[str, float]:
        """The metrics by key of an [H, W, 3] uint8 image; ``target`` may be missing if none of them needs it.

        Under a protocol that resizes, all of them are of the resized images.
        """
        image = self.protocol.fit(image)
        reference = image if target is None else self.protocol.fit(target)
        return {key: compute(image, reference) for key, compute in self._compute.items()}

    def _computation(self, measure: Measure, lpips_weights: Path | None) -> Measuring:
        if not measure.extra:
            return {
                "psnr": lambda image, target: psnr(image, target, self.protocol),
                "ssim": lambda image, target: ssim(image, target, self.protocol),
                "psnr_rgb": lambda image, target: psnr(image, target, RGB),
                "ciede2000": colour_difference,
            }[measure.key]
        from util.metrics import learned

        compute, fact = learned.load(measure.key, lpips_weights)
        self.facts[measure.key] = fact
        return compute
