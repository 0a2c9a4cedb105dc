"""What a training shows in the terminal: one bar an epoch, or plain log lines where there is no terminal."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 5.0
DATA_WAIT_LIMIT = 0.2
UPDATES_FOR_HINT = 10  # fewer are too few to blame the loader
BAR_FORMAT = "{desc} {percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt}{postfix}"
MINUTE, HOUR, DAY = 60, 3600, 86400


def format_duration(seconds: float) -> str:
    """Write a time span in its two largest units: ``"45s"``, ``"3m 20s"``, ``"14h 05m"``, ``"2d 03h"``."""
    if not math.isfinite(seconds):
        return "?"
    whole = max(0, round(seconds))
    if whole < MINUTE:
        return f"{whole}s"
    if whole < HOUR:
        return f"{whole // MINUTE}m {whole % MINUTE:02d}s"
    if whole < DAY:
        return f"{whole // HOUR}h {whole % HOUR // MINUTE:02d}m"
    return f"{whole // DAY}d {whole % DAY // HOUR:02d}h"


def _has_terminal() -> bool:
    """Whether standard error is a terminal that says how wide it is; without a width a bar would be invisible."""
    try:
        return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except (OSError, ValueError):
        return False


class EpochBar:
    """Progress of one epoch, used as a context manager around its steps.

    Shows images per second, the share of time spent waiting for data, losses and two estimates of the time left:
    for this epoch and for the whole training. Speeds are measured by wall clock, so saving and plotting count;
    the first step, which warms up workers and compilers, does not (unless it is the only one). Only an epoch whose
    images were all seen is called done: one that an interruption ends early is not.
    """

    def __init__(
        self,
        epoch: int,
        total_epochs: int,
        images_per_epoch: int,
        start_image: int = 0,
        seconds_per_image_hint: float | None = None,
        *,
        terminal: bool | None = None,
        seconds_between_lines: float = SECONDS_BETWEEN_LINES,
        data_wait_hint: bool = True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """``epoch`` counts from 1; ``start_image`` is where in the epoch a resumed run continues.

        ``seconds_per_image_hint`` (from the epoch before) serves the estimates until this epoch has a speed of its own.
        ``terminal`` None asks standard error; without a terminal :meth:`show` logs a line, at most one every
        ``seconds_between_lines``. ``data_wait_hint`` False leaves out the advice about ``--num_threads``.
        """
        self._epoch, self._total_epochs, self._images_per_epoch = epoch, total_epochs, images_per_epoch
        self._start_image, self._images = start_image, start_image
        self._hint = seconds_per_image_hint
        self._terminal = _has_terminal() if terminal is None else terminal
        self._seconds_between_lines, self._data_wait_hint, self._clock = seconds_between_lines, data_wait_hint, clock
        self._began = clock()
        self._now = self._began
        self._last_line = -math.inf
        self._updates = 0
        self._data_seconds = self._step_seconds = 0.0
        self._warm_up = (0, 0.0, 0.0, 0.0)  # images, wall seconds, data seconds, step seconds of the first step
        self._losses = ""
        self._bar: tqdm[Any] | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> EpochBar:
        self._began = self._now = self._clock()
        if self._terminal:
            self._stack.enter_context(logging_redirect_tqdm())
            self._bar = self._stack.enter_context(
                tqdm(
                    total=self._images_per_epoch,
                    initial=self._start_image,
                    desc=f"epoch {self._epoch}/{self._total_epochs}",
                    unit="img",
                    bar_format=BAR_FORMAT,
                    dynamic_ncols=True,
                )
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(self._status())
        self._stack.close()
        if kind is not None or self._updates == 0:
            return
        if not self._terminal and self._images >= self._images_per_epoch:
            took = format_duration(self._now - self._began)
            logger.info("%s done in %s, %s", self._heading(), took, self._status())
        if self._data_wait_hint and self._updates >= UPDATES_FOR_HINT and self.data_wait > DATA_WAIT_LIMIT:
            logger.warning(
                "In epoch %d the training waited for data %.0f %% of the time; "
                "a higher --num_threads loads images faster.",
                self._epoch,
                100 * self.data_wait,
            )

    def update(self, *, images: int, data_seconds: float, step_seconds: float) -> None:
        """Count one step of ``images`` images: seconds waited for its data and seconds it computed."""
        self._images += images
        self._updates += 1
        self._data_seconds += data_seconds
        self._step_seconds += step_seconds
        self._now = self._clock()
        if self._updates == 1:
            self._warm_up = (images, self._now - self._began, data_seconds, step_seconds)
        if self._bar is not None:
            self._bar.set_postfix_str(self._status(), refresh=False)
            self._bar.update(images)

    def show(self, losses: Mapping[str, float]) -> None:
        """Show these losses: in the bar from now on, or in a log line if the last one is long enough ago."""
        self._losses = " ".join(f"{name} {value:.3g}" for name, value in losses.items())
        if self._bar is not None:
            self._bar.set_postfix_str(self._status())
        elif self._clock() - self._last_line >= self._seconds_between_lines:
            self._last_line = self._clock()
            logger.info("%s: %d/%d, %s", self._heading(), self._images, self._images_per_epoch, self._status())

    @property
    def images_per_second(self) -> float:
        """Images trained on per second of wall clock in this epoch; before the first step from the hint, or 0."""
        images, seconds = self._images - self._start_image, self._now - self._began
        if self._updates > 1:
            images, seconds = images - self._warm_up[0], seconds - self._warm_up[1]
        if images > 0 and seconds > 0:
            return images / seconds
        return 1 / self._hint if self._hint else 0.0

    @property
    def data_wait(self) -> float:
        """Share (0 to 1) of the measured time of this epoch that was spent waiting for data."""
        data, step = self._data_seconds, self._step_seconds
        if self._updates > 1:
            data, step = data - self._warm_up[2], step - self._warm_up[3]
        return data / (data + step) if data + step > 0 else 0.0

    @property
    def seconds_left_in_epoch(self) -> float:
        """Estimated seconds until this epoch ends; infinite while the speed is not known."""
        return self._seconds_for(self._images_per_epoch - self._images)

    @property
    def seconds_left_in_training(self) -> float:
        """Estimated seconds until the last epoch ends; infinite while the speed is not known."""
        later = (self._total_epochs - self._epoch) * self._images_per_epoch
        return self._seconds_for(self._images_per_epoch - self._images + later)

    def _seconds_for(self, images: int) -> float:
        rate = self.images_per_second
        return max(images, 0) / rate if rate > 0 else math.inf

    def _heading(self) -> str:
        return f"epoch {self._epoch}/{self._total_epochs}"

    def _status(self) -> str:
        speed = f"{self.images_per_second:.3g} img/s, data wait {self.data_wait:.0%}"
        epoch, training = format_duration(self.seconds_left_in_epoch), format_duration(self.seconds_left_in_training)
        left = f"left: epoch {epoch}, training {training}"
        return ", ".join(part for part in (speed, left, self._losses) if part)
