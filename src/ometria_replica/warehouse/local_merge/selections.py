"""
Which rows of a table a batch may replace, and which part of the table a change touches.

*engine* is the DuckDB in memory, which has the staged rows and the copies.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from itertools import groupby
from typing import TYPE_CHECKING

from ometria_replica import sql
from ometria_replica.mapping import STAGED
from ometria_replica.selection import Selection, Span, Times, Values

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date

    from ometria_replica.batch import Batch, Part
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.changes import Changes
    from ometria_replica.warehouse.engines.base import Engine


def replaceable(engine: Engine, batch: Batch) -> Iterator[Selection]:
    """
    Select the rows that staged rows may replace: by their keys, or by the days of events.

    A staged row without a time may replace one that has a time, on any day.
    """
    if batch.any_time:
        return iter(
            [Selection(batch.source_id, Values("__sync_key", _staged_keys(engine, STAGED)))]
        )
    return _replaceable_by(engine, STAGED, batch.table, batch.source_id)


def replaceable_of(engine: Engine, part: Part, source_id: str) -> Iterator[Selection]:
    """Select the rows that a part may replace, and those inside the batch's records."""
    if part.parent and part.whole:
        records = texts(engine, f"SELECT DISTINCT parent FROM {part.whole}")
        yield Selection(source_id, Values(part.parent, records))
    else:
        yield from _replaceable_by(engine, part.staged, part.table, source_id)


def versions_that_hold(engine: Engine, batch: Batch) -> Selection:
    """Select the versions that hold: those of the batch's keys, or of a full read all."""
    keys = None if batch.is_full else Values("__sync_key", _staged_keys(engine, STAGED))
    return Selection(batch.source_id, keys, Times("valid_to", untimed=True))


def touched(engine: Engine, changes: Changes) -> Selection:
    """Select a part of the table that holds the rows to write and those that they replace."""
    table = changes.table
    if table.time is None:
        return Selection(changes.source_id)
    time = sql.quoted(table.time)
    return at_times(
        engine,
        Selection(changes.source_id),
        table.time,
        f"SELECT {time} FROM {changes.rows} UNION ALL SELECT {time}"
        f" FROM {engine.name(table)} t"
        f" JOIN {changes.replaced} r ON t.rowid = r.target_row",
    )


def at_times(engine: Engine, selection: Selection, column: str, times: str) -> Selection:
    """Select the part of *selection* with the *times*, a query, of each day."""
    moments = f"({times}) AS times(moment)"
    bounds = engine.rows(
        f"SELECT min(moment), max(moment) FROM {moments} WHERE moment IS NOT NULL"
        " GROUP BY (moment AT TIME ZONE 'UTC')::DATE ORDER BY ALL"
    )
    untimed = engine.scalar(f"SELECT count(*) FROM {moments} WHERE moment IS NULL") > 0
    spans = tuple(Span(first, last) for first, last in bounds)
    return replace(selection, times=Times(column, spans, untimed))


def texts(engine: Engine, query: str) -> tuple[str, ...]:
    """Run a query for one column of texts."""
    return tuple(text for (text,) in engine.rows(query))


def _replaceable_by(
    engine: Engine, staged: str, table: Table, source_id: str
) -> Iterator[Selection]:
    if table.time is None:
        yield Selection(source_id, Values("__sync_key", _staged_keys(engine, staged)))
        return
    time = sql.quoted(table.time)
    days = engine.rows(
        f"SELECT DISTINCT ({time} AT TIME ZONE 'UTC')::DATE FROM {staged}"
        f" WHERE {time} IS NOT NULL ORDER BY ALL"
    )
    spans = tuple(_stretches([day for (day,) in days]))
    yield Selection(source_id, times=Times(table.time, spans, untimed=True))
    untimed = _staged_keys(engine, staged, f"WHERE {time} IS NULL")
    if untimed:
        yield Selection(source_id, Values("__sync_key", untimed))


def _staged_keys(engine: Engine, staged: str, where: str = "") -> tuple[str, ...]:
    return texts(engine, f"SELECT __sync_key FROM {staged} {where}")


def _stretches(days: Sequence[date]) -> Iterator[Span]:
    """Return the spans of *days* in UTC, which are in order; days in a row are one span."""
    for _, stretch in groupby(enumerate(days), key=lambda each: each[1].toordinal() - each[0]):
        in_a_row = [datetime.combine(day, time(), UTC) for _, day in stretch]
        yield Span(in_a_row[0], in_a_row[-1] + timedelta(days=1, microseconds=-1))
