"""The page: its sections and its head, written by a template that escapes every text."""

from __future__ import annotations

import re
from datetime import UTC
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from ometria_replica.html_report import health, marketing
from ometria_replica.html_report.erd import draw, joins_of
from ometria_replica.html_report.parts import Grid, Section, moment, name
from ometria_replica.status_report import notes_of, problems_of, verdict
from ometria_replica.text import ago, counted, span
from ometria_replica.version import __version__

if TYPE_CHECKING:
    from ometria_replica.html_report.figures import Figures
    from ometria_replica.report import RunReport
    from ometria_replica.status_report import Status

GENERATOR = '<meta name="generator" content="ometria-replica report">'
"""By this line of its head, a page is known as one that may be overwritten."""


def as_html(figures: Figures) -> str:
    """Write the page: one file, without a script and without a reference to another file."""
    environment = Environment(
        loader=PackageLoader("ometria_replica.html_report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _with_code
    status = figures.status
    return environment.get_template(
        "page.html.j2"
    ).render(
        generator=Markup(GENERATOR),  # noqa: S704 -- a constant.
        version=__version__,
        written_at=f"{status.asked_at.astimezone(UTC):%A %-d %B %Y, %H:%M} UTC",
        status=status,
        accounts=", ".join(each.source_id for each in status.accounts),
        verdict=verdict(status),
        problems=[] if status.is_all_right else list(problems_of(status))[1:],
        notes=list(notes_of(status)),
        tiles=_tiles(figures),
        unasked=not figures.counts and not status.is_new,
        sections=sections(figures),
    )


def sections(figures: Figures) -> list[Section]:
    """Make the sections, in the order of the page."""
    return [
        health.tables(figures),
        health.runs(figures),
        marketing.email(figures),
        marketing.campaigns(figures),
        marketing.bounces(figures),
        marketing.unsubscribes(figures),
        marketing.lists(figures),
        marketing.consents(figures),
        health.rejects(figures),
        diagram(figures),
    ]


def diagram(figures: Figures) -> Section:
    """Show the tables and how they join."""
    joins = joins_of(figures.catalog)
    rows = tuple(
        (
            name(join.one),
            name(join.many),
            name("nearly: case and spaces may differ" if join.best_effort else "exactly"),
        )
        for join in joins
    )
    grid = Grid(("One row", "Many rows", "Match"), rows, names=3, summary="The joins, as a list")
    text = (
        "Lines join the columns that mean the same, from one row to many, always together with"
        " `__source_id`. Dashed lines match nearly: an address may differ in case and spaces or"
        " belong to several profiles, and a message has several events."
    )
    return Section("erd", "How the tables join", text, grids=(grid,), drawing=draw(figures.catalog))


def _tiles(figures: Figures) -> list[tuple[str, str, str]]:
    """List what the head says in numbers: a title, a value and a remark."""
    status = figures.status
    rows = sum(table.rows for table in status.tables)
    aside = sum(table.rejects for table in status.tables)
    moments = [each.complete_until for each in status.tables]
    least = min((time for time in moments if time), default=None) if all(moments) else None
    return [
        ("Rows", f"{rows:,}", f"in {counted(len(status.tables), 'table')}"),
        (
            "Complete up to",
            ago(status.asked_at - least) if least else "not yet",
            f"{moment(least)} UTC, the oldest table" if least else "some table was not read yet",
        ),
        _run_tile(status, status.last_run),
        ("Set aside", f"{aside:,}", "values, records or files" if aside else "nothing"),
    ]


def _run_tile(status: Status, run: RunReport | None) -> tuple[str, str, str]:
    if run is None:
        return ("Last run", "none", "no run has ended")
    took = span(run.finished_at - run.started_at)
    return ("Last run", run.outcome, f"{ago(status.asked_at - run.finished_at)}, in {took}")


def _with_code(text: str) -> Markup:
    """Escape a text, and mark up what is between backticks as code."""
    parts = re.split(r"`([^`]*)`", text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part)
        for place, part in enumerate(parts)
    )
