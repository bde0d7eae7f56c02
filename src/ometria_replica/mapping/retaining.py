"""Records that are older than what their table keeps: they do not get past the staging."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ometria_replica.mapping.quoting import quoted

if TYPE_CHECKING:
    from ometria_replica.mapping.staged_tables import StagedTables


def drop_too_old(tables: StagedTables) -> int:
    """
    Drop the staged records from before *oldest* of the table; return how many.

    Lines of old files that could not be parsed are dropped too: the files were written before.
    Records whose time is not known stay.
    """
    table = tables.table
    if table.oldest is None or table.time is None:
        return 0
    records = tables.scalar(
        f"DELETE FROM {tables.staged} WHERE {quoted(table.time)} < $oldest",
        {"oldest": table.oldest},
    )
    if not tables.old_files:
        return records
    return records + tables.scalar(
        f"DELETE FROM {tables.rejected} WHERE list_contains($names, origin)",
        {"names": sorted(tables.old_files)},
    )
