"""The trackers that a run has."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from util.pages.training_page import RunFacts
from util.trackers.csv_files import CsvFiles
from util.trackers.page import WebPage
from util.trackers.tensorboard import TensorBoardTracker
from util.trackers.tracker import TENSORBOARD, WANDB, Tracker, Trackers
from util.trackers.visdom import VisdomServer, VisdomTracker, announce
from util.trackers.wandb import WandbTracker


def create_trackers(
    folder: Path,
    resumed_at: int | None,
    *,
    title: str,
    words: Mapping[str, str],
    web_page: bool,
    visdom: VisdomServer | None,
    facts: RunFacts | None = None,
    config: Mapping[str, Any] | None = None,
    optional: Collection[str] = (),
) -> Trackers:
    """The trackers of the training in ``folder``.

    ``resumed_at`` is the number of images at which a run resumes, None for a new one; ``words`` are headings for the
    images' labels; ``facts`` are shown on the page; ``config`` are the options' values, for W&B. ``optional`` names
    some of :data:`util.trackers.tracker.OPTIONAL_TRACKERS`.

    Raises:
        UserError: a file cannot be written, or an optional tracker cannot start.
    """
    facts = facts or RunFacts()
    trackers: list[Tracker] = [CsvFiles(folder, resumed_at)]
    if web_page:
        trackers.append(WebPage(folder, title, resumed_at, words, facts))
    if TENSORBOARD in optional:
        trackers.append(TensorBoardTracker(folder, resumed_at))
    if WANDB in optional:
        trackers.append(WandbTracker(folder, title, resumed_at, config or {}))
    live: list[Tracker] = []
    if visdom is not None:
        announce(visdom)
        past = None if resumed_at is None else folder
        live.append(VisdomTracker(visdom, past=past, words=words, protocol=facts.protocol))
    return Trackers(*trackers, live=live)
