"""`report --html` writes one file that any browser shows, and that holds nobody's data."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ometria_replica.cli import pages
from ometria_replica.errors import ConfigError, OmetriaError
from ometria_replica.html_report import writing
from ometria_replica.html_report.charts import Bar, bars, steps
from ometria_replica.html_report.erd import draw, joins_of
from ometria_replica.html_report.figures import DayOfRuns, read_figures
from ometria_replica.html_report.page import GENERATOR, as_html
from ometria_replica.html_report.periods import Period
from ometria_replica.html_report.writing import write_page
from ometria_simulator import Fault, serve
from tests.duck import opened
from tests.e2e.program import api_env, invoke
from tests.incremental.shops import DAY, HOUR, NOON, account, config, replicate, small_shop
from tests.pages_shown import (
    HOSTILE,
    MARKS,
    Shown,
    settings_of,
    shop_with_everything,
    write_events,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ometria_replica.html_report.figures import Figures
    from ometria_simulator import Server

KNOWN = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "footer", "nav"),
    *("section", "h1", "h2", "p", "ul", "li", "dl", "dt", "dd", "div", "span", "b", "i", "code"),
    *("small", "a", "table", "thead", "tbody", "tr", "th", "td", "details", "summary"),
    *("figure", "figcaption", "svg", "defs", "pattern", "rect", "g", "path", "line", "text"),
}
"""The elements of a page: none of them runs a script, loads a file, or sends anything."""

TODAY = NOON.date()


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    """Read the figures of a shop that has something for each, after a failed run."""
    folder = tmp_path_factory.mktemp("page")
    file = folder / "warehouse.duckdb"
    write_events(folder / "feed")
    with serve(shop_with_everything(), requests_per_second=None) as server:
        accounts = settings_of(server, folder / "feed")
        replicate(file, *accounts, at=NOON - 2 * DAY)
        server.faults.next("/v2/lists", Fault(status=403))
        with pytest.raises(OmetriaError):
            replicate(file, *accounts, at=NOON - DAY)
        server.faults.clear()
        replicate(file, *accounts, at=NOON - DAY)
    found = read_figures(config(file, *accounts), days=365, clock=lambda: NOON)
    with opened(file) as connection:
        runs = connection.execute("""
            SELECT started_at::DATE, count(*), count(*) FILTER (outcome <> 'succeeded'),
              sum((SELECT sum((t->>'requests')::INT) FROM (
                SELECT unnest(from_json(report->'tables', '["JSON"]')) AS t))),
              sum((SELECT sum((t->>'inserted')::INT + (t->>'updated')::INT) FROM (
                SELECT unnest(from_json(report->'tables', '["JSON"]')) AS t)))
            FROM ometria_replica.runs GROUP BY 1""").fetchall()
    assert found.runs == {day: _day(*map(int, counts)) for day, *counts in runs}
    assert [one.failed for one in found.runs.values()] == [0, 1]
    return found


def _day(runs: int, failed: int, requests: int, rows: int) -> DayOfRuns:
    """Name what SQL counts. The clock of these runs stands still."""
    return DayOfRuns(runs, failed, requests, rows, 0.0)


@pytest.fixture(scope="module")
def page(figures: Figures) -> str:
    """Write the page of these figures."""
    return as_html(figures)


def test_a_page_runs_nothing_and_loads_nothing(page: str) -> None:
    """Whatever titles hold: only known elements, links within the page, and a policy."""
    elements = Shown(page).elements

    assert {name for name, _ in elements} <= KNOWN
    assert {name for _, attrs in elements for name in attrs if name.startswith("on")} == set()
    links = [attrs[name] for _, attrs in elements for name in ("href", "src") if name in attrs]
    assert links
    assert all(link and link.startswith("#") for link in links)
    assert set(re.findall(r"url\(([^)]*)\)", page)) == {"#hatch", "#shade"}
    assert "default-src 'none'" in page
    assert page.count(GENERATOR) == 1


def test_hostile_text_is_shown_as_text(page: str) -> None:
    """In the title of a campaign, the title of a list, and the reason of an unsubscribe."""
    shown = Shown(page)
    short = HOSTILE[:40]

    assert any(row[0].startswith(short) for row in shown.rows("campaigns"))
    assert any(row[0].startswith(short) for row in shown.rows("lists"))
    assert any(head.startswith(short) for head in shown.tables["unsubscribes"][0][0])


def test_a_page_holds_no_data_of_people(page: str) -> None:
    """Each value of a person had a mark; an address that a user wrote in a title is masked."""
    assert not [mark for mark in MARKS if mark in page]
    assert "@example.com" not in page
    assert "[address]" in page


def test_each_chart_is_sound_and_has_its_numbers_in_a_table(page: str, figures: Figures) -> None:
    """Charts are images with a description; each section with charts has a folded table."""
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ET.fromstring(svg)
    for section in re.findall(r"<section.*?</section>", page, re.DOTALL):
        if "<figure" in section:
            assert "<details>" in section
            assert section.count("<figure") == section.count('role="img" aria-label="')
            assert 'aria-label=""' not in section
    assert sum(each.failed for each in figures.runs.values()) == 1
    assert "1 did not succeed (hatched)" in Shown(page).text


def test_a_warehouse_without_rows_says_so(server: Server, tmp_path: Path) -> None:
    """Before the first sync, and where a table is missing or has no rows."""
    one = account(server)
    new = config(tmp_path / "w.duckdb", one)
    before = Shown(as_html(read_figures(new, days=30, clock=lambda: NOON)))
    replicate(tmp_path / "w.duckdb", one, at=NOON, tables=["lists"])
    some = Shown(as_html(read_figures(new, days=30, clock=lambda: NOON + HOUR)))

    assert "Not all right: no sync has run here yet." in before.text
    assert "No run in this time." in before.text
    assert "member_lists has no rows yet, or is not replicated." in before.text
    assert [row[0] for row in some.rows("tables")] == [
        *("profiles", "member_lists", "lists", "unsubscribes"),
    ]
    assert "email_events has no rows yet, or is not replicated." in some.text
    assert "Nothing is set aside." in some.text
    assert not (tmp_path / "w.duckdb.wal").exists()


def test_a_warehouse_that_is_not_queried_has_a_page_all_the_same(figures: Figures) -> None:
    """With its tables and runs, and a sentence in place of each other figure."""
    shown = Shown(as_html(replace(figures, counts=False, rows={})))

    assert len(shown.rows("tables")) == 9
    assert len(shown.rows("runs")) == 2
    assert shown.text.count("runs no queries in this kind of warehouse") == 7


def test_a_page_replaces_only_an_earlier_page(tmp_path: Path) -> None:
    """Any other file, a folder and a link stay as they are."""
    file = tmp_path / "page.html"
    write_page(file, f"<!doctype html>{GENERATOR}1")
    write_page(file, f"<!doctype html>{GENERATOR}2")
    assert file.read_text().endswith("2")

    other, link = tmp_path / "mine.html", tmp_path / "link.html"
    other.write_text("<html>mine")
    link.symlink_to(file)
    for place in (other, link, tmp_path):
        with pytest.raises(ConfigError, match="Nothing was overwritten"):
            write_page(place, GENERATOR)
    with pytest.raises(ConfigError, match="cannot be written"):
        write_page(tmp_path / "no" / "page.html", GENERATOR)
    assert other.read_text() == "<html>mine"
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        *("link.html", "mine.html", "page.html"),
    ]


def test_the_command_writes_a_page_or_prints_it(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And refuses a file that is something else before it reads the warehouse."""
    env = api_env(server, tmp_path / "w.duckdb")
    file = tmp_path / "page.html"
    written = invoke("report", "--html", str(file), "--days", "7", env=env)
    printed = invoke("report", "--html", "-", env=env)

    assert written.output == f"Wrote {file}. Open it in a browser.\n"
    assert file.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert printed.output.startswith("<!doctype html>")
    assert invoke("report", env=env).exit_code == 2
    told = json.loads(invoke("report", "--html", str(file), "--json", env=env).output)
    assert told == {
        "schema": "ometria-replica/report/1",
        "file": str(file),
        "bytes": file.stat().st_size,
        "asked_at": told["asked_at"],
        "all_right": False,
        "verdict": "Not all right: no sync has run here yet. Run `ometria-replica sync`.",
    }
    assert invoke("report", "--html", "-", "--json", env=env).exit_code == 2

    file.write_text("mine")
    monkeypatch.setattr(writing, "write_figures", lambda *_: pytest.fail("It was read."))
    refused = invoke("report", "--html", str(file), env=env)
    assert isinstance(refused.exception, ConfigError)

    monkeypatch.setattr(pages, "find_spec", lambda _: None)
    lacking = invoke("report", "--html", str(file), env=env)
    assert str(lacking.exception) == (
        "The report needs more packages: pip install 'ometria-replica[report]'."
    )


@given(
    days=st.integers(1, 3_000),
    last=st.dates(date(2020, 1, 1), date(2030, 1, 1)),
    counts=st.lists(st.tuples(st.integers(-50, 3_500), st.integers(0, 9)), max_size=30),
)
def test_the_steps_of_a_period_hold_each_day_once(
    days: int, last: date, counts: list[tuple[int, int]]
) -> None:
    """No day is lost or counted twice, and a shorter period counts its days the same."""
    period = Period.ending(last, days)
    by_day = [(last - timedelta(days=age), count) for age, count in counts]
    sums = period.sums(by_day)
    shorter = period.from_first(day for day, _ in by_day)

    assert list(sums) == period.starts()
    assert period.first <= last - timedelta(days=days - 1)
    assert period.start(last) == period.starts()[-1]
    assert sum(sums.values()) == sum(c for day, c in by_day if period.first <= day <= last)
    assert sums.items() >= shorter.sums(by_day).items()
    assert sum(shorter.sums(by_day).values()) == sum(sums.values())


def drawings(days: int) -> Iterator[str]:
    """Draw charts of a period with nothing, with ones, and with more than a million."""
    period = Period.ending(TODAY, days)
    for value in (0, 1, 3_000_000):
        yield bars(period, [Bar(day, value, value // 2) for day in period.starts()])
        yield steps(period, [(day, value) for day in period.starts()])


@pytest.mark.parametrize("days", [1, 60, 365, 3_650])
def test_the_axes_name_whole_numbers_and_days(days: int) -> None:
    """No half of an event, and no hour of a day."""
    for svg in drawings(days):
        texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
        values = [text for text in texts if re.fullmatch(r"[\d.,]+[kMG]?", text)]
        assert "0" in values
        assert not [text for text in values if "." in text and text[-1].isdigit()]
        assert all(re.fullmatch(r"\d{4}|\w{3}|\d{1,2} \w{3}|[\d.,]+[kMG]?", t) for t in texts)


def test_the_diagram_has_each_table_and_each_join(figures: Figures) -> None:
    """Also with all further tables, some of which join nothing."""
    for catalog in (figures.catalog, figures.catalog.every):
        drawn = str(draw(catalog))
        ET.fromstring(drawn)
        for table in catalog:
            assert f">{table.name}</text>" in drawn
        assert drawn.count('class="fork"') == len(joins_of(catalog))


def test_the_numbers_of_one_account_are_its_own(tmp_path: Path) -> None:
    """Rows of others in the same warehouse are not counted."""
    file = tmp_path / "w.duckdb"
    with serve(small_shop(), requests_per_second=None) as server:
        uk, us = account(server), account(server, account_id="7", source_id="us")
        replicate(file, uk, us, at=NOON)
        both = read_figures(config(file, uk, us), days=365, clock=lambda: NOON)
        one = read_figures(config(file, us), days=365, clock=lambda: NOON)

    assert sum(row.numbers[0] for row in both.of("consents")) == 6
    assert sum(row.numbers[0] for row in one.of("consents")) == 3
    assert {row.source for row in one.of("lists")} == {"us"}
    assert one.runs[TODAY].requests < both.runs[TODAY].requests


def test_times_that_no_calendar_has_and_endless_titles_do_no_harm(tmp_path: Path) -> None:
    """A time after today has no day, and of a title of a megabyte the beginning is shown."""
    file = tmp_path / "w.duckdb"
    with serve(small_shop(), requests_per_second=None) as server:
        one = account(server, tmp_path)
        replicate(file, one, at=NOON)
    times = ("infinity", "-infinity", "290000-01-01 00:00:00+00", f"{NOON - DAY:%Y-%m-%d}")
    with opened(file, read_only=False) as connection:
        for number, time in enumerate(times):
            key = f"odd {number}"
            connection.execute(
                "INSERT INTO ometria.email_events BY NAME SELECT 'uk' AS __source_id,"
                " $key AS __sync_key, $time::TIMESTAMPTZ AS event_at, 'send' AS event_type,"
                " repeat('x', 1_000_000) || '@example.com' AS campaign_title",
                {"key": key, "time": time},
            )
            connection.execute(
                "INSERT INTO ometria.member_lists BY NAME SELECT 'uk' AS __source_id,"
                " $key AS __sync_key, $time::TIMESTAMPTZ AS event_at, 'list_enter' AS event,"
                " 'odd' AS list_id, $key AS profile_id",
                {"key": key, "time": time},
            )
    figures = read_figures(config(file, one), days=30, clock=lambda: NOON)
    shown = Shown(as_html(figures))

    assert {row.day: row.numbers[0] for row in figures.of("events")} == {
        TODAY - timedelta(days=1): 1,
        None: 2,
    }
    assert "2 events with a time in the future not shown." in shown.text
    assert [row[0] for row in shown.rows("campaigns")] == ["x" * 79 + "…"]
    assert ["List (odd)", "2"] in [row[:2] for row in shown.rows("lists")]
