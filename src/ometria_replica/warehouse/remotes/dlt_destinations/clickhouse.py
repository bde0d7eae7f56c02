"""ClickHouse, through dlt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import clickhouse_connect  # noqa: F401 -- dlt would miss it only when it connects.
import clickhouse_driver  # noqa: F401 -- As above.
from dlt.destinations import clickhouse as factory
from dlt.destinations.impl.clickhouse.factory import ClickHouseTypeMapper

from ometria_replica.warehouse.remotes.dlt_destinations import Destination, Layout

if TYPE_CHECKING:
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.remotes.dlt_destinations import Address

FORM = "clickhouse://user:password@host:9440/database?http_port=8443&secure=1"

_FIRST, _LAST = 2000, 2080  # Years with a partition of their own.


class Types(ClickHouseTypeMapper):
    """Keeps birthdays before 1970, where dlt's type for a date begins."""

    sct_to_unbound_dbt: Any = {**ClickHouseTypeMapper.sct_to_unbound_dbt, "date": "Date32"}  # noqa: RUF012 -- dlt's.
    dbt_to_sct: Any = {**ClickHouseTypeMapper.dbt_to_sct, "Date32": "date"}  # noqa: RUF012 -- dlt's.


def options(address: Address) -> dict[str, Any]:
    """Read the URL as that of the native protocol; files are sent to *http_port*."""
    address.need(FORM, host=address.host, database=address.path, user=address.user)
    given = address.only(FORM, "http_port", "secure")
    return {
        "credentials": {
            "host": address.host,
            "port": address.port or 9440,
            "http_port": int(given.get("http_port", "8443")),
            "secure": int(given.get("secure", "1")),
            "database": address.path,
            "username": address.user,
            "password": address.password or "",
            "session_timezone": "UTC",
        },
        "type_mapper": Types,
    }


def layout(table: Table) -> Layout:
    """
    Order rows by source and key, and keep the years of events apart.

    A merge then skips the years outside its span, since ClickHouse knows the first and the last
    time of each part. An INSERT may have rows of 100 partitions, so years are cut at both ends:
    a time of 1900 or 2299 is one that somebody typed.
    """
    sort = {"x-clickhouse-sort": list(table.key)}
    if table.time is None:
        return Layout(sort)
    return Layout(
        {
            **sort,
            "x-clickhouse-partition": f"least(greatest(toYear({table.time}), {_FIRST}), {_LAST})",
            "x-clickhouse-settings": {"allow_nullable_key": 1},
        }
    )


KEEPS = (  # https://clickhouse.com/docs/sql-reference/statements/delete
    "marks deleted rows, and removes them when it merges the"
    " parts that hold them, at a time that it chooses: OPTIMIZE TABLE ... FINAL, or ALTER TABLE"
    " ... APPLY DELETED MASK, does it at once. Backups keep them."
)

DESTINATION = Destination(
    name="ClickHouse",
    factory=factory,
    options=options,
    place=lambda address: f"{address.path} in ClickHouse ({address.host})",
    transactions=False,
    has_schemas=False,
    layout=layout,
    keeps=KEEPS,
)
