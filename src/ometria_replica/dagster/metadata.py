"""What Dagster shows of a table: its columns, and what a run did to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from ometria_replica.comments import NEVER, column_comment, null_when

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ometria_replica.report import RunReport, TableReport
    from ometria_replica.schema import Table
    from ometria_replica.status_report import Status, TableStatus

_COUNTS = (
    "records",
    "inserted",
    "updated",
    "unchanged",
    "removed",
    "expired",
    "rejected",
    "requests",
    "files",
)


def of_a_table(table: Table) -> dict[str, Any]:
    """Return what is known of a table before it is read: its name, and its columns."""
    columns = [
        dg.TableColumn(
            column.name,
            column.type,
            description=column_comment(table, column) or None,
            constraints=dg.TableColumnConstraints(nullable=null_when(table, column) != NEVER),
        )
        for column in table.all_columns
    ]
    return {
        "dagster/column_schema": dg.TableSchema(
            columns, dg.TableConstraints(other=[f"primary key ({', '.join(table.key)})"])
        ),
        "dagster/table_name": table.full_name,
    }


def of_a_run(report: RunReport, table: str, status: Status | None) -> dict[str, Any]:
    """
    Return what a run did to *table*, summed over accounts, and how fresh it is.

    *status* None: it could not be read.
    """
    tables = [each for each in report.tables if each.table == table]
    counts = {name: sum(getattr(each, name) for each in tables) for name in _COUNTS}
    found: dict[str, Any] = {
        **counts,
        "seconds": round(sum(each.seconds for each in tables), 3),
        "run": report.run_id,
        "warehouse": report.warehouse,
    }
    if len(tables) > 1:
        found["accounts"] = dg.MetadataValue.table(
            [dg.TableRecord(_of_an_account(each)) for each in tables]
        )
    remarks = [remark for each in tables for remark in each.remarks]
    if remarks:
        found["remarks"] = dg.MetadataValue.md("\n".join(f"- {remark}" for remark in remarks))
    if status is not None:
        found |= _of_a_status([each for each in status.tables if each.table == table])
    return found


def _of_an_account(report: TableReport) -> Mapping[str, str | int]:
    return {"account": report.source_id, **{name: getattr(report, name) for name in _COUNTS}}


def _of_a_status(tables: Sequence[TableStatus]) -> dict[str, Any]:
    """Return the rows of all accounts, the oldest of their times, and the newest event."""
    if not tables:
        return {}
    found: dict[str, Any] = {
        "dagster/row_count": sum(each.rows for each in tables),
        "set_aside": sum(each.rejects for each in tables),
    }
    complete = [each.complete_until for each in tables]
    oldest = min((each for each in complete if each is not None), default=None)
    if oldest is not None and None not in complete:
        found["complete_until"] = dg.MetadataValue.timestamp(oldest)
    newest = max((each.newest_event for each in tables if each.newest_event), default=None)
    if newest is not None:
        found["newest_event"] = dg.MetadataValue.timestamp(newest)
    return found
