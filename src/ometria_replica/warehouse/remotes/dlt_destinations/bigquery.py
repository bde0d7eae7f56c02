"""BigQuery, through dlt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google.cloud.bigquery  # noqa: F401 -- dlt would miss it only when it connects.
from dlt.destinations import bigquery as factory

from ometria_replica.comments import comments
from ometria_replica.errors import ConfigError
from ometria_replica.warehouse.remotes.dlt_destinations import Destination, Layout

if TYPE_CHECKING:
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.remotes.dlt_destinations import Address

FORM = "bigquery://project?location=EU&credentials_path=FILE"


def options(address: Address) -> dict[str, Any]:
    """Read the URL as SQLAlchemy's dialect for BigQuery does, but for the dataset."""
    address.need(FORM, project=address.host)
    given = address.only(FORM, "location", "credentials_path")
    found: dict[str, Any] = {"project_id": address.host, "location": given.get("location", "US")}
    if "credentials_path" in given:
        found["credentials"] = _key(Path(given["credentials_path"]))
    return found


def layout(table: Table) -> Layout:
    """Partition events by their day and cluster all by key: a batch reads and pays for its days."""
    columns = {table.time: {"partition": True}} if table.time else {}
    about = comments(table).get("")  # dlt's own hint for it does not reach BigQuery.
    described = {"x-bigquery-table-description": about} if about else {}
    return Layout({"x-bigquery-cluster-columns": ["__sync_key"], **described}, columns)


def _key(path: Path) -> dict[str, Any]:
    """Read the key of a service account; without one, the machine's own credentials are found."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        raise ConfigError(
            f"warehouse.url: credentials_path: {path} is no key of a service account that can be"
            " read. Name its JSON file, or leave it out to use the machine's own credentials."
        ) from None
    return found


KEEPS = (  # https://cloud.google.com/bigquery/docs/time-travel
    "keeps deleted rows for time travel, for 7 days unless"
    " max_time_travel_hours of the dataset says less (at least 2 days), and then for 7 days as"
    " fail-safe; snapshots and clones of tables keep them longer."
)

DESTINATION = Destination(
    name="BigQuery",
    factory=factory,
    options=options,
    unconnected={
        "credentials": {"project_id": "none", "private_key": "none", "client_email": "none"}
    },
    place=lambda address: f"the project {address.host} in BigQuery",
    layout=layout,
    keeps=KEEPS,
)
