"""Who hears of a training: the listeners that a run has, gathered once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from util.pages.run_facts import RunFacts
from util.trackers.loss_files import LossFiles
from util.trackers.tracker import TrackerGroup
from util.trackers.visdom_client import VisdomServer, announce
from util.trackers.visdom_tracker import VisdomTracker
from util.trackers.web_page import WebPage


@dataclass(frozen=True)
class Audience:
    """Who hears what: all hear losses and metrics, ``live`` sees images often, ``page`` keeps some of them."""

    everyone: TrackerGroup
    live: TrackerGroup
    page: TrackerGroup


def gather_audience(
    folder: Path,
    resumed_at: int | None,
    *,
    title: str,
    words: Mapping[str, str],
    web_page: bool,
    visdom: VisdomServer | None,
    facts: RunFacts | None = None,
) -> Audience:
    """Everything that wants to hear of the training in ``folder``.

    ``resumed_at`` is the number of images after which a run goes on, None for a new one; ``words`` are headings
    for the images' labels; ``facts`` are shown on the page.
    """
    files = LossFiles(folder, resumed_at)
    pages = [WebPage(folder, title, resumed_at, words, facts)] if web_page else []
    live = []
    if visdom is not None:
        announce(visdom)
        live.append(VisdomTracker(visdom, past=None if resumed_at is None else folder, words=words))
    return Audience(TrackerGroup([files, *pages, *live]), live=TrackerGroup(live), page=TrackerGroup(pages))
