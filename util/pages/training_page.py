"""The page of a running training: loss curves and intermediate pictures, newest first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from dominate import tags
from dominate.util import raw

from util.pages.curves import curve_figure
from util.pages.html import column_heading, image_address, new_document
from util.pages.labels import LABEL_WORDS
from util.pages.training_manifest import Moment

PAGE_NAME = "index.html"
STYLES = ("base.css", "training.css")


def render_moment(moment: Moment, words: Mapping[str, str] = LABEL_WORDS) -> str:
    """Return the HTML of one moment's pictures. ``words`` maps technical labels to headings in words."""
    heading = tags.h2(f"Epoch {moment.epoch}", " ", tags.span(f"after {moment.images_in_epoch:,} images", cls="when"))
    grid = tags.div(cls="pictures")
    for label, picture in moment.pictures.items():
        address = image_address(picture.path)
        heading_words = words.get(label, label)
        image = tags.img(
            src=address,
            alt=f"{heading_words}, epoch {moment.epoch}",
            width=str(picture.width),
            height=str(picture.height),
            loading="lazy",
            decoding="async",
        )
        caption = tags.figcaption(column_heading(label, heading_words) if label in words else tags.code(label))
        grid.add(tags.figure(tags.a(image, href=address), caption))
    return str(tags.article(heading, grid, cls="moment").render(pretty=False))


def render_training_page(
    title: str,
    status: Sequence[str],
    moments: Iterable[str],
    positions: np.ndarray | None = None,
    losses: Mapping[str, np.ndarray] | None = None,
) -> str:
    """Return the page as HTML.

    ``status`` holds short facts for the line below the title, ``moments`` what :func:`render_moment` returned in the
    order to show. ``losses`` maps names to values of shape [P] at ``positions`` (epochs, shape [P]).
    """
    page = new_document(title, STYLES)
    header = page.body.add(tags.header(tags.h1(title)))
    if status:
        header.add(tags.p(" · ".join(status), cls="subtitle"))
    main = page.body.add(tags.main())
    if positions is not None and losses:
        figures = [curve_figure(name, positions, values) for name, values in losses.items()]
        charts = [figure for figure in figures if figure is not None]
        main.add(tags.section(charts, cls="charts", aria_label="Losses"))
    parts = list(moments)
    main.add(tags.section(raw("".join(parts)) if parts else tags.p("No pictures yet."), aria_label="Pictures"))
    return str(page.render(pretty=False))
