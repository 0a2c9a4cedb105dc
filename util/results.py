"""The folder of a test's results: images by label, metrics and the page to look at them."""

from __future__ import annotations

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
from util.pages.labels import LABEL_WORDS
from util.pages.manifest import Column, Metric, ResultManifest, Row, Score
from util.pages.result_page import write_result_page

INPUT, OUTPUT, TARGET = "real_A", "fake_B", "real_B"
IMAGES = "images"
_GROUND_TRUTH = "ground truth"


class ResultFolder:
    """Collects a test's results beside their final place and puts them there when all is done.

    Used as a context manager: leaving it by an exception leaves what was there before untouched.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._names: list[str] = []
        self._labels: list[str] = []

    def __enter__(self) -> ResultFolder:
        try:
            shutil.rmtree(self._partial, ignore_errors=True)
            self._partial.mkdir(parents=True)
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
        """Measure where there is ground truth, write the page and move everything to its place."""
        evaluation = self._evaluate(protocol) if TARGET in self._labels else None
        if evaluation is not None:
            write_metrics(self._partial, evaluation)
        write_result_page(self._partial, self._manifest(title, notes, evaluation))
        previous = self.path.with_name(f".{self.path.name}.previous")
        shutil.rmtree(previous, ignore_errors=True)
        if self.path.exists():
            self.path.rename(previous)
        self._partial.rename(self.path)
        shutil.rmtree(previous, ignore_errors=True)
        return evaluation

    def _evaluate(self, protocol: str) -> Evaluation:
        def file(label: str, name: str) -> Path:
            return self._partial / IMAGES / label / f"{name}.png"

        pairs = [Pair(name, file(INPUT, name), file(OUTPUT, name), file(TARGET, name)) for name in self._names]
        return evaluate(pairs, PROTOCOLS[protocol])

    def _manifest(self, title: str, notes: tuple[str, ...], evaluation: Evaluation | None) -> ResultManifest:
        words = {**LABEL_WORDS, TARGET: _GROUND_TRUTH}
        results = {} if evaluation is None else {result.name: result for result in evaluation.results}
        rows = tuple(
            Row(
                name,
                {label: f"{IMAGES}/{label}/{name}.png" for label in self._labels},
                _scores(results[name]) if name in results else {},
            )
            for name in self._names
        )
        return ResultManifest(
            title=title,
            columns=tuple(Column(label, words.get(label, label)) for label in self._labels),
            rows=rows,
            notes=notes,
            metrics=() if evaluation is None else _metrics(evaluation),
        )


def _metrics(evaluation: Evaluation) -> tuple[Metric, ...]:
    name, description = evaluation.protocol.name, evaluation.protocol.description
    return (
        Metric("psnr", f"PSNR ({name})", description, "dB"),
        Metric("ssim", f"SSIM ({name})", description, digits=4),
        Metric("psnr_rgb", "PSNR (RGB)", PROTOCOLS["rgb"].description, "dB"),
        Metric("ciede2000", "colour difference ΔE", "mean CIEDE2000, sRGB, D65", higher_is_better=False),
    )


def _scores(result: Result) -> dict[str, Score]:
    keys = ("psnr", "ssim", "psnr_rgb", "ciede2000")
    return {key: Score(getattr(result.output, key), getattr(result.input, key)) for key in keys}
