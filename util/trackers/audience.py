"""Who hears of a training: the listeners that a run has, gathered once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from util.pages.run_facts import RunFacts
from util.trackers.loss_files import LossFiles
from util.trackers.tensorboard_tracker import TensorBoardTracker
from util.trackers.tracker import Tracker, TrackerGroup
from util.trackers.visdom_client import VisdomServer, announce
from util.trackers.visdom_tracker import VisdomTracker
from util.trackers.wandb_tracker import WandbTracker
from util.trackers.web_page import WebPage

TENSORBOARD, WANDB = "tensorboard", "wandb"
FURTHER_TRACKERS = (TENSORBOARD, WANDB)


@dataclass(frozen=True)
class Audience:
    """Who hears what: all hear losses and metrics, ``live`` sees images often, ``page`` keeps some of them."""

    everyone: TrackerGroup
    live: TrackerGroup
    page: TrackerGroup


def nobody() -> Audience:
    """For a process beside another one that reports."""
    return Audience(TrackerGroup([]), live=TrackerGroup([]), page=TrackerGroup([]))


def gather_audience(
    folder: Path,
    resumed_at: int | None,
    *,
    title: str,
    words: Mapping[str, str],
    web_page: bool,
    visdom: VisdomServer | None,
    facts: RunFacts | None = None,
    further: Collection[str] = (),
) -> Audience:
    """Everything that wants to hear of the training in ``folder``.

    ``resumed_at`` is the number of images after which a run goes on, None for a new one; ``words`` are headings
    for the images' labels; ``facts`` are shown on the page. ``further`` names some of :data:`FURTHER_TRACKERS`.

    Raises:
        UserError: a file cannot be written, or a further tracker cannot start.
    """
    facts = facts or RunFacts()
    files = LossFiles(folder, resumed_at)
    pages: list[Tracker] = [WebPage(folder, title, resumed_at, words, facts)] if web_page else []
    if TENSORBOARD in further:
        pages.append(TensorBoardTracker(folder, resumed_at))
    if WANDB in further:
        pages.append(WandbTracker(folder, title, resumed_at, {option.name: option.value for option in facts.options}))
    live = []
    if visdom is not None:
        announce(visdom)
        past = None if resumed_at is None else folder
        live.append(VisdomTracker(visdom, past=past, words=words, protocol=facts.protocol))
    return Audience(TrackerGroup([files, *pages, *live]), live=TrackerGroup(live), page=TrackerGroup(pages))
