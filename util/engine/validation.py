"""Validation during training: whole images through the networks as in a test, compared with their ground truth."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from statistics import fmean
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from util.engine.inference import Translatable, Translator
from util.engine.records import CHOSEN_ON_TEST, TEST_SPLIT, EvalConfig
from util.engine.state import TrainingState
from util.images import to_uint8
from util.metrics.metric import DEFAULT_METRICS, Metric, Scorer, shown_metrics
from util.metrics.protocols import PROTOCOLS
from util.trackers.console import format_duration

logger = logging.getLogger(__name__)

DEFAULT_EVERY = 5  # epochs: as numbered checkpoints
SCORING_THREADS = 4  # each holds a score of float64 planes of one image
WAITING_PER_THREAD = 2  # translated images that may wait to be scored: enough to keep the threads busy
_DIGEST_LENGTH = 16  # hexadecimal digits of a hash

Values = dict[str, float]
"""Mean scores by metric."""
Stop = Callable[[], bool]
"""Whether the user wants to stop."""


class PairedImages(Protocol):
    """Whole images ``source`` with ground truth ``target``, [1, C, H, W] in [-1, 1]: ``data.datasets.TestDataset``."""

    @property
    def names(self) -> tuple[str, ...]: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...


class Validator:
    """Scores a model, and its input, on paired images under one protocol.

    The path is that of ``test.py``: :class:`Translator` in evaluation mode, whole images, 8 bits, and
    :class:`util.metrics.metric.Scorer`, averaged over the images.
    """

    def __init__(self, images: PairedImages, *, split: str, protocol: str) -> None:
        """``split`` is the phase that ``images`` come from; ``protocol`` the name of a protocol."""
        self._images, self._protocol = images, PROTOCOLS[protocol]
        names = "\n".join(images.names).encode("utf-8", errors="backslashreplace")
        digest = hashlib.sha256(names).hexdigest()[:_DIGEST_LENGTH]
        self.config = EvalConfig(split, protocol, len(images), digest)

    def score_model(self, model: Translatable, device: torch.device, precision: str, stop: Stop) -> Values | None:
        """Mean scores of the model's outputs; None if ``stop`` said so. Leaves the model as it was.

        Raises:
            UserError: an image cannot be read, or is too large for the memory.
        """
        with preserve_modes_and_rng(model.nets, device):
            translate = Translator(model, device=device, precision=precision)
            return self._mean(lambda item: translate(item.source), "validation", stop)

    def score_input(self, stop: Stop) -> Values | None:
        """Mean scores of the inputs themselves; None if ``stop`` said so.

        Raises:
            UserError: an image cannot be read.
        """
        return self._mean(lambda item: item.source, "validation: input", stop)

    def _mean(self, output_of: Callable[[Any], Tensor], title: str, stop: Stop) -> Values | None:
        """Mean over the images; scoring has threads of its own, as NumPy and SciPy let go of the interpreter."""
        score = Scorer(DEFAULT_METRICS, self._protocol)
        threads = min(SCORING_THREADS, os.cpu_count() or 1)
        waiting: deque[Future[Values]] = deque()
        scores: list[Values] = []
        pool = ThreadPoolExecutor(threads)
        try:
            for item in tqdm(
                self._images, desc=title, total=len(self._images), unit="image", leave=False, disable=None
            ):
                if stop():
                    return None
                pair = to_uint8(output_of(item)), to_uint8(item.target)
                waiting.append(pool.submit(score, *pair))
                if len(waiting) > WAITING_PER_THREAD * threads:
                    scores.append(waiting.popleft().result())
            while waiting and not stop():
                scores.append(waiting.popleft().result())
        finally:
            pool.shutdown(cancel_futures=True)
        if waiting:
            return None
        return {metric.key: fmean(each[metric.key] for each in scores) for metric in DEFAULT_METRICS}


class Validation:
    """Validates a training after every ``every`` epochs and after the last one, and keeps its records."""

    def __init__(self, state: TrainingState, validator: Validator, *, every: int) -> None:
        """Records in ``state`` that were measured otherwise start anew, with a warning."""
        self._state, self._validator, self._every = state, validator, every
        config = validator.config
        self._protocol = PROTOCOLS[config.protocol]
        self._shown = shown_metrics(self._protocol)
        self.anew = state.records.measure_by(config)
        """Whether there were validations before that were measured otherwise."""
        logger.info(
            "validation: %d pairs of the %s split, every %d epochs and at the end, protocol %s",
            *(config.images, config.split, every, config.protocol),
        )
        if config.split == TEST_SPLIT:
            logger.warning("validation: the best checkpoints are %s", CHOSEN_ON_TEST)

    @property
    def pending(self) -> bool:
        """Whether a validation belongs to this moment and has not been made."""
        epoch = self._state.position.finished_epoch()
        due = epoch > 0 and (epoch % self._every == 0 or epoch == self._state.total_epochs)
        return due and self._state.records.last_epoch != epoch

    def begin(self, stop: Stop) -> bool:
        """Before the training: learn how good the input itself is, unless that is known; False if ``stop`` said so."""
        records = self._state.records
        if not records.reference:
            values = self._validator.score_input(stop)
            if values is None:
                return False
            records.reference = values
            text = ", ".join(metric.labeled(values[metric.key], self._protocol) for metric in self._shown)
            logger.info("validation: the input itself has %s", text)
        return True

    def measure(self, stop: Stop) -> Values | None:
        """Score the networks, take that into the records and log it; None, and nothing else, if ``stop`` said so."""
        stepper, position, records = self._state.stepper, self._state.position, self._state.records
        epoch, started = position.finished_epoch(), time.perf_counter()
        with stepper.ema_scope():
            values = self._validator.score_model(stepper.model, stepper.device, stepper.precision, stop)
        if values is None:
            return None
        improved = records.add(values, epoch=epoch, total_images=position.total_images)
        took = format_duration(time.perf_counter() - started)
        details = ", ".join(self._beside_best(metric, metric.key in improved) for metric in self._shown)
        logger.info("validation of epoch %d (%s): %s", epoch, took, details)
        return values

    def _beside_best(self, metric: Metric, improved: bool) -> str:
        records = self._state.records
        best, text = records.best.get(metric.key), metric.labeled(records.last[metric.key], self._protocol)
        if improved or best is None:
            return f"{text} (best)" if improved else text
        return f"{text} (best {metric.text(best.value)}, epoch {best.epoch})"


@contextlib.contextmanager
def preserve_modes_and_rng(nets: Mapping[str, nn.Module], device: torch.device) -> Iterator[None]:
    """Afterwards the networks are in the modes in which they were, and random numbers as if nothing had happened."""
    modes = {module: module.training for network in nets.values() for module in network.modules()}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
