"""PostgreSQL, through dlt: slower than without, and here to show that the bridge holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg2  # noqa: F401 -- dlt would miss it only when it connects.
from dlt.destinations import postgres as factory

from ometria_replica.batch import BatchSize
from ometria_replica.warehouse.postgres_vacuum import Vacuum
from ometria_replica.warehouse.remotes.dlt_destinations import Destination, Layout
from ometria_replica.warehouse.remotes.dlt_loader import Failed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ometria_replica.schema import StateTable, Table
    from ometria_replica.warehouse.remotes.dlt_destinations import Address
    from ometria_replica.warehouse.remotes.dlt_loader import DltLoader

FORM = "dlt+postgresql://user:password@host:5432/database"


def options(address: Address) -> dict[str, Any]:
    """Read the URL as libpq does; ``?host=`` is the folder of a socket."""
    given = address.only(FORM, "host", "sslmode")
    host = address.host or given.get("host")
    address.need(FORM, host=host, database=address.path, user=address.user)
    return {
        "credentials": {
            "host": address.host or "localhost",  # dlt wants one; libpq takes the socket's.
            "port": address.port or 5432,
            "database": address.path,
            "username": address.user,
            "password": address.password or "none",  # dlt wants one where the server asks for none.
            "query": given,
        },
    }


def layout(table: Table) -> Layout:
    """Find rows by an index: without one a merge compared each row with each other."""
    return Layout(unique=table.key)


def upgrade(loader: DltLoader, tables: Sequence[Table]) -> None:
    """
    Replace the constraint of older releases, under which two sources could not have equal keys.

    It stays where a foreign key of the user needs it, and where this role does not own the table.
    """
    found = loader.rows(_OLD_CONSTRAINTS, ["__sync_key"])
    old = {(schema, table): name for schema, table, name in found}
    for table in tables:
        if name := old.get((table.schema, table.name)):
            there = loader.qualified(table.schema, table.name)
            key = ", ".join(map(loader.quoted, table.key))
            loader.execute_all(
                [
                    (f"ALTER TABLE {there} DROP CONSTRAINT {loader.quoted(name)}", ()),
                    (f"CREATE UNIQUE INDEX ON {there} ({key})", ()),
                ]
            )


_OLD_CONSTRAINTS = """
SELECT n.nspname, t.relname, c.conname FROM pg_constraint c
JOIN pg_class t ON t.oid = c.conrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = c.conkey[1]
WHERE c.contype = 'u' AND cardinality(c.conkey) = 1 AND a.attname = %s
AND c.conname = t.relname || '___sync_key_key' AND pg_has_role(t.relowner, 'USAGE')
AND NOT EXISTS (SELECT 1 FROM pg_constraint f WHERE f.contype = 'f' AND f.conindid = c.conindid)
"""


def forget(loader: DltLoader, address: Address, tables: Sequence[Table | StateTable]) -> str:
    """VACUUM the tables: dlt runs each statement outside of a transaction."""
    place = DESTINATION.place(address)
    vacuum = Vacuum(place, loader.rows, loader.execute, Failed, placeholder="%s")
    return vacuum.run(vacuum.statements(tables))


DESTINATION = Destination(
    name="PostgreSQL",
    factory=factory,
    options=options,
    place=lambda address: f"{address.host or 'this machine'}/{address.path}",
    file_format="insert_values",
    layout=layout,
    upgrade=upgrade,
    forget=forget,
    batch_size=BatchSize(records=20_000, bytes=8 * 2**20, files=2_000),
)
