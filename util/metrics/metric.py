"""The metrics: one entry each, from which everything else reads its name, its digits and how it is computed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from util.errors import UserError
from util.metrics.ciede2000 import color_difference
from util.metrics.protocols import PROTOCOLS, Protocol, psnr, ssim
from util.text import did_you_mean

Image = np.ndarray
Computation = Callable[[Image, Image], float]
"""From an [H, W, 3] uint8 image and its target to a number."""
Loader = Callable[[Protocol, Path | None], tuple[Computation, str]]
"""From a protocol and LPIPS's weights to the computation, and a sentence on what it computes with."""


@dataclass(frozen=True)
class Metric:
    """A metric: its ``key`` in files, its ``name`` for people, what it measures, and how it is computed and written.

    With ``follows_protocol`` it means what the protocol says; otherwise ``definition`` says it in a sentence. Without
    ``needs_target`` it looks at the image alone. ``package`` is the optional package that ``loader`` needs.
    """

    key: str
    name: str
    loader: Loader
    definition: str = ""
    unit: str = ""
    digits: int = 2
    higher_is_better: bool = True
    follows_protocol: bool = False
    needs_target: bool = True
    package: str = ""

    def heading(self, protocol: Protocol) -> str:
        """What it is called wherever a user looks: ``PSNR (Y)``."""
        return f"{self.name} ({protocol.label})" if self.follows_protocol else self.name

    def description(self, protocol: Protocol) -> str:
        """How it is computed, in sentences."""
        return protocol.description if self.follows_protocol else self.definition

    @property
    def meaning(self) -> str:
        """What its numbers say, for the JSON files."""
        definition = "Under the protocol." if self.follows_protocol else self.definition
        better = "Higher" if self.higher_is_better else "Lower"
        return " ".join([definition, *([f"In {self.unit}."] if self.unit else []), f"{better} is better."])

    def text(self, value: float) -> str:
        """A value with the metric's decimals."""
        return f"{value:.{self.digits}f}"

    def labeled(self, value: float, protocol: Protocol) -> str:
        """A value after its heading: ``PSNR (Y) 27.67``."""
        return f"{self.heading(protocol)} {self.text(value)}"

    def is_better(self, value: float, other: float) -> bool:
        """Whether ``value`` is better than ``other``; a tie is not."""
        return value > other if self.higher_is_better else value < other

    def load(self, protocol: Protocol, lpips_weights: Path | None = None) -> tuple[Computation, str]:
        """The computation under ``protocol``, and what it computes with where that needs saying.

        Raises:
            UserError: the optional package is not installed, or its weights are missing or of another kind.
        """
        try:
            return self.loader(protocol, lpips_weights)
        except ImportError as error:
            raise UserError(
                f"--metrics {self.key}: comes from a package that is not installed ({error}); "
                f"pip install {self.package}."
            ) from error


def _psnr(protocol: Protocol, _: Path | None) -> tuple[Computation, str]:
    return lambda image, target: psnr(image, target, protocol), ""


def _ssim(protocol: Protocol, _: Path | None) -> tuple[Computation, str]:
    return lambda image, target: ssim(image, target, protocol), ""


def _rgb_psnr(_: Protocol, __: Path | None) -> tuple[Computation, str]:
    return _psnr(PROTOCOLS["rgb"], None)


def _ciede2000(_: Protocol, __: Path | None) -> tuple[Computation, str]:
    return color_difference, ""


def _lpips(_: Protocol, weights: Path | None) -> tuple[Computation, str]:
    from util.metrics.learned import load_lpips

    return load_lpips(weights)


def _niqe(_: Protocol, __: Path | None) -> tuple[Computation, str]:
    from util.metrics.learned import load_niqe

    return load_niqe()


def _brisque(_: Protocol, __: Path | None) -> tuple[Computation, str]:
    from util.metrics.learned import load_brisque

    return load_brisque()


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.key: metric
        for metric in (
            Metric("psnr", "PSNR", _psnr, unit="dB", follows_protocol=True),
            Metric("ssim", "SSIM", _ssim, digits=4, follows_protocol=True),
            Metric(
                "psnr_rgb",
                "PSNR (RGB)",
                _rgb_psnr,
                "PSNR (peak 255, squared error averaged over the channels) on 8-bit RGB.",
                unit="dB",
            ),
            Metric(
                "ciede2000",
                "CIEDE2000",
                _ciede2000,
                "Mean CIEDE2000 over the pixels (sRGB, D65).",
                higher_is_better=False,
            ),
            Metric(
                "lpips",
                "LPIPS",
                _lpips,
                "Learned perceptual distance, version 0.1.",
                digits=4,
                higher_is_better=False,
                package="lpips",
            ),
            Metric(
                "niqe",
                "NIQE",
                _niqe,
                "Distance from the statistics of natural photographs, without ground truth.",
                higher_is_better=False,
                needs_target=False,
                package="deepinv",
            ),
            Metric(
                "brisque",
                "BRISQUE",
                _brisque,
                "Quality predicted from the statistics of distorted photographs, without ground truth.",
                higher_is_better=False,
                needs_target=False,
                package="piq",
            ),
        )
    }
)

COMPANIONS = ("psnr_rgb", "ciede2000")  # of luma PSNR, which never stands alone
DEFAULT_METRICS = tuple(METRICS[key] for key in ("psnr", "ssim", *COMPANIONS))
"""What a test and a validation compute."""


def shown_metrics(protocol: Protocol, keys: Collection[str] | None = None) -> tuple[Metric, ...]:
    """The metrics to show, of those with ``keys`` or the default ones: without RGB PSNR where PSNR is the same."""
    chosen = DEFAULT_METRICS if keys is None else [metric for metric in METRICS.values() if metric.key in keys]
    return tuple(metric for metric in chosen if metric.key != "psnr_rgb" or protocol.luma)


def reading(metrics: Iterable[Metric], protocol: Protocol) -> str:
    """How to read the numbers, in sentences: units, and whether higher or lower is better."""
    units: dict[str, list[str]] = {}
    for metric in metrics:
        if metric.unit:
            units.setdefault(metric.unit, []).append(metric.heading(protocol))
    parts = [f"{' and '.join(names)} in {unit}" for unit, names in units.items()]
    for word, higher in (("higher", True), ("lower", False)):
        if names := [metric.heading(protocol) for metric in metrics if metric.higher_is_better is higher]:
            parts.append(f"{word} is better: {', '.join(names)}")
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."


def choose_metrics(names: Sequence[str] | None, protocol: Protocol, *, has_target: bool) -> tuple[Metric, ...]:
    """The metrics for ``names``, by default PSNR, SSIM and their companions; what luma PSNR hides comes with it.

    Raises:
        UserError: an unknown name, or one that needs ground truth where there is none.
    """
    if names is None and not has_target:
        alone = ",".join(key for key, metric in METRICS.items() if not metric.needs_target)
        raise UserError(
            "--gt: not given, so there is nothing to compare with; give it, or choose metrics that need no ground "
            f"truth: --metrics {alone}."
        )
    if names is None:
        return shown_metrics(protocol)
    if not names:
        raise UserError(f"--metrics: names none; choose from {', '.join(METRICS)}.")
    for name in names:
        if name not in METRICS:
            raise UserError(
                f"--metrics: there is no '{name}'{did_you_mean(name, METRICS)}; choose from {', '.join(METRICS)}."
            )
        if METRICS[name].needs_target and not has_target:
            raise UserError(f"--metrics {name}: compares with ground truth; give its folder with --gt.")
    chosen = [*names, *(COMPANIONS if "psnr" in names and protocol.luma else ())]
    return tuple(METRICS[name] for name in dict.fromkeys(chosen))


class Scorer:
    """Computes chosen metrics of an image. ``facts`` says what its learned ones were computed with."""

    def __init__(self, metrics: Sequence[Metric], protocol: Protocol, *, lpips_weights: Path | None = None) -> None:
        """Loads what the metrics need.

        Raises:
            UserError: an optional package or its weights are missing.
        """
        self.metrics, self.protocol = tuple(metrics), protocol
        loaded = {metric.key: metric.load(protocol, lpips_weights) for metric in metrics}
        self._compute = {key: compute for key, (compute, _) in loaded.items()}
        self.facts = {key: fact for key, (_, fact) in loaded.items() if fact}

    @property
    def smallest(self) -> int:
        """Pixels that each side of an image needs."""
        fixed = self.protocol.size is not None
        return 1 if fixed or "ssim" not in self._compute else self.protocol.smallest

    def __call__(self, image: Image, target: Image | None) -> dict[str, float]:
        """The metrics by key of an [H, W, 3] uint8 image; ``target`` may be missing if none of them needs it.

        Under a protocol that resizes, all of them are of the resized images.

        Raises:
            ValueError: the images differ in size, or are smaller than a metric needs.
        """
        image = self.protocol.fit(image)
        reference = image if target is None else self.protocol.fit(target)
        return {key: compute(image, reference) for key, compute in self._compute.items()}
