"""A training in TensorBoard: ``tensorboard --logdir checkpoints`` shows all runs that were asked for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from util.errors import UserError
from util.trackers.tracker import Report, put_aside

FOLDER = "tensorboard"
PREVIOUS_FOLDER = "tensorboard.previous"


class TensorBoardTracker:
    """Tracker that writes event files to ``folder/tensorboard``; steps are images trained on.

    ``resumed_at`` is the total number of images at the checkpoint a run continues from, or None for a new run. What a
    resumed run had written after its checkpoint is hidden, as it is written again; a new run keeps what it finds in
    ``folder/tensorboard.previous``.

    Raises:
        UserError: the package tensorboard is missing, or earlier files cannot be put aside.
    """

    def __init__(self, folder: Path, resumed_at: int | None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError(
                f"--trackers tensorboard: the package cannot be imported ({error}); pip install tensorboard, or leave "
                f"it out."
            ) from error
        if resumed_at is None:
            put_aside(folder / FOLDER, folder / PREVIOUS_FOLDER)
        self._writer = SummaryWriter(str(folder / FOLDER), purge_step=None if resumed_at is None else resumed_at + 1)

    def scalars(self, report: Report, values: Mapping[str, float]) -> None:
        """Write the losses as ``loss/NAME``, and the learning rate."""
        self._add("loss", report, values)
        self._writer.add_scalar("learning_rate", report.learning_rate, report.total_images)

    def metrics(self, report: Report, values: Mapping[str, float]) -> None:
        """Write the metrics as ``validation/NAME``."""
        self._add("validation", report, values)

    def images(self, report: Report, images: Mapping[str, np.ndarray]) -> None:
        """Write pictures (uint8 [H, W], [H, W, 1] or [H, W, 3]) as ``pictures/LABEL``."""
        for label, image in images.items():
            form = "HW" if image.ndim == 2 else "HWC"
            self._writer.add_image(f"pictures/{label}", image, report.total_images, dataformats=form)

    def close(self) -> None:
        """Write what still waits."""
        self._writer.close()

    def _add(self, group: str, report: Report, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, report.total_images)
