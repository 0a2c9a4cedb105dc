"""The page of a running training: pictures over time, curves, options and environment.

The page itself is written once per start. What changes is a small script next to it, which the open page reloads: a
page opened from ``file://`` may not read other files, but it may load scripts, so the data is one function call. The
pictures are also listed in ``manifest.json``, from which a resumed run continues.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from dominate import tags
from dominate.util import raw

from util.files import write_text_atomically
from util.metrics.metric import shown_metrics
from util.metrics.protocols import PROTOCOLS
from util.pages.html import add_scripts, new_document
from util.pages.manifest import MANIFEST_NAME, is_inside

PAGE_NAME = "index.html"
STYLES = ("base.css", "training.css")
SCRIPTS = ("training.js",)
WITHOUT_SCRIPTS = "Curves and pictures need JavaScript; the pictures are also in the folder images next to this page."
DATA_NAME = "data.js"
RUNNING, FINISHED, STOPPED = "running", "finished", "stopped"
DIGITS = 5  # significant ones, more than a curve can show
MOMENTS_VERSION = 1
DEFAULT_PROTOCOL = "y"


@dataclass(frozen=True)
class OptionFact:
    """One option of a run: its ``value`` and ``default`` as a user would type them, its heading and its help."""

    name: str
    value: str
    default: str
    group: str
    help: str = ""

    @property
    def changed(self) -> bool:
        """Whether the run has another value than it would have had by itself."""
        return self.value != self.default


@dataclass(frozen=True)
class RunFacts:
    """The command line, the options in the order of their headings, the environment (name -> value) and the protocol
    of the validations."""

    command: str = ""
    options: tuple[OptionFact, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    protocol: str = DEFAULT_PROTOCOL


def render_training_page(title: str, facts: RunFacts, start: str) -> str:
    """Return the page as HTML. ``start`` identifies the start of the program that the page belongs to."""
    page = new_document(title, STYLES)
    page.body["data-start"] = start
    header = page.body.add(tags.header())
    with header:
        with tags.div(cls="title"):
            tags.h1(title)
            tags.span(cls="state", id="state", role="status")
        tags.div(tags.div(id="done"), cls="bar", role="progressbar", id="bar", aria_label="Share of the training done")
        tags.p(id="facts", cls="subtitle")
    main = page.body.add(tags.main())
    with main:
        tags.noscript(tags.p(WITHOUT_SCRIPTS))
        _pictures()
        tags.section(tags.h2("Validation"), tags.div(cls="charts wide"), id="metrics", hidden=True)
        _losses()
        if facts.options:
            _options(facts)
        if facts.environment:
            _environment(facts)
    add_scripts(page, SCRIPTS)
    page.body.add(tags.script(src=DATA_NAME))
    return str(page.render(pretty=False))


def _pictures() -> None:
    with tags.section(id="pictures", hidden=True):
        with tags.div(cls="heading"):
            tags.h2("Pictures")
            tags.output(id="moment", cls="when", for_="time")
        with tags.div(cls="strip-controls"):
            tags.button("‹", type="button", id="earlier", aria_label="Earlier pictures", title="Earlier")
            tags.input_(
                type="range", id="time", min="0", max="0", value="0", step="1", aria_label="Time of the training"
            )
            tags.button("›", type="button", id="later", aria_label="Later pictures", title="Later")
            tags.button("Play", type="button", id="play")
        tags.div(cls="pictures", id="strip")


def _losses() -> None:
    with tags.section(id="losses", hidden=True):
        with tags.div(cls="heading"):
            tags.h2("Losses")
            with tags.div(cls="tools"):
                tags.label("Smoothing ", tags.input_(type="range", id="smooth", min="0", max="1", step="0.05"))
                tags.label(tags.input_(type="checkbox", id="log"), " Log scale")
                with tags.label("Show "), tags.select(id="range"):
                    tags.option("whole run", value="1")
                    tags.option("last half", value="0.5")
                    tags.option("last tenth", value="0.1")
        tags.div(cls="charts")


def _options(facts: RunFacts) -> None:
    changed = [option for option in facts.options if option.changed]
    with tags.section(id="options"):
        with tags.div(cls="heading"):
            tags.h2("Options")
            tags.input_(type="search", id="find", placeholder="Find an option", aria_label="Find an option")
        if facts.command:
            tags.pre(tags.code(facts.command), cls="command")
        if changed:
            tags.h3("Other than the defaults")
            _option_table(changed)
        with tags.details(id="all-options"):
            tags.summary(f"All {len(facts.options)} options")
            for group, options in groupby(facts.options, key=lambda option: option.group):
                with tags.div(cls="group"):
                    tags.h3(group)
                    _option_table(list(options))
        tags.p("No option is called so.", id="none-found", hidden=True)


def _option_table(options: list[OptionFact]) -> None:
    with tags.div(cls="table"), tags.table(), tags.tbody():
        for option in options:
            row = tags.tr(tags.th(tags.code(f"--{option.name}"), scope="row"))
            value = row.add(tags.td(option.value, cls="value"))
            if option.changed:
                row["class"] = "changed"
                value.add(" ", tags.span(f"instead of {option.default}", cls="default"))
            row.add(tags.td(option.help, cls="help"))


def _environment(facts: RunFacts) -> None:
    with tags.section(id="environment"):
        tags.h2("Environment")
        with tags.dl():
            for name, value in facts.environment.items():
                tags.div(tags.dt(name), tags.dd(value))
    tags.footer(raw("&nbsp;"))


@dataclass(frozen=True)
class Curves:
    """Numbers over epochs as P points.

    ``positions`` has shape [P] and counts epochs (2.5 is the middle of epoch 3). ``values`` maps a name to the
    mean over each point's reports, shape [P]; NaN where it was not reported or not finite.
    """

    positions: np.ndarray
    values: Mapping[str, np.ndarray]


def render_training_data(
    status: Mapping[str, Any],
    losses: Curves,
    metrics: Curves,
    moments: Iterable[str],
    protocol: str,
    words: Mapping[str, str],
) -> str:
    """Return the script.

    ``status`` is data for the page's head (see :class:`util.trackers.page.WebPage`), ``moments`` what
    :meth:`Moment.to_json` returned, oldest first; ``protocol`` is that of
    the metrics, ``words`` are headings of the labels.
    """
    shown = shown_metrics(PROTOCOLS[protocol], metrics.values)
    about = {
        metric.key: {
            "heading": metric.heading(PROTOCOLS[protocol]),
            "unit": metric.unit,
            "higher": metric.higher_is_better,
            "digits": metric.digits,
        }
        for metric in shown
    }
    metrics = Curves(metrics.positions, {metric.key: metrics.values[metric.key] for metric in shown})
    parts = {
        "status": json.dumps(status),
        "losses": _curves(losses),
        "metrics": _curves(metrics),
        "about": json.dumps(about),
        "words": json.dumps(dict(words)),
        "moments": "[" + ",\n".join(moments) + "]",
    }
    body = ",\n".join(f'"{name}": {text}' for name, text in parts.items())
    return f"trainingData({{\n{body}\n}});\n"


def _curves(curves: Curves) -> str:
    values = ", ".join(f"{json.dumps(name)}: {_numbers(numbers)}" for name, numbers in curves.values.items())
    return f'{{"positions": {_numbers(curves.positions)}, "values": {{{values}}}}}'


def _numbers(values: np.ndarray) -> str:
    """A JSON list; what is not finite, which JSON cannot say, becomes null."""
    return "[" + ",".join(f"{value:.{DIGITS}g}" if math.isfinite(value) else "null" for value in values.tolist()) + "]"


@dataclass(frozen=True)
class Picture:
    """A picture's file, relative to the page's folder and with ``/``, and its size in pixels."""

    path: str
    width: int
    height: int


@dataclass(frozen=True)
class Moment:
    """Pictures (label -> picture) from one moment of a training; ``epoch`` counts from 1."""

    epoch: int
    images_in_epoch: int
    total_images: int
    pictures: Mapping[str, Picture]

    def to_json(self) -> str:
        """The moment as one line of JSON."""
        pictures = {
            label: {"path": picture.path, "width": picture.width, "height": picture.height}
            for label, picture in self.pictures.items()
        }
        return json.dumps(
            {
                "epoch": self.epoch,
                "images_in_epoch": self.images_in_epoch,
                "total_images": self.total_images,
                "pictures": pictures,
            }
        )


def save_moments(folder: Path, moments: Iterable[str]) -> None:
    """Write ``folder/manifest.json`` from what :meth:`Moment.to_json` returned, oldest first."""
    lines = ",\n".join(moments)
    write_text_atomically(folder / MANIFEST_NAME, f'{{"version": {MOMENTS_VERSION}, "moments": [\n{lines}\n]}}\n')


def load_moments(folder: Path) -> list[Moment]:
    """Read back what :func:`save_moments` wrote, oldest first; an absent file is an empty list.

    Raises:
        ValueError: the file is damaged or of another version.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        return []
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["version"] != MOMENTS_VERSION:
            raise ValueError(f"version {data['version']} instead of {MOMENTS_VERSION}")
        moments = [
            Moment(**{**moment, "pictures": {label: Picture(**item) for label, item in moment["pictures"].items()}})
            for moment in data["moments"]
        ]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: not a readable manifest of a training page ({error})") from error
    if any(not is_inside(picture.path) for moment in moments for picture in moment.pictures.values()):
        raise ValueError(f"{path}: names a file outside its folder")
    return moments
