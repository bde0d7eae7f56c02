"""A look into one export file: its dialect and a few rows, with nothing of a person in it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

from ometria_replica.demo import shown_cell
from ometria_replica.local_duckdb import open_staging, translating
from ometria_replica.mapping import SIGNS, STAGED, Staging, quoted
from ometria_replica.records import FeedFile, Unreadable
from ometria_replica.temp_files import temp_folder
from ometria_replica.text import aligned, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ometria_replica.config import AccountSettings, Limits
    from ometria_replica.ometria.account_source import AccountSource
    from ometria_replica.records import Dialect, FeedObject
    from ometria_replica.schema import Column, Table

LISTED = 1000
"""Files that are counted: one page of a bucket's listing."""

LARGEST = 64 << 20  # Bytes, compressed: a larger file is read only if all are.
ROWS = 3
MASK = "***"


@dataclass(frozen=True)
class Look:
    """What *text* shows of the files of a table, and *warnings* about them."""

    text: str
    warnings: tuple[str, ...] = ()


def look_at(source: AccountSource, table: Table, account: AccountSettings, limits: Limits) -> Look:
    """
    List the files of *table*, and read the newest that is not large.

    Raises OmetriaError where the store refuses.
    """
    export = source.export(table)
    warnings = [export.warning] if export.warning else []
    listed = list(islice(export.list(), LISTED))
    files = [file for file in listed if not file.name.endswith("/")]
    if not files:
        if export.waiting:
            waiting = counted(export.waiting, "file")
            return Look(
                f"{waiting}, changed just now: a sync leaves it until it is complete.", (*warnings,)
            )
        return Look("No file yet.", (*warnings, export.nothing_found()))
    number = f"{counted(len(files), 'file')}{' or more' if len(listed) == LISTED else ''}"
    lines = [f"{number} listed."]
    with ExitStack() as closing:
        folder = closing.enter_context(temp_folder(limits.temp_directory))
        (file,) = export.fetch([_chosen(files)], folder / "files")
        if isinstance(file, Unreadable):
            reason = f"{file.origin.name} {file.reason}"
            return Look("\n".join(lines), (*warnings, f"a sync could not read this file: {reason}"))
        shown, problem = _rows(file, table, account, limits, closing)
    return Look("\n".join([*lines, *shown]), (*warnings, *([problem] if problem else [])))


def _chosen(files: Sequence[FeedObject]) -> FeedObject:
    """Choose the newest file that is not large, or else the smallest."""
    small = [file for file in files if file.size <= LARGEST]
    return max(small) if small else min(files, key=lambda file: file.size)


def _rows(
    file: FeedFile, table: Table, account: AccountSettings, limits: Limits, closing: ExitStack
) -> tuple[list[str], str | None]:
    """Map the file as a sync does; return what to show, and what is wrong."""
    connection = open_staging(closing, limits)
    with translating(f"reading {file.origin.name}", connection):
        staging = Staging(connection, table, account.account_id, account.source_id)
        outcome = staging.add_file(file, datetime.now(UTC))
        if isinstance(outcome, Unreadable):
            return [], f"a sync could not read this file: {file.origin.name} {outcome.reason}"
        staged = staging.finish()
        columns = [column for column in table.columns if column.name in table.sample_columns]
        names = ", ".join(f"{quoted(column.name)}::VARCHAR" for column in columns)
        rows = connection.execute(f"SELECT {names} FROM {STAGED} LIMIT {ROWS}").fetchall()
    shown = [
        [masked_cell(column, cell) for column, cell in zip(columns, row, strict=True)]
        for row in rows
    ]
    lines = [
        f"{file.origin.name}: {described(file.dialect)}.",
        _counts(staged.records, staged.records_rejected, staged.values_rejected),
        *_missing(file.dialect, table),
    ]
    if shown:
        lines.append("The first rows, with people's data masked:")
        lines += aligned([[column.name for column in columns], *shown], left=len(columns))
    nothing = "this file has no row for the table" if not shown else None
    return lines, nothing


def masked_cell(column: Column, cell: str | None) -> str:
    """Show a value; of a person's only that there is one, also of a text with an address."""
    if cell is not None and (column.is_personal or column.quotes or any(s in cell for s in SIGNS)):
        return MASK
    return shown_cell(cell)


def described(dialect: Dialect) -> str:
    """Describe the dialect of a file."""
    if dialect.format != "csv":
        return {"json": "JSON", "parquet": "Parquet"}[dialect.format]
    between = {"\t": "a tab", ",": "a comma", ";": "a semicolon", "|": "a bar"}
    parts = [
        f"CSV with {between.get(dialect.delimiter, dialect.delimiter)} between cells",
        f"quoted by {dialect.quote}" if dialect.quote else "without quotes",
        "a header" if dialect.header else "no header",
    ]
    if dialect.skip:
        parts.append(f"{counted(dialect.skip, 'line')} above it")
    return ", ".join(parts)


def _counts(records: int, records_rejected: int, values_rejected: int) -> str:
    text = counted(records, "record")
    if records_rejected or values_rejected:
        rejected = counted(records_rejected, "record"), counted(values_rejected, "value")
        text += f", of which a sync would reject {rejected[0]} and {rejected[1]}"
    return f"{text}."


def _missing(dialect: Dialect, table: Table) -> list[str]:
    """Name the columns of the table that the file lacks; JSON has no list of its fields."""
    if dialect.format == "json":
        return []
    lacking = [
        str(column.source)
        for column in table.columns
        if isinstance(column.source, str) and column.source not in dialect.columns
    ]
    return [f"Columns that the file lacks: {', '.join(lacking)}."] if lacking else []
