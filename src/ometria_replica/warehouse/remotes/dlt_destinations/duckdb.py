"""DuckDB, through dlt: slower than without, and here to show that the bridge holds."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
from dlt.destinations import duckdb as factory
from dlt.destinations.impl.duckdb.configuration import DuckDbCredentials

from ometria_replica import sql
from ometria_replica.config.warehouse_settings import STORAGE_VERSION
from ometria_replica.local_duckdb import config_of, open_duckdb
from ometria_replica.permissions import CLOSED_UMASK, Holder
from ometria_replica.temp_files import temp_folder
from ometria_replica.warehouse.duckdb_rewrite import FileRewrite
from ometria_replica.warehouse.remotes.dlt_destinations import Destination
from ometria_replica.warehouse.remotes.dlt_loader import Failed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ometria_replica.config import Limits
    from ometria_replica.schema import StateTable, Table
    from ometria_replica.warehouse.remotes.dlt_destinations import Address
    from ometria_replica.warehouse.remotes.dlt_loader import DltLoader

FORM = "dlt+duckdb:///FILE"


def options(address: Address) -> dict[str, Any]:
    """Read the path of the file."""
    address.need(FORM, file=address.path)
    return {"credentials": str(Path(address.path).absolute())}  # Not in dlt's own folder.


def create(address: Address) -> None:
    """Create the file as without dlt: for its owner alone, and readable by DuckDB 1.4."""
    path, version = sql.literal(address.path), sql.literal(STORAGE_VERSION)
    holder = Holder()
    CLOSED_UMASK.hold(holder, Path(address.path))
    try:
        with (
            suppress(duckdb.Error),  # dlt meets the error again.
            temp_folder() as folder,
            open_duckdb(folder) as connection,
        ):
            connection.execute(f"ATTACH {path} AS new (STORAGE_VERSION {version})")
    finally:
        CLOSED_UMASK.release(holder)


def limited(options: dict[str, Any], limits: Limits, folder: Path) -> dict[str, Any]:
    """Give dlt's DuckDB the limits of ours."""
    credentials = DuckDbCredentials(options["credentials"])
    credentials.global_config = config_of(limits, folder / "spill")
    return {"credentials": credentials}


def forget(loader: DltLoader, address: Address, _: Sequence[Table | StateTable]) -> str:
    """Rewrite the file as without dlt, once dlt has let go of it."""
    loader.close()
    CLOSED_UMASK.hold(loader, Path(address.path))
    try:
        with temp_folder() as folder, open_duckdb(folder) as connection:
            connection.execute(f"ATTACH {sql.literal(address.path)} AS old")
            return FileRewrite(connection, address.path, "old").run()
    except duckdb.Error as error:
        raise Failed(error) from error
    finally:
        CLOSED_UMASK.release(loader)


DESTINATION = Destination(
    name="DuckDB",
    factory=factory,
    options=options,
    place=lambda address: address.path,
    limited=limited,
    is_there=lambda address: Path(address.path).exists(),
    create=create,
    forget=forget,
    lets_go=True,
)
