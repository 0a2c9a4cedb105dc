"""The training loop of every model."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from util.engine.checkpoint import LATEST, Checkpointer, NullCheckpointer
from util.engine.distributed import SHARE, Distributed, LostProcess
from util.engine.nonfinite import STOP, LossWatch, NotFinite, Step, check_weights
from util.engine.oom import explain_oom
from util.engine.schedule import Progress
from util.engine.state import TrainingState
from util.engine.step import batch_images
from util.engine.stop import Deadline, Interrupt
from util.engine.validation import Validation
from util.files import CannotWrite
from util.images import to_uint8
from util.trackers.console import EpochBar
from util.trackers.tracker import Report, Trackers

logger = logging.getLogger(__name__)

LESS_MEMORY = (
    "lower --batch_size, --crop_size or --ngf, or try --precision bf16, and continue from the last save with "
    "--continue_train"
)
FINISHED = 0
"""What :meth:`Training.run` returns at the end; anything else is the exit code of what stopped it."""
_PATHS = "_paths"  # ends the names of a batch's lists of files

Stop = Callable[[], bool]
"""Whether the user wants to stop."""


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


class Loader(Protocol):
    """Training batches; see ``data.loader.TrainingLoader``."""

    def __len__(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def images_per_epoch(self) -> int: ...
    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Mapping[str, Any]]: ...


class Training:
    """Runs epochs from a position to the end, reports to the trackers, validates and saves.

    Where several processes train, all of them run this in step; only the main process's folder and trackers keep
    anything, and only the main process validates.
    """

    def __init__(
        self,
        state: TrainingState,
        loader: Loader,
        checkpointer: Checkpointer | NullCheckpointer,
        trackers: Trackers,
        every: Frequencies,
        validation: Validation | None = None,
        *,
        deadline: Deadline | None = None,
        on_nan: str = STOP,
        distributed: Distributed | None = None,
    ) -> None:
        """``deadline`` is when to be over, ``on_nan`` one of ``util.engine.nonfinite.ON_NAN``."""
        self._distributed = distributed or Distributed()
        self.state, self.loader, self.checkpointer = state, loader, checkpointer
        self.trackers, self.every, self.validation = trackers, every, validation
        self._seconds_per_image: float | None = None
        # The epoch's sum of the generators' losses; stays on the device, so that no step waits for it.
        self._loss_sum = torch.tensor(state.position.watched_loss, device=state.stepper.device)
        self._deadline, self._on_nan = deadline, on_nan
        self._losses = LossWatch(on_nan)
        self._is_amid_step, self._has_trained = False, False

    def run(self) -> int:
        """Train to the end (``FINISHED``), or until a signal or the deadline, after saving: its exit code.

        Raises:
            UserError: something went wrong; what was trained is saved, unless it is broken or cannot be.
        """
        position, total_epochs = self.state.position, self.state.total_epochs
        self.checkpointer.remember_options()
        with Interrupt(self._deadline, self._distributed) as interrupt:
            try:
                if not interrupt.main_process_does(self._begin_validation):
                    self._save(LATEST)  # as it is: nothing has been trained
                    return interrupt.exit_code
                while position.epoch <= total_epochs:
                    self._run_epoch(interrupt)
                    if interrupt.requested:
                        self._save(LATEST)
                        return interrupt.exit_code
                    position.next_epoch()
                    if position.finished_epoch() % self.every.save_epoch_freq == 0:
                        self._save(str(position.finished_epoch()))
                    elif position.epoch > total_epochs or (self.validation is not None and self.validation.pending):
                        self._save(LATEST)
                    # The state from before it is saved already, so an interruption leaves nothing to save.
                    if not interrupt.main_process_does(self._validate):
                        return interrupt.exit_code
            except Exception as error:
                self._rescue(error)
                raise
        return FINISHED

    def _run_epoch(self, interrupt: Interrupt) -> None:
        stepper, position = self.state.stepper, self.state.position
        first_batch = position.first_batch(self.loader.batch_size, self.loader.images_per_epoch)
        stepper.on_epoch(self._progress(first_batch))
        batches = self.loader.epoch(position.epoch, first_batch)
        self._loss_sum = torch.tensor(position.watched_loss, device=stepper.device)
        with EpochBar(
            position.epoch,
            self.state.total_epochs,
            self.loader.images_per_epoch,
            start_image=position.images_in_epoch,
            seconds_per_image_hint=self._seconds_per_image,
            terminal=None if self._distributed.is_main else False,
        ) as bar:
            for number, (batch, data_seconds) in enumerate(_timed(interrupt.together(batches)), first_batch):
                self._step(batch, self._progress(number), data_seconds, bar)
                if interrupt.requested:
                    return
            if bar.images_per_second > 0:
                self._seconds_per_image = 1 / bar.images_per_second
        if not interrupt.requested:
            stepper.end_epoch(self._loss_sum.item() / position.images_in_epoch)

    def _step(self, batch: Mapping[str, Any], progress: Progress, data_seconds: float, bar: EpochBar) -> None:
        position, stepper = self.state.position, self.state.stepper
        images = batch[SHARE].of if SHARE in batch else batch_images(batch)
        before, after = position.total_images, position.total_images + images
        is_last = self._is_last(images)
        live = crossed(before, after, self.every.display_freq) or is_last
        page = crossed(before, after, self.every.update_html_freq) or is_last
        started = time.perf_counter()
        self._is_amid_step = True
        with explain_oom(f"a step with {_in_words(batch)} does not fit", stepper.device, LESS_MEMORY):
            result = stepper.step(batch, progress, want_visuals=live or page)
        self._count(result.generator_loss, images)
        self._is_amid_step, self._has_trained = False, True
        self._losses.look(Step(position.epoch, after, _files(batch)), result.losses)
        seconds = time.perf_counter() - started
        self._observe("step", seconds)
        bar.update(images=images, data_seconds=data_seconds, step_seconds=seconds)
        report = self._report(position.epoch, position.images_in_epoch, stepper.learning_rate(progress), bar)
        if crossed(before, after, self.every.print_freq) or is_last:
            self._losses.settle()
            values = {name: loss.item() for name, loss in result.losses.items()}
            bar.show(values)
            self.trackers.scalars(report, values)
        if result.visuals:
            pictures = {label: np.asarray(to_uint8(image[0])) for label, image in result.visuals.items()}
            self.trackers.images(report, pictures, live=live, keep=page)
        if crossed(before, after, self.every.save_latest_freq):
            self._save(f"iter_{after}" if self.every.save_by_iter else LATEST)

    def _progress(self, batch: int) -> Progress:
        """Where the training stands before the epoch's batch of this number."""
        position, per_epoch, total_epochs = self.state.position, len(self.loader), self.state.total_epochs
        return Progress(
            images=position.total_images,
            step=(position.epoch - 1) * per_epoch + batch,
            total_steps=total_epochs * per_epoch,
            epoch=position.epoch,
            total_epochs=total_epochs,
            images_in_epoch=position.images_in_epoch,
        )

    def _report(self, epoch: int, images_in_epoch: int, learning_rate: float, bar: EpochBar | None = None) -> Report:
        speed = 1 / self._seconds_per_image if self._seconds_per_image else 0.0
        return Report(
            epoch=epoch,
            total_epochs=self.state.total_epochs,
            images_in_epoch=images_in_epoch,
            images_per_epoch=self.loader.images_per_epoch,
            total_images=self.state.position.total_images,
            learning_rate=learning_rate,
            images_per_second=speed if bar is None else bar.images_per_second,
            data_wait=0.0 if bar is None else bar.data_wait,
        )

    def _is_last(self, images: int) -> bool:
        """Whether this batch ends the training."""
        position = self.state.position
        ends_epoch = position.images_in_epoch + images >= self.loader.images_per_epoch
        return ends_epoch and position.epoch == self.state.total_epochs

    def _count(self, loss: torch.Tensor, images: int) -> None:
        """What a finished step adds to the position and to the sum of its epoch."""
        if self._on_nan != STOP:  # a step that was skipped adds nothing
            loss = loss.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        self._loss_sum += images * loss
        self.state.position.advance(images)

    def _begin_validation(self, stop: Stop) -> bool:
        """What validation needs before training, and one that an interruption left out; False if interrupted."""
        if self.validation is None:
            return True
        return self.validation.begin(stop) and self._validate(stop)

    def _validate(self, stop: Stop) -> bool:
        """The validation that belongs to this moment, if there is one to make; False if the user interrupts it."""
        if self.validation is None or not self.validation.pending:
            return True
        epoch = self.state.position.finished_epoch()
        values = self.validation.measure(stop)
        if values is None:
            return False
        last_step = Progress(epoch=epoch, step=epoch * len(self.loader) - 1,
                             total_epochs=self.state.total_epochs,
                             total_steps=self.state.total_epochs * len(self.loader))  # fmt: skip
        learning_rate = self.state.stepper.learning_rate(last_step)
        self.trackers.metrics(self._report(epoch, self.loader.images_per_epoch, learning_rate), values)
        self.checkpointer.save_state(self.state)
        self.checkpointer.save_best(self.state)
        return True

    def _save(self, tag: str) -> None:
        started = time.perf_counter()
        self._losses.settle()
        check_weights(self.state.stepper.model.nets)
        position = self.state.position
        position.watched_loss = self._loss_sum.item() if position.images_in_epoch else 0.0
        self.checkpointer.save(tag, self.state)
        self._observe("save", time.perf_counter() - started)

    def _rescue(self, error: Exception) -> None:
        """Save what was trained before an error such as a missing file, if it is whole and can be saved.

        After a lost process it may not be: its GPU may have left the others' waiting in the middle of the last step.
        """
        if not self._has_trained or self._is_amid_step or isinstance(error, (NotFinite, CannotWrite, LostProcess)):
            return
        try:
            self._save(LATEST)
        except Exception as further:
            logger.warning("what was trained since the last save is not saved: %s", further)

    def _observe(self, what: str, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.observe(what, seconds)


def _timed(batches: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], float]]:
    """Each batch with the seconds that were spent waiting for it."""
    started = time.perf_counter()
    for batch in batches:
        yield batch, time.perf_counter() - started
        started = time.perf_counter()


def _files(batch: Mapping[str, Any]) -> tuple[str, ...]:
    """The files that a batch came from."""
    return tuple(str(file) for key, files in batch.items() if key.endswith(_PATHS) for file in files)


def _in_words(batch: Mapping[str, Any]) -> str:
    """How many images of which size."""
    height, width = next(value for value in batch.values() if isinstance(value, torch.Tensor)).shape[-2:]
    return f"{batch_images(batch)} images of {width}×{height}"
