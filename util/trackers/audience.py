"""Who hears of a training: the listeners that a run has, gathered once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from util.trackers.loss_files import CSV_NAME, LossFiles
from util.trackers.tracker import TrackerGroup
from util.trackers.visdom_tracker import connect_visdom
from util.trackers.web_page import WebPage


@dataclass(frozen=True)
class Audience:
    """Who hears what: all hear losses and metrics, ``live`` sees images often, ``page`` keeps some of them."""

    everyone: TrackerGroup
    live: TrackerGroup
    page: TrackerGroup


@dataclass(frozen=True)
class VisdomServer:
    """Where a Visdom server should be, and how it shows pictures; see :func:`connect_visdom`."""

    address: str
    port: int
    env: str
    ncols: int


def gather_audience(
    folder: Path,
    resumed_at: int | None,
    *,
    title: str,
    words: Mapping[str, str],
    web_page: bool,
    visdom: VisdomServer | None,
) -> Audience:
    """Everything that wants to hear of the training in ``folder``.

    ``resumed_at`` is the number of images after which a run goes on, None for a new one; ``words`` are headings
    for the images' labels.
    """
    files = LossFiles(folder, resumed_at)
    pages = [WebPage(folder, title, resumed_at, words)] if web_page else []
    tracker = None
    if visdom is not None:
        tracker = connect_visdom(
            visdom.address,
            visdom.port,
            visdom.env,
            visdom.ncols,
            losses_csv=None if resumed_at is None else folder / CSV_NAME,
            words=words,
        )
    live = [] if tracker is None else [tracker]
    return Audience(TrackerGroup([files, *pages, *live]), live=TrackerGroup(live), page=TrackerGroup(pages))
