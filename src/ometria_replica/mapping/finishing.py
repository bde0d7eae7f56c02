"""A staged batch is finished: what is not loaded is left out, and what is wrong is rejected."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ometria_replica.mapping.quoting import literal, quoted
from ometria_replica.mapping.retaining import drop_too_old
from ometria_replica.mapping.select import (
    converted_columns,
    identity_words,
    raw_name,
    type_words,
)
from ometria_replica.mapping.suppressing import drop_rejects, drop_suppressed, mask_suppressed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ometria_replica.mapping.staged_tables import StagedTables
    from ometria_replica.suppressions import JoinedId

_NOBODY: tuple[JoinedId, ...] = ()


@dataclass(frozen=True)
class Staged:
    """
    A staged batch, in the temporary tables ``staged`` and ``rejected``.

    *records* were read, *rows* remain, one for each key. *merged* counts the distinct events
    that share a key with a newer one, *values_rejected* the values that became null,
    *records_rejected* the records without a row, *nuls_removed* the texts that lost a NUL
    character. *unknown_fields* are names that Ometria does not document, or UNNAMED. *suppressed*
    records are of people who were erased, and *too_old* ones are older than what the table keeps:
    these count as neither. *joined_ids* are other ids in records of people who were erased.
    *inside* are the counts of the tables that are inside this one, by their full names.
    """

    records: int
    rows: int
    merged: int
    values_rejected: int
    records_rejected: int
    nuls_removed: int
    unknown_fields: frozenset[str]
    suppressed: int = 0
    too_old: int = 0
    joined_ids: tuple[JoinedId, ...] = ()
    inside: Mapping[str, Staged] = field(default_factory=dict)


def finish(tables: StagedTables, leave_out: Callable[[], None] | None = None) -> Staged:
    """
    Reject records without an identity, keep the newest rows by key, reject their values.

    *leave_out* removes staged records that do not count, once those of erased people are known.
    """
    suppressed, joined = 0, _NOBODY
    if tables.table.suppressions:
        suppressed, joined = drop_suppressed(tables, tables.table.suppressions)
    if leave_out:
        leave_out()
        suppressed += _drop_rejects(tables)
    too_old = drop_too_old(tables)
    records, nuls, unidentified = tables.row(
        f"SELECT count(*), coalesce(sum(_nuls), 0), count(_record) FROM {tables.staged}"
    )
    lines = tables.count(tables.rejected)
    merged = rows = values = 0
    if unidentified:
        _reject_records(tables)
        named = _drop_rejects(tables)
        records, unidentified = records - named, unidentified - named
        suppressed += named
    if records > unidentified:
        merged = _keep_newest(tables)
        if tables.table.suppressions:
            mask_suppressed(tables, tables.table.suppressions)
        rows, values = _reject_values(tables)
        values -= _drop_rejects(tables) if values else 0
    return Staged(
        records=records,
        rows=rows,
        merged=merged,
        values_rejected=values,
        records_rejected=unidentified + lines,
        nuls_removed=nuls,
        unknown_fields=frozenset(tables.unknown_fields),
        suppressed=suppressed,
        too_old=too_old,
        joined_ids=joined,
    )


def _drop_rejects(tables: StagedTables) -> int:
    """Drop the rejects that name erased people; return how many."""
    if tables.table.suppressions is None:
        return 0
    return drop_rejects(tables, tables.table.suppressions)


def _reject_records(tables: StagedTables) -> None:
    tables.reject_staged(
        key="NULL",
        column="NULL",
        raw="_record",
        reason=f"'no {identity_words(tables.table)}'",
        where="_record IS NOT NULL",
    )
    tables.connection.execute(f"DELETE FROM {tables.staged} WHERE _record IS NOT NULL")


def _keep_newest(tables: StagedTables) -> int:
    """
    Keep the last row of each key; return how many distinct events lost their row.

    By row id for the few keys that repeat: `DISTINCT ON` or `row_number()` over all rows
    took half as long again (5 million events).
    """
    tables.connection.execute(
        "CREATE OR REPLACE TEMP TABLE repeated AS"
        f" SELECT __sync_key, max(rowid) AS newest FROM {tables.staged}"
        " GROUP BY __sync_key HAVING count(*) > 1"
    )
    merged = 0
    if tables.count("repeated"):
        if tables.table.events:
            merged = _distinct_events_lost(tables)
        tables.connection.execute(
            f"DELETE FROM {tables.staged} s USING repeated"
            " WHERE s.__sync_key = repeated.__sync_key AND s.rowid < newest"
        )
    tables.connection.execute("DROP TABLE repeated")
    return merged


def _distinct_events_lost(tables: StagedTables) -> int:
    contents = ", ".join(quoted(column.name) for column in tables.table.columns)
    return tables.scalar(
        "SELECT coalesce(sum(differing - 1), 0) FROM"
        f" (SELECT count(DISTINCT hash({contents})) AS differing"
        f" FROM {tables.staged} JOIN repeated USING (__sync_key) GROUP BY __sync_key)"
    )


def _reject_values(tables: StagedTables) -> tuple[int, int]:
    """Reject the texts that did not convert; return the numbers of rows and of these texts."""
    columns = converted_columns(tables.table)
    counts = ["count(*)", *(f"count({quoted(raw_name(column))})" for column in columns)]
    rows, *failed = tables.row(f"SELECT {', '.join(counts)} FROM {tables.staged}")
    for column, number in zip(columns, failed, strict=True):
        if number:
            raw = quoted(raw_name(column))
            tables.reject_staged(
                key="__sync_key",
                column=literal(column.name),
                raw=raw,
                reason=literal(f"not a {type_words(column)}"),
                where=f"{raw} IS NOT NULL",
            )
    return rows, sum(failed)
