"""An account to verify, differences that are planted in its replica, and what a report says."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica.verification.run import verify
from ometria_simulator import Account
from tests.duck import opened
from tests.incremental.shops import DAY, HOUR, NOON, config
from tests.replicas import write_feed_file

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from ometria_replica.config import AccountSettings
    from ometria_replica.verify_report import VerifyReport

QUIET_SINCE = NOON - 90 * DAY
"""When the account has changed for the last time: long before what a sync reads again."""


def quiet_shop() -> Account:
    """Return a shop of forty profiles, three lists and twenty opt-outs, all old."""
    shop = Account(now=QUIET_SINCE)
    names = [f"p{number:02}" for number in range(40)]
    for name in names:
        shop.add_profile(name, email=f"{name}@example.com", lastname="Old")
    for size, list_id in enumerate(("10", "20", "30"), 7):
        shop.add_list(list_id, title=f"List {list_id}")
        shop.refresh_list(list_id, enter=names[:size], leave=[])
    for number, name in enumerate(names[:20]):
        shop.add_unsubscribe(name, at=QUIET_SINCE - number * DAY, reason_text=name)
    shop.set_time(NOON)
    return shop


def quiet_feed(folder: Path) -> Path:
    """Write three files of ten events; the last one has newer copies of events of the second."""
    for number, names in enumerate(("abcdefghij", "klmnopqrst", "rstuvwxyz0")):
        at = QUIET_SINCE + number * HOUR
        events = [
            {
                "to_address": f"{name}@example.com",
                "event_type": "open",
                "dt_occurred": (at - DAY if name not in "rst" else QUIET_SINCE).isoformat(),
                "campaign_title": f"file {number}",
            }
            for name in names
        ]
        write_feed_file(folder, f"{number}.jsonl", at, events)
    return folder


@dataclass(frozen=True)
class Planted:
    """
    A difference: a *statement* that makes it in a *table*, and what a report must say of it.

    *rows* selects the keys of the rows that it concerns, before the statement runs; if it adds
    rows, those after it.
    """

    table: str
    kind: str
    rows: str
    statement: str
    columns: tuple[str, ...] = ()


def _of(column: str, *texts: str) -> str:
    return f"WHERE {column} IN ({', '.join(repr(text) for text in texts)})"


def _people(*names: str) -> str:
    return _of("profile_id", *names)


def _mailed(*names: str) -> str:
    return _of("email", *(f"{name}@example.com" for name in names))


_ADDED = "WHERE __sync_key = 'planted'"


def _deleted(table: str, rows: str) -> Planted:
    return Planted(table, "missing", rows, f"DELETE FROM ometria.{table} {rows}")


def _changed(table: str, rows: str, values: str, *columns: str, kind: str = "stale") -> Planted:
    return Planted(table, kind, rows, f"UPDATE ometria.{table} SET {values} {rows}", columns)


def _added(table: str, like: str, values: str = "") -> Planted:
    copy = f"SELECT * REPLACE ('planted' AS __sync_key{values}) FROM ometria.{table} {like} LIMIT 1"
    return Planted(table, "extra", _ADDED, f"INSERT INTO ometria.{table} {copy}")


_LONG_AGO = ", TIMESTAMPTZ '2026-01-01 00:00:00+00' AS __synced_at"
_REPEATED = f"INSERT INTO ometria.profiles SELECT * FROM ometria.profiles {_people('p09')}"

PLANTED = {
    "rows of profiles deleted": _deleted("profiles", _people("p03", "p05")),
    "columns of profiles changed": _changed(
        "profiles", _people("p06", "p07"), "city = 'x', seen = true", "seen", "city"
    ),
    "a value of profiles lost": _changed("profiles", _people("p08"), "email = NULL", "email"),
    "a row of profiles twice": Planted("profiles", "extra", _people("p09"), _REPEATED),
    "a row of profiles of nobody": _added("profiles", _people("p10"), _LONG_AGO),
    "rows of email_events deleted": _deleted("email_events", _mailed("k", "l")),
    "the rows of a file deleted": _deleted("email_events", "WHERE campaign_title = 'file 0'"),
    "columns of email_events changed": _changed(
        "email_events", _mailed("m", "n"), "campaign_title = 'x'", "campaign_title"
    ),
    "times of email_events changed": _changed(
        "email_events", _mailed("o", "p"), "event_at = event_at - INTERVAL 5 YEAR", "event_at"
    ),
    "a row of email_events of no file": _added("email_events", _mailed("q")),
    "the changes of a list deleted": _deleted("member_lists", "WHERE list_id = '20'"),
    "a change of a list made up": _added("member_lists", "WHERE list_id = '10'"),
    "an event of a list changed": _changed(
        "member_lists", "WHERE list_id = '30' AND profile_id < 'p02'", "event = 'x'", "event"
    ),
    "rows of unsubscribes deleted": _deleted("unsubscribes", _people("p03", "p05")),
    "a row of unsubscribes made up": _added("unsubscribes", _people("p09")),
    "columns of unsubscribes changed": _changed(
        "unsubscribes", _people("p07", "p08"), "unsubscribe_reason_text = NULL",
        "unsubscribe_reason_text",
    ),
    "a list that was deleted long ago": _added("lists", "WHERE list_id = '30'", _LONG_AGO),
    "a column of lists changed": _changed(
        "lists", "WHERE list_id = '10'", "list_title = 'x'", "list_title", kind="newer"
    ),
    "a row of lists deleted": dataclasses.replace(
        _deleted("lists", "WHERE list_id = '20'"), kind="newer"
    ),
}  # fmt: skip
"""
Each kind of difference in a replica of the quiet shop, apart from the others.

What differs in a table that each sync reads whole counts as newer.
"""


def plant(warehouse: Path, *names: str) -> set[tuple[str, str, str]]:
    """Make differences in a file; name the rows as :func:`differing` does."""
    found = set()
    with opened(warehouse, read_only=False) as connection:
        for planted in (PLANTED[name] for name in names):
            keys = f"SELECT __sync_key FROM ometria.{planted.table} {planted.rows}"
            rows = connection.execute(keys).fetchall()
            connection.execute(planted.statement)
            rows = rows or connection.execute(keys).fetchall()
            assert rows
            found |= {(planted.table, planted.kind, key) for (key,) in rows}
    return found


def verified(warehouse: Path, account: AccountSettings, **options: Any) -> VerifyReport:
    """Verify the replica in a file, at a time that stands still."""
    options.setdefault("clock", lambda: NOON + HOUR)
    return verify(config(warehouse, account), **options)


def differing(report: VerifyReport, *, newer: bool = True) -> set[tuple[str, str, str]]:
    """Name what differs, as table, kind and key."""
    return {
        (table.table, each.kind, each.sync_key)
        for table in report.tables
        for each in table.differences
        if newer or each.kind != "newer"
    }
