"""The folder of a test's results: images by label, metrics and the page to look at them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from torch import Tensor

from util.files import safe_child
from util.images import save_png, to_uint8
from util.metrics.evaluate import Evaluation, Item, evaluate
from util.metrics.metric import DEFAULT_METRICS, Scorer, shown_metrics
from util.metrics.pairing import GROUND_TRUTH, IMAGES
from util.metrics.protocols import PROTOCOLS
from util.metrics.report import AFTER, BEFORE, write_metrics
from util.pages.labels import INPUT, OUTPUT, TARGET
from util.pages.manifest import Column, MetricColumn, ResultManifest, Row
from util.pages.result_page import write_result_page
from util.staging import Staging


class ResultFolder:
    """Collects a test's results next to their final place and puts them there when all is done.

    Used as a context manager: leaving it by an exception leaves what was there before untouched.
    ``words`` maps the images' labels to headings in words; a label without any is its own heading.
    """

    def __init__(self, path: Path, words: Mapping[str, str]) -> None:
        self.path = path
        self._words = {**words, TARGET: GROUND_TRUTH}
        self._staging = Staging(path, "--results_dir")
        self._partial = self._staging.folder
        self._names: list[str] = []
        self._labels: list[str] = []

    def __enter__(self) -> ResultFolder:
        self._staging.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._staging.__exit__(kind, error, trace)

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
        self._staging.publish()
        return evaluation

    def _evaluate(self, protocol: str) -> Evaluation:
        def file(label: str, name: str) -> Path:
            return self._partial / IMAGES / label / f"{name}.png"

        items = [
            Item(name, file(TARGET, name), {BEFORE: file(INPUT, name), AFTER: file(OUTPUT, name)})
            for name in self._names
        ]
        return evaluate(items, Scorer(DEFAULT_METRICS, PROTOCOLS[protocol]))

    def _manifest(self, title: str, notes: tuple[str, ...], evaluation: Evaluation | None) -> ResultManifest:
        metrics = () if evaluation is None else shown_metrics(evaluation.protocol)
        scores: list[dict[str, Mapping[str, float]]] = [{} for _ in self._names]
        if evaluation is not None:
            keys = [metric.key for metric in metrics]
            scores = [
                {
                    label: {key: by_label[side].values[key] for key in keys}
                    for label, side in ((INPUT, BEFORE), (OUTPUT, AFTER))
                }
                for by_label in evaluation.scores
            ]
        return ResultManifest(
            title=title,
            columns=tuple(Column(label, self._words.get(label, label)) for label in self._labels),
            rows=tuple(
                Row(name, {label: f"{IMAGES}/{label}/{name}.png" for label in self._labels}, values)
                for name, values in zip(self._names, scores, strict=True)
            ),
            notes=notes,
            metrics=tuple(MetricColumn.of(metric, evaluation.protocol) for metric in metrics) if evaluation else (),
            before=INPUT,
            after=OUTPUT,
            target=TARGET,
        )
