"""A training in Weights & Biases: offline and without an account, unless the environment says otherwise."""

from __future__ import annotations

import importlib
import logging
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from util.errors import UserError
from util.files import write_text_atomically
from util.trackers.tracker import Report

logger = logging.getLogger(__name__)

FOLDER = "wandb"
ID_NAME = "run_id.txt"
PROJECT = "deraining"
OFFLINE = "offline"


class WandbTracker:
    """Tracker that records a run in ``folder/wandb``; steps are images trained on.

    The package's own variables decide: ``WANDB_MODE=online`` sends while training (log in before), ``WANDB_PROJECT``
    names the project. A resumed run (``resumed_at`` is not None) continues under its id. ``config`` has the options'
    values, numbers as numbers.

    Raises:
        UserError: the package wandb is missing, or will not start.
    """

    def __init__(self, folder: Path, title: str, resumed_at: int | None, config: Mapping[str, Any]) -> None:
        try:
            wandb = importlib.import_module("wandb")
        except ImportError as error:
            raise UserError(
                f"--trackers wandb: the package cannot be imported ({error}); pip install wandb, or leave it out."
            ) from error
        self._make_image = wandb.Image
        mode = os.environ.get("WANDB_MODE", OFFLINE)
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                name=title,
                id=_run_id(folder / FOLDER / ID_NAME, is_new=resumed_at is None),
                resume=None if resumed_at is None or mode == OFFLINE else "allow",
                dir=folder,
                mode=mode,
                config=dict(config),
                settings=wandb.Settings(silent=True, console="off"),
            )
        except Exception as error:
            reason = " ".join(str(error).split())
            raise UserError(f"--trackers wandb: does not start ({reason}); fix that or leave it out.") from error
        if mode == OFFLINE:
            logger.info("W&B records offline; send it with: wandb sync %s", Path(self._run.dir).parent)

    def scalars(self, report: Report, values: Mapping[str, float]) -> None:
        """Record the losses as ``loss/NAME``, and the learning rate."""
        losses = {f"loss/{name}": value for name, value in values.items()}
        self._log(report, {**losses, "learning_rate": report.learning_rate, "epoch": report.position})

    def metrics(self, report: Report, values: Mapping[str, float]) -> None:
        """Record the metrics as ``validation/NAME``."""
        self._log(report, {f"validation/{name}": value for name, value in values.items()})

    def images(self, report: Report, images: Mapping[str, np.ndarray]) -> None:
        """Record pictures (uint8 [H, W], [H, W, 1] or [H, W, 3]) as ``pictures/LABEL``."""
        self._log(report, {f"pictures/{label}": self._make_image(image) for label, image in images.items()})

    def close(self) -> None:
        """Write what still waits."""
        self._run.finish()

    def _log(self, report: Report, values: Mapping[str, object]) -> None:
        self._run.log(dict(values), step=report.total_images)


def _run_id(path: Path, *, is_new: bool) -> str:
    """The id under which a resumed run began, or a new one, which is kept for later."""
    if not is_new and path.is_file() and (known := path.read_text(encoding="utf-8").strip()):
        return known
    new = secrets.token_hex(4)
    write_text_atomically(path, new + "\n")
    return new
