"""Refuse a table that has other columns than ours: someone else has made or changed it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ometria_replica import sql
from ometria_replica.errors import WarehouseError

if TYPE_CHECKING:
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.engines.base import Engine


def refuse_other_columns(engine: Engine, table: Table) -> None:
    """
    Raise WarehouseError unless a table has our columns, in order.

    Columns of the user may follow them where the engine keeps their values.
    """
    there, ours = engine.columns(table), sql.columns_of(table)
    if not there or there == ours:
        return
    where = f"The table {table.full_name} in {engine.place}"
    added = sorted({name for name, _ in there} - {name for name, _ in ours})
    if there[: len(ours)] == ours and engine.keeps_own_columns:
        if needed := [name for name in engine.needed(table) if name in added]:
            raise WarehouseError(
                f"{where} has a column of its own that no row can leave out:"
                f" {', '.join(needed)} is NOT NULL and has no default. Nothing was changed."
                " Give it a default, or allow nulls."
            )
    elif set(ours) <= set(there) and added:
        at_the_end = ", or move it to the end" if engine.keeps_own_columns else ""
        raise WarehouseError(
            f"{where} has a column that is not ours: {', '.join(added)}. Nothing was changed."
            f" Drop that column{at_the_end}, and keep the table."
        )
    else:
        odd = sorted({f"{name} {kind}" for name, kind in set(there) ^ set(ours)})
        raise WarehouseError(
            f"{where} is not ours: it"
            f" differs in {', '.join(odd) or 'the order of its columns'}. Nothing was changed."
            " Rename it or drop it, then run again with --full."
        )
