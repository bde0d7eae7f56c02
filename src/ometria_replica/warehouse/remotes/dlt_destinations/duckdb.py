"""DuckDB, through dlt: slower than without, and here to show that the bridge holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlt.destinations import duckdb as factory
from dlt.destinations.impl.duckdb.configuration import DuckDbCredentials

from ometria_replica.local_duckdb import config_of
from ometria_replica.warehouse.remotes.dlt_destinations import Destination

if TYPE_CHECKING:
    from ometria_replica.config import Limits
    from ometria_replica.warehouse.remotes.dlt_destinations import Address

FORM = "dlt+duckdb:///FILE"


def options(address: Address) -> dict[str, Any]:
    """Read the path of the file."""
    address.need(FORM, file=address.path)
    return {"credentials": str(Path(address.path).absolute())}  # Not in dlt's own folder.


def limited(options: dict[str, Any], limits: Limits, folder: Path) -> dict[str, Any]:
    """Give dlt's DuckDB the limits of ours."""
    credentials = DuckDbCredentials(options["credentials"])
    credentials.global_config = config_of(limits, folder / "spill")
    return {"credentials": credentials}


DESTINATION = Destination(
    name="DuckDB",
    factory=factory,
    options=options,
    place=lambda address: address.path,
    limited=limited,
    is_there=lambda address: Path(address.path).exists(),
    lets_go=True,
)
