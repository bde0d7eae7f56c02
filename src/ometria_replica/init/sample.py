"""A look into one export file: a few of its rows, with nothing of a person in them."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ometria_replica.demo import shown_cell
from ometria_replica.local_duckdb import open_staging, translating
from ometria_replica.mapping import SIGNS, STAGED, Staging, quoted
from ometria_replica.records import Unreadable
from ometria_replica.text import aligned, counted

if TYPE_CHECKING:
    from ometria_replica.config import AccountSettings, Limits
    from ometria_replica.mapping import Staged
    from ometria_replica.records import FeedFile
    from ometria_replica.schema import Column, Table

ROWS = 3
MASK = "***"


def rows_of(file: FeedFile, table: Table, account: AccountSettings, limits: Limits) -> list[str]:
    """
    Map *file* as a sync of *account* does, and write its first rows and what would be rejected.

    Raises WarehouseError if DuckDB fails, of which the text could quote the file.
    """
    columns = [column for column in table.columns if column.name in table.sample_columns]
    with ExitStack() as closing:
        connection = open_staging(closing, limits)
        with translating(f"reading {file.origin.name}", connection):
            staging = Staging(connection, table, account.account_id, account.source_id)
            outcome = staging.add_file(file, datetime.now(UTC))
            if isinstance(outcome, Unreadable):
                return [f"A sync could not read this file: {outcome.reason}."]
            staged = staging.finish()
            names = ", ".join(f"{quoted(column.name)}::VARCHAR" for column in columns)
            rows = connection.execute(f"SELECT {names} FROM {STAGED} LIMIT {ROWS}").fetchall()
    if not rows:
        return [f"{_counts(staged)}, and no row."]
    shown = [
        [masked_cell(column, cell) for column, cell in zip(columns, row, strict=True)]
        for row in rows
    ]
    header = [column.name for column in columns]
    return [
        f"{_counts(staged)}. The first rows, with people's data masked:",
        *(f"  {line}" for line in aligned([header, *shown], left=len(columns))),
    ]


def masked_cell(column: Column, cell: str | None) -> str:
    """Show a value; of a person's only that there is one, also of a text with an address."""
    if cell is not None and (column.is_personal or column.quotes or any(s in cell for s in SIGNS)):
        return MASK
    return shown_cell(cell)


def _counts(staged: Staged) -> str:
    text = counted(staged.records, "record")
    if staged.records_rejected or staged.values_rejected:
        records = counted(staged.records_rejected, "record")
        text += (
            f", of which a sync rejects {records} and {counted(staged.values_rejected, 'value')}"
        )
    return text
