"""PostgreSQL, through dlt: slower than without, and here to show that the bridge holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg2  # noqa: F401 -- dlt would miss it only when it connects.
from dlt.destinations import postgres as factory

from ometria_replica.batch import BatchSize
from ometria_replica.schema import ROW_KEY
from ometria_replica.warehouse.remotes.dlt_destinations import Destination, Layout

if TYPE_CHECKING:
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.remotes.dlt_destinations import Address

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


def layout(_: Table) -> Layout:
    """Find rows by an index: without one a merge compared each row with each other."""
    return Layout(unique=ROW_KEY)


DESTINATION = Destination(
    name="PostgreSQL",
    factory=factory,
    options=options,
    place=lambda address: f"{address.host or 'this machine'}/{address.path}",
    file_format="insert_values",
    layout=layout,
    batch_size=BatchSize(records=20_000, bytes=8 * 2**20, files=2_000),
)
