"""Redshift, through dlt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg2  # noqa: F401 -- dlt would miss it only when it connects.
from dlt.destinations import redshift as factory

from ometria_replica.batch import BatchSize
from ometria_replica.warehouse.remotes.dlt_destinations import Destination, Layout

if TYPE_CHECKING:
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.remotes.dlt_destinations import Address

FORM = "redshift://user:password@host:5439/database"


def options(address: Address) -> dict[str, Any]:
    """Read the URL as PostgreSQL's."""
    address.need(FORM, host=address.host, database=address.path, user=address.user,
                 password=address.password)  # fmt: skip
    address.only(FORM)
    return {
        "credentials": {
            "host": address.host,
            "port": address.port or 5439,
            "database": address.path,
            "username": address.user,
            "password": address.password,
        }
    }


def layout(table: Table) -> Layout:
    """Sort events by time and all else by key, so that a merge skips blocks."""
    return Layout(columns={table.time or "__sync_key": {"sort": True}})


KEEPS = (  # https://docs.aws.amazon.com/redshift/latest/dg/r_VACUUM_command.html
    "marks deleted rows, and removes them when VACUUM DELETE"
    " runs: in the background, or at once with VACUUM DELETE ONLY for each table. Snapshots"
    " keep them until they expire."
)

DESTINATION = Destination(
    name="Redshift",
    factory=factory,
    options=options,
    place=lambda address: f"{address.host}/{address.path}",
    file_format="insert_values",  # COPY would need a bucket of yours.
    layout=layout,
    keeps=KEEPS,
    longest_text=65_535,
    batch_size=BatchSize(records=20_000, bytes=8 * 2**20, files=2_000),  # As text, in one process.
)
