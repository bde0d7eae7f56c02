"""The numbers of the HTML report in every kind of warehouse, against those of another program."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from ometria_replica.config import Config, WarehouseSettings
from ometria_replica.html_report.figures import Figures, read_figures
from ometria_replica.html_report.page import as_html
from ometria_replica.replication import sync
from ometria_replica.warehouse.queries.run import can_ask
from ometria_simulator import serve
from tests.incremental.shops import HOUR, NOON
from tests.pages_shown import Shown, settings_of, shop_with_everything, write_events

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

    from tests.places import Place

SINCE = "TIMESTAMPTZ '2025-02-24 00:00:00+00'"  # A Monday, not more than a week before the year.


def test_the_page_shows_what_another_program_counts(place: Place, tmp_path: Path) -> None:
    """Two accounts with the same rows, of which only one has events of email."""
    write_events(tmp_path / "feed")
    with serve(shop_with_everything(), requests_per_second=None) as server:
        accounts = settings_of(server, tmp_path / "feed")
        config = Config(accounts, WarehouseSettings(url=place.url))
        if not place.is_there:
            empty = Shown(as_html(read_figures(config, days=365, clock=lambda: NOON)))
            assert "no sync has run here yet" in empty.text
            assert not place.is_there
        sync(config, clock=lambda: NOON - HOUR)
        figures = read_figures(config, days=365, clock=lambda: NOON)
    shown = Shown(as_html(figures))

    assert figures.counts == can_ask(place.url)
    with place.looking() as connection:
        for row in shown.rows("tables"):
            table, source, _, _, rows, rejects, *_ = row
            assert (int(rows), int(rejects)) == (
                _one(connection, f"count(*) FROM ometria.{table} WHERE __source_id = '{source}'"),
                _one(
                    connection,
                    "count(*) FROM ometria_replica.rejects WHERE"
                    f" source_id = '{source}' AND table_name = '{table}'",
                ),
            )
        assert len(shown.rows("tables")) == 9
        assert [int(cell) for cell in shown.rows("runs")[0][1:3]] == [1, 0]
        if figures.counts:
            _compare(figures, shown, connection)
        else:
            assert "runs no queries in this kind of warehouse" in shown.text
            assert not figures.rows


def _compare(figures: Figures, shown: Shown, connection: duckdb.DuckDBPyConnection) -> None:
    types = Counter(dict(_all(
        connection,
        "trim(lower(event_type)), count(*) FROM ometria.email_events"
        f" WHERE event_at >= {SINCE} GROUP BY 1",
    )))  # fmt: skip
    heads = shown.tables["email"][0][0]
    assert dict(zip(heads[1:], shown.sums("email"), strict=True)) == types
    assert types["send"] == 11

    assert {row[0]: row[2:] for row in shown.rows("campaigns")} == {
        row[0] or "(no title)": [f"{row[1]}", *(f"{share:.1f}%" for share in row[2:])]
        for row in _all(
            connection,
            """title, count(*), 100 * avg(o::INT), 100 * avg(c::INT), 100 * avg(b::INT) FROM (
              SELECT s.title, s.id IN (SELECT send_id FROM e WHERE kind IN ('open', 'opened')) AS o,
                s.id IN (SELECT send_id FROM e WHERE kind = 'click') AS c,
                s.id IN (SELECT send_id FROM e WHERE kind = 'bounce') AS b
              FROM (SELECT DISTINCT coalesce(send_id, event_id) AS id, campaign_title AS title
                FROM e WHERE kind IN ('send', 'sent')) AS s) GROUP BY title""",
            f"""WITH e AS (SELECT *, lower(trim(event_type)) AS kind FROM ometria.email_events
              WHERE event_at >= {SINCE})""",
        )
    }
    assert {row[0]: int(row[1]) for row in shown.rows("bounces")} == {"10": 1}

    reasons = dict(_all(
        connection,
        "coalesce(unsubscribe_reason, '(no reason)'), count(*) FROM ometria.unsubscribes"
        f" WHERE event_at >= {SINCE} GROUP BY 1",
    ))  # fmt: skip
    heads = shown.tables["unsubscribes"][0][0]
    sums = dict(zip(heads[1:], shown.sums("unsubscribes"), strict=True))
    assert sums.pop("All") == sum(reasons.values())
    assert sums == reasons

    members = _replayed(connection)
    assert {row[0].rpartition("(")[2]: int(row[1]) for row in shown.rows("lists")} == {
        f"{list_id}), {source}": count for (source, list_id), count in members.items()
    }
    assert members["uk", "30"] == 3

    optins = _one(
        connection, f"count(*) FROM ometria.profiles WHERE marketing_optin_date >= {SINCE}"
    )
    assert shown.sums("consents", 1) == [optins, 0]
    assert {row[0]: int(row[1]) for row in shown.rows("consents")} == dict(_all(
        connection,
        "coalesce(marketing_optin, '(no value)'), count(*) FROM ometria.profiles GROUP BY 1",
    ))  # fmt: skip
    assert {(row[0], row[1], row[2]): int(row[3]) for row in shown.rows("rejects")} == {
        tuple(row[:3]): row[3]
        for row in _all(
            connection,
            "table_name, column_name, reason, count(*) FROM ometria_replica.rejects GROUP BY ALL",
        )
    }
    assert set(figures.rows) == {
        *("events", "campaigns", "bounces", "unsubscribes"),
        *("lists", "consents", "optin", "rejects"),
    }


def _replayed(connection: duckdb.DuckDBPyConnection) -> dict[tuple[str, str], int]:
    """Count the members of each list by following each profile in Python."""
    members: dict[tuple[str, str], set[str]] = defaultdict(set)
    for source, list_id, profile, event in _all(
        connection,
        "__source_id, list_id, profile_id, event FROM ometria.member_lists ORDER BY event_at",
    ):
        if event == "list_enter":
            members[source, list_id].add(profile)
        else:
            members[source, list_id].discard(profile)
    return {key: len(found) for key, found in members.items()}


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    ((value,),) = _all(connection, query)
    return int(value)


def _all(
    connection: duckdb.DuckDBPyConnection, query: str, before: str = ""
) -> list[tuple[Any, ...]]:
    return connection.execute(f"{before} SELECT {query}").fetchall()
