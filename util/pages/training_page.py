"""The page of a running training: pictures over time, curves, options and environment.

The page itself is written once a start; what changes comes out of :mod:`util.pages.training_data`, beside it.
"""

from __future__ import annotations

from itertools import groupby

from dominate import tags
from dominate.util import raw

from util.pages.html import add_scripts, new_document
from util.pages.run_facts import OptionFact, RunFacts
from util.pages.training_data import DATA_NAME

PAGE_NAME = "index.html"
STYLES = ("base.css", "training.css")
SCRIPTS = ("training_charts.js", "training_strip.js", "training.js")
WITHOUT_SCRIPTS = "Curves and pictures need JavaScript; the pictures are also in the folder images beside this page."


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
