# ruff: noqa: D401, E501 -- The page of the suite quotes a scenario's docstring.
"""Files and records that are written otherwise than expected, and rows that are not there."""

from __future__ import annotations

import csv
import gzip
import io
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
from pyarrow import parquet

from ometria_simulator import Dialect, Quirks
from tests.faults.catalog import CLOCKS, MAINTENANCE
from tests.faults.checks import Finding
from tests.faults.child import Plan
from tests.faults.scenarios import mail, scenario

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ometria_simulator.dialect import Cells
    from tests.faults.world import World

ODD = "Data that is written otherwise"


@scenario(ODD)
def an_open_quote(world: World) -> None:
    """A quote in the middle of a file is never closed: its own line is rejected, and the others are loaded."""
    name, events = _exported(world, 30)
    header, *lines = _csv(list(events[0]), events).splitlines(keepends=True)
    torn = lines[0].replace("mailed@", "torn@").replace("Spring", '"Spring')
    text = "".join([header, *lines[:10], torn, *lines[10:]])
    world.feed.poison(name, gzip.compress(text.encode()))
    world.run()
    world.replica.check()
    if not any("torn@" in reject["raw"] for reject in world.contents.state("rejects")):
        raise Finding("a line is not in the rejects")


@scenario(ODD)
def parts_that_were_joined(world: World) -> None:
    """A file was joined of three parts, each with a header, and the last one in another order."""
    name, events = _exported(world, 30)
    columns = list(events[0])
    parts = [
        _csv(columns, events[:10]),
        "\ufeff" + _csv(columns, events[10:20]),
        _csv(columns[::-1], events[20:]),
    ]
    world.feed.poison(name, gzip.compress("".join(parts).encode()))
    world.run()
    world.replica.check()


@scenario(ODD)
def text_without_its_mark(world: World) -> None:
    """A Parquet file does not mark its texts as UTF-8: keys and values are the same."""
    name, events = _exported(world, 30)
    table = pa.table(
        {
            column: pa.array(
                [None if (cell := cells[column]) is None else cell.encode() for cells in events],
                pa.binary(),
            )
            for column in events[0]
        }
    )
    data = io.BytesIO()
    parquet.write_table(table, data)
    world.feed.poison(name, data.getvalue())
    world.run()
    world.replica.check()


@scenario(ODD)
def a_time_with_the_name_of_a_zone(world: World) -> None:
    """A time ends with BST, which means several zones: the value is rejected, and not guessed."""
    event = world.account.add_event("zone@example.com", "open", uuid="zone")
    (name,) = world.feed.export_events([event])
    world.feed.rewrite(name, lambda cells: {**cells, "dt_occurred": "2026-03-01 10:00:00 BST"})
    world.feed.delivered = [e for e in world.feed.delivered if e.file != name or e.version > 1]
    world.run()
    world.replica.check()
    if "2026-03-01 10:00:00 BST" not in {
        reject["raw"] for reject in world.contents.state("rejects")
    }:
        raise Finding("a value is not in the rejects")


@scenario(ODD, dialect=Dialect())
def a_young_file_that_grows(world: World) -> None:
    """A file without compression is a second old and half written: it waits until it is whole."""
    settled = Plan(settle_seconds=60)
    world.account.advance(timedelta(minutes=5))
    mail(world, "half@example.com", 40)
    name = world.feed.export_partial()
    world.run(plan=settled)
    world.replica.check()
    world.feed.complete(name)
    world.account.advance(timedelta(minutes=5))
    world.run(plan=settled)
    world.replica.check()


@scenario(CLOCKS, now=datetime(2026, 3, 2, 0, 10, tzinfo=UTC),
    quirks=Quirks(update_since_inclusive=False, update_since_utc_offset_hours=-5))  # fmt: skip
def days_that_begin_west_of_utc(world: World) -> None:
    """The API reads updateSince five hours behind, exclusively, and runs begin shortly after midnight: updates are loaded nevertheless."""
    world.run()
    world.replica.check()
    world.account.advance(timedelta(hours=1))
    for profile in world.account.profiles[:40]:
        world.account.update_profile(profile.id, lastname="Later")
    world.feed.export()
    world.run()
    world.replica.check()


@scenario(CLOCKS)
def a_refresh_that_shows_late(world: World) -> None:
    """A refresh of a list shows hours after its time: its changes are loaded by the next run."""
    account = world.account
    listed = account.add_list(type="DYNAMIC", refreshed_at=account.now - timedelta(days=90))
    world.run()
    world.replica.check()
    happened = account.now - timedelta(hours=5)
    account.advance(timedelta(hours=1))
    account.add_change(listed.id, account.profiles[0].id, "list_enter", at=happened)
    account.update_list(listed.id, refreshed_at=happened)
    world.feed.export()
    world.run()
    world.replica.check()


@scenario(MAINTENANCE)
def a_dropped_table(world: World) -> None:
    """A table is dropped: the next run fills it again, although the state says that all was read."""
    world.run()
    world.replica.check()
    world.place.drop_table("email_events")
    world.run()
    world.replica.check()


def _exported(world: World, count: int) -> tuple[str, Sequence[Cells]]:
    """Export a file of new events, and give its name and its records."""
    mail(world, "mailed@example.com", count)
    events = list(world.account.events)[-count:]
    world.account.add_event("zoë@example.com", "open", uuid="zoë", campaign_title="Frühling")
    (name,) = world.feed.export_events([*events, world.account.events[-1]])
    return name, [each.cells for each in world.feed.delivered if each.file == name]


def _csv(columns: Sequence[str], events: Sequence[Cells]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(events)
    return text.getvalue()
