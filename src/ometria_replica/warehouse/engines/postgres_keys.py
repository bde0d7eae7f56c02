"""The primary keys of the tables in PostgreSQL, and the indexes of older releases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ometria_replica import sql

if TYPE_CHECKING:
    from ometria_replica.schema import StateTable, Table
    from ometria_replica.warehouse.engines.base import Engine


def primary_key(engine: Engine, table: Table | StateTable) -> list[str]:
    """List the columns of the primary key that a table has; empty if it has none."""
    found = engine.rows(
        "SELECT a.attname::text FROM pg_index i JOIN pg_attribute a"
        " ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::smallint[])"
        f" WHERE i.indisprimary AND i.indrelid = {_OID}",
        [sql.schema_of(table), table.name],
    )
    return [name for (name,) in found]


def may_alter(engine: Engine, table: Table | StateTable) -> bool:
    """Return whether this role owns a table, or is a member of its owner."""
    ((owns,),) = engine.rows(
        f"SELECT pg_has_role(current_user, relowner, 'USAGE') FROM pg_class WHERE oid = {_OID}",
        [sql.schema_of(table), table.name],
    )
    return bool(owns)


def old_index(engine: Engine, table: Table | StateTable) -> str | None:
    """
    Name the unique index of ``__sync_key`` alone that older releases made; None if it is gone.

    Under it two sources cannot have equal keys. None also if a constraint of the user needs it.
    """
    name = f"{table.name}_sync_key"
    found = engine.rows(
        "SELECT 1 FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        f" WHERE i.indrelid = {_OID} AND c.relname = ?"
        " AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = c.oid)",
        [sql.schema_of(table), table.name, name],
    )
    return f"{sql.quoted(sql.schema_of(table))}.{sql.quoted(name)}" if found else None


def is_identified_by_index(engine: Engine, table: Table | StateTable) -> bool:
    """Return whether a user named an index, and not the primary key, as the replica identity."""
    ((found,),) = engine.rows(
        f"SELECT relreplident = 'i' FROM pg_class WHERE oid = {_OID}",
        [sql.schema_of(table), table.name],
    )
    return bool(found)


_OID = (
    "(SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = ? AND c.relname = ?)"
)
