"""Snowflake, through dlt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import snowflake.connector  # noqa: F401 -- dlt would miss it only when it connects.
from dlt.destinations import snowflake as factory

from ometria_replica.warehouse.remotes.dlt_destinations import Destination, Layout

if TYPE_CHECKING:
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.remotes.dlt_destinations import Address

FORM = "snowflake://user:password@account/database?warehouse=NAME&role=NAME"
OPTIONS = ("warehouse", "role", "authenticator", "token", "private_key_path",
           "private_key_passphrase")  # fmt: skip


def options(address: Address) -> dict[str, Any]:
    """Read the URL as SQLAlchemy's dialect for Snowflake does, but for the schema."""
    address.need(FORM, account=address.host, database=address.path, user=address.user)
    given = address.only(FORM, *OPTIONS)
    return {
        "credentials": {
            "host": address.host,
            "database": address.path,
            "username": address.user,
            **({"password": address.password} if address.password else {}),
            **given,
        },
        "keep_staged_files": False,  # They hold people's data.
    }


def layout(table: Table) -> Layout:
    """Keep the days of events together, so that a batch is merged into few of its partitions."""
    return Layout(columns={table.time: {"cluster": True}} if table.time else {})


KEEPS = (  # https://docs.snowflake.com/user-guide/data-time-travel
    "keeps deleted rows for Time Travel, as many days as"
    " DATA_RETENTION_TIME_IN_DAYS of the tables says (by default 1, at most 90), and then for 7"
    " days in Fail-safe, which nobody can shorten; clones keep them longer."
)

DESTINATION = Destination(
    name="Snowflake",
    factory=factory,
    options=options,
    place=lambda address: f"{address.path} in Snowflake ({address.host})",
    layout=layout,
    keeps=KEEPS,
)
