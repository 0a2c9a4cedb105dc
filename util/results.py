"""The folder of a test's results: images by label, metrics and the page to look at them."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from torch import Tensor

from util.errors import UserError
from util.evaluation import Evaluation, Result, evaluate, write_metrics
from util.evaluation import Row as Pair
from util.images import safe_child, save_png, to_uint8
from util.metrics import PROTOCOLS
from util.pages.manifest import Column, Metric, ResultManifest, Row
from util.pages.result_page import write_result_page

INPUT, OUTPUT, TARGET = "real_A", "fake_B", "real_B"
IMAGES = "images"
_GROUND_TRUTH = "ground truth"
_RGB_PSNR = "PSNR (peak 255, squared error averaged over the channels) on 8-bit RGB."
_COLOUR_DIFFERENCE = "Mean CIEDE2000 over the pixels (sRGB, D65)."


class ResultFolder:
    """Collects a test's results beside their final place and puts them there when all is done.

    Used as a context manager: leaving it by an exception leaves what was there before untouched.
    ``words`` maps the images' labels to headings in words; a label without any is its own heading.
    """

    def __init__(self, path: Path, words: Mapping[str, str]) -> None:
        self.path = path
        self._words = {**words, TARGET: _GROUND_TRUTH}
        self._partial = path.with_name(f".{path.name}.partial")
        self._previous = path.with_name(f".{path.name}.previous")
        self._names: list[str] = []
        self._labels: list[str] = []

    def __enter__(self) -> ResultFolder:
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"--results_dir: {self.path} is not a folder; remove it or choose another place.")
        try:
            shutil.rmtree(self._partial, ignore_errors=True)
            self._partial.mkdir(parents=True)
            if self._previous.exists() and not self.path.exists():  # stopped between the two renames of _replace
                self._previous.rename(self.path)
        except OSError as reason:
            raise UserError(
                f"--results_dir: {self._partial.parent} cannot be written ({reason.strerror}); choose another folder."
            ) from reason
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._partial, ignore_errors=True)

    def add(self, name: str, images: Mapping[str, Tensor]) -> None:
        """Save the images [1, C, H, W] in [-1, 1] of one test item under their labels."""
        for label, image in images.items():
            save_png(to_uint8(image), safe_child(self._partial / IMAGES / label, f"{name}.png"))
        self._names.append(name)
        self._labels = list(images)

    def finish(self, *, title: str, notes: tuple[str, ...], protocol: str) -> Evaluation | None:
        """Measure where there is ground truth, write the page and move everything to its place.

        Raises:
            UserError: something cannot be measured or written; what was there before stays.
        """
        evaluation = self._evaluate(protocol) if TARGET in self._labels else None
        if evaluation is not None:
            write_metrics(self._partial, evaluation)
        write_result_page(self._partial, self._manifest(title, notes, evaluation))
        self._replace()
        return evaluation

    def _replace(self) -> None:
        """Put the new results in the place of the old ones, which stay if that fails."""
        try:
            if self.path.exists():
                shutil.rmtree(self._previous, ignore_errors=True)
                self.path.rename(self._previous)
            self._partial.rename(self.path)
        except OSError as reason:
            if not self.path.exists():
                with contextlib.suppress(OSError):
                    self._previous.rename(self.path)
            raise UserError(
                f"--results_dir: {self.path} cannot be replaced ({reason.strerror or reason}); "
                "close what has files there open, or choose another folder."
            ) from reason
        shutil.rmtree(self._previous, ignore_errors=True)

    def _evaluate(self, protocol: str) -> Evaluation:
        def file(label: str, name: str) -> Path:
            return self._partial / IMAGES / label / f"{name}.png"

        pairs = [Pair(name, file(INPUT, name), file(OUTPUT, name), file(TARGET, name)) for name in self._names]
        return evaluate(pairs, PROTOCOLS[protocol])

    def _manifest(self, title: str, notes: tuple[str, ...], evaluation: Evaluation | None) -> ResultManifest:
        metrics = () if evaluation is None else _metrics(evaluation)
        results = {} if evaluation is None else {result.name: result for result in evaluation.results}
        rows = tuple(
            Row(
                name,
                {label: f"{IMAGES}/{label}/{name}.png" for label in self._labels},
                _scores(results[name], metrics) if name in results else {},
            )
            for name in self._names
        )
        return ResultManifest(
            title=title,
            columns=tuple(Column(label, self._words.get(label, label)) for label in self._labels),
            rows=rows,
            notes=notes,
            metrics=metrics,
            before=INPUT,
            after=OUTPUT,
            target=TARGET,
        )


def _metrics(evaluation: Evaluation) -> tuple[Metric, ...]:
    name, description = evaluation.protocol.name, evaluation.protocol.description
    metrics = [
        Metric("psnr", f"PSNR ({name.upper()})", description, "dB"),
        Metric("ssim", f"SSIM ({name.upper()})", description, digits=4),
    ]
    if evaluation.protocol.luma:
        metrics.append(Metric("psnr_rgb", "PSNR (RGB)", _RGB_PSNR, "dB"))
    return (*metrics, Metric("ciede2000", "Colour difference ΔE", _COLOUR_DIFFERENCE, higher_is_better=False))


def _scores(result: Result, metrics: tuple[Metric, ...]) -> dict[str, dict[str, float]]:
    keys = [metric.key for metric in metrics]
    sides = {INPUT: result.input, OUTPUT: result.output}
    return {label: {key: getattr(scores, key) for key in keys} for label, scores in sides.items()}
