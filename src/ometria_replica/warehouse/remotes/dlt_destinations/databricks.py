"""Databricks, through dlt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import databricks.sql  # noqa: F401 -- dlt would miss it only when it connects.
from dlt.destinations import databricks as factory

from ometria_replica.warehouse.remotes.dlt_destinations import Destination, Layout

if TYPE_CHECKING:
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.remotes.dlt_destinations import Address

FORM = "databricks://token:TOKEN@host?http_path=/sql/1.0/warehouses/ID&catalog=NAME"


def options(address: Address) -> dict[str, Any]:
    """Read the URL as Databricks' dialect for SQLAlchemy does; a user is a service principal."""
    given = address.only(FORM, "http_path", "catalog")
    address.need(FORM, host=address.host, http_path=given.get("http_path"),
                 catalog=given.get("catalog"), token=address.password)  # fmt: skip
    identity = (
        {"access_token": address.password}
        if address.user == "token"
        else {"client_id": address.user, "client_secret": address.password}
    )
    return {
        "credentials": {
            "server_hostname": address.host,
            "http_path": given["http_path"],
            "catalog": given["catalog"],
            "session_timezone": "UTC",
            **identity,
        },
        "keep_staged_files": False,  # They hold people's data.
    }


def layout(table: Table) -> Layout:
    """Cluster events by time and all by key, so that a merge skips files."""
    names = [name for name in (table.time, "__sync_key") if name]
    return Layout(columns={name: {"cluster": True} for name in names})


KEEPS = (  # https://docs.databricks.com/sql/language-manual/delta-vacuum
    "keeps deleted rows in files of old versions until VACUUM"
    " removes them, by default after 7 days (delta.deletedFileRetentionDuration); where"
    " predictive optimization is off, run VACUUM for each table. The log keeps the lowest and"
    " highest values of old files for 30 days (delta.logRetentionDuration). With deletion"
    " vectors, run REORG TABLE ... APPLY (PURGE) before."
)

DESTINATION = Destination(
    name="Databricks",
    factory=factory,
    options=options,
    place=lambda address: f"{address.options.get('catalog')} in Databricks ({address.host})",
    strategy="upsert",  # A MERGE is one commit there; a DELETE and an INSERT are two.
    transactions=False,
    layout=layout,
    keeps=KEEPS,
    upkeep=(
        "maintains its tables itself where predictive optimization is on, as by default in Unity"
        " Catalog; else run OPTIMIZE and VACUUM for each table."
    ),
)
