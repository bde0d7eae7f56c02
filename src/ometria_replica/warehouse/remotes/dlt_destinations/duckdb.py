"""DuckDB, through dlt: slower than without, and here to show that the bridge holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlt.destinations import duckdb as factory

from ometria_replica.warehouse.remotes.dlt_destinations import Destination

if TYPE_CHECKING:
    from ometria_replica.warehouse.remotes.dlt_destinations import Address

FORM = "dlt+duckdb:///FILE"


def options(address: Address) -> dict[str, Any]:
    """Read the path of the file."""
    address.need(FORM, file=address.path)
    return {"credentials": str(Path(address.path).absolute())}  # Not in dlt's own folder.


DESTINATION = Destination(
    name="DuckDB",
    factory=factory,
    options=options,
    place=lambda address: address.path,
    is_there=lambda address: Path(address.path).exists(),
    lets_go=True,
)
