"""The training loop of every model."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from util.engine.interrupt import Interrupt
from util.engine.run_folder import LATEST, Position, RunFolder
from util.engine.schedule import Schedule
from util.engine.stepper import Stepper
from util.errors import UserError
from util.images import to_uint8
from util.trackers.audience import Audience
from util.trackers.console import EpochBar
from util.trackers.tracker import Progress


class Loader(Protocol):
    """Training batches; see ``data.loader.TrainingLoader``."""

    @property
    def batch_size(self) -> int: ...
    @property
    def images_per_epoch(self) -> int: ...
    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Mapping[str, Any]]: ...


@dataclass(frozen=True)
class Frequencies:
    """How many images lie between two of each; epochs between two numbered checkpoints."""

    print_freq: int
    display_freq: int
    update_html_freq: int
    save_latest_freq: int
    save_epoch_freq: int
    save_by_iter: bool


def crossed(before: int, after: int, every: int) -> bool:
    """Whether a multiple of ``every`` lies in (before, after]: right for any batch size."""
    return before // every != after // every


class NotFinite(UserError):
    """A loss has become NaN or infinite, and with it the networks."""


class Training:
    """Runs epochs from a position to the schedule's end, reports to the audience and saves."""

    def __init__(
        self,
        stepper: Stepper,
        schedule: Schedule,
        loader: Loader,
        run: RunFolder,
        audience: Audience,
        every: Frequencies,
    ) -> None:
        self.stepper, self.schedule, self.loader = stepper, schedule, loader
        self.run_folder, self.audience, self.every = run, audience, every
        self._seconds_per_image: float | None = None
        self._watched = torch.zeros(())  # stays on the device, so that no step waits for it

    def run(self, position: Position) -> bool:
        """Train until the end (True) or until the user interrupts, after saving (False)."""
        with Interrupt() as interrupt:
            while position.epoch <= self.schedule.total_epochs:
                try:
                    self._run_epoch(position, interrupt)
                except UserError as error:
                    if not isinstance(error, NotFinite):  # a file that went missing costs no training
                        self._save(LATEST, position)
                    raise
                if interrupt.requested:
                    self._save(LATEST, position)
                    return False
                finished = position.epoch
                position.next_epoch()
                if finished % self.every.save_epoch_freq == 0:
                    self._save(str(finished), position)
                elif position.epoch > self.schedule.total_epochs:
                    self._save(LATEST, position)
        return True

    def _run_epoch(self, position: Position, interrupt: Interrupt) -> None:
        learning_rate = self.schedule.learning_rate(position.epoch)
        self.stepper.set_learning_rate(learning_rate)
        first_batch = position.first_batch(self.loader.batch_size, self.loader.images_per_epoch)
        batches = self.loader.epoch(position.epoch, first_batch)
        self._watched = torch.tensor(position.watched_loss, device=self.stepper.device)
        with EpochBar(
            position.epoch,
            self.schedule.total_epochs,
            self.loader.images_per_epoch,
            start_image=position.images_in_epoch,
            seconds_per_image_hint=self._seconds_per_image,
        ) as bar:
            for batch, data_seconds in _timed(batches):
                self._step(batch, data_seconds, position, bar)
                if interrupt.requested:
                    return
            if bar.images_per_second > 0:
                self._seconds_per_image = 1 / bar.images_per_second
        self.schedule.end_epoch(self._watched.item() / position.images_in_epoch)

    def _step(self, batch: Mapping[str, Any], data_seconds: float, position: Position, bar: EpochBar) -> None:
        images = len(batch["A"])
        before, after = position.total_images, position.total_images + images
        is_last = self._is_last(position, images)
        live = crossed(before, after, self.every.display_freq) or is_last
        page = crossed(before, after, self.every.update_html_freq) or is_last
        started = time.perf_counter()
        result = self.stepper.step(batch, before, want_visuals=live or page)
        self._watched += images * result.watched
        position.advance(images)
        bar.update(images=images, data_seconds=data_seconds, step_seconds=time.perf_counter() - started)
        progress = self._progress(position, bar)
        if crossed(before, after, self.every.print_freq) or is_last:
            values = {name: loss.item() for name, loss in result.losses.items()}
            self._check_finite(values, position)
            bar.show(values)
            self.audience.everyone.scalars(progress, values)
        if result.visuals:
            pictures = {label: np.asarray(to_uint8(image[0])) for label, image in result.visuals.items()}
            for group in (self.audience.live,) * live + (self.audience.page,) * page:
                group.images(progress, pictures)
        if crossed(before, after, self.every.save_latest_freq):
            self._save(f"iter_{after}" if self.every.save_by_iter else LATEST, position)

    def _is_last(self, position: Position, images: int) -> bool:
        """Whether this batch ends the training."""
        ends_epoch = position.images_in_epoch + images >= self.loader.images_per_epoch
        return ends_epoch and position.epoch == self.schedule.total_epochs

    def _progress(self, position: Position, bar: EpochBar) -> Progress:
        return Progress(
            epoch=position.epoch,
            total_epochs=self.schedule.total_epochs,
            images_in_epoch=position.images_in_epoch,
            images_per_epoch=self.loader.images_per_epoch,
            total_images=position.total_images,
            learning_rate=self.schedule.learning_rate(position.epoch),
            images_per_second=bar.images_per_second,
            data_wait=bar.data_wait,
        )

    def _check_finite(self, losses: Mapping[str, float], position: Position) -> None:
        for name, value in losses.items():
            if not math.isfinite(value):
                raise NotFinite(
                    f"the loss {name} is {value} in epoch {position.epoch}, after {position.total_images} images in "
                    f"all; the last saved state is kept: continue from it with a lower --lr, or look at the data."
                )

    def _save(self, tag: str, position: Position) -> None:
        watched = self._watched.item()
        self._check_finite({"sum of the generators' losses": watched}, position)
        position.watched_loss = watched if position.images_in_epoch else 0.0
        self.run_folder.save(tag, self.stepper, self.schedule, position)


def _timed(batches: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], float]]:
    """Each batch with the seconds that were spent waiting for it."""
    started = time.perf_counter()
    for batch in batches:
        yield batch, time.perf_counter() - started
        started = time.perf_counter()
