"""What the warehouse says before models are built: which tables there are, and who writes them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica import sql
from ometria_replica.catalog import CATALOG
from ometria_replica.errors import Busy, Unreachable, WarehouseError
from ometria_replica.schema import DATA_SCHEMA
from ometria_replica.warehouse import open_warehouse
from ometria_replica.warehouse.queries.run import ask

if TYPE_CHECKING:
    from datetime import datetime

    from ometria_replica.config import WarehouseSettings
    from ometria_replica.models.place import Place
    from ometria_replica.warehouse.warehouse import Warehouse

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Look:
    """
    What is in the warehouse: the *tables* that exist, and the name of a PostgreSQL *database*.

    Of the tables in *histories* there are versions. *erasures* are the ids of all erasures; None
    where the state cannot be read.
    """

    tables: tuple[str, ...]
    database: str | None = None
    erasures: frozenset[str] | None = None
    histories: tuple[str, ...] = ()


def look_at(settings: WarehouseSettings, place: Place, now: datetime) -> Look:
    """
    Ask the warehouse what there is.

    Raises WarehouseError if it has no table, and Busy while a run writes a DuckDB file.
    """
    database = _database(settings, place)
    try:
        with open_warehouse(
            settings.url, catalog=CATALOG.every, dry_run=True, limits=settings.limits
        ) as warehouse:
            look = _look(warehouse, place, now, database)
    except (Busy, Unreachable):
        raise
    except WarehouseError:
        if place.kind != "postgres":
            raise
        logger.info("the state cannot be read, so the tables are looked up without it")
        look = Look(_tables_by_query(settings, place), database)
    if not look.tables:
        raise WarehouseError(
            f"{place.lake_name or place.name} has none of the tables of the schema {DATA_SCHEMA}."
            " Run `ometria-replica sync` first, or change warehouse.url."
        )
    return look


def _look(warehouse: Warehouse, place: Place, now: datetime, database: str | None) -> Look:
    owners = warehouse.accounts.owners()
    if place.is_locked_by_runs:
        for owner in owners:
            held = warehouse.leases.holder(owner.source_id)
            if held is not None and warehouse.leases.is_active(held, now):
                raise Busy(
                    f"{held} is loading '{owner.source_id}' into {place.name}, and DuckDB allows"
                    " one writer at a time. Run again when it is done."
                )
    erasures = frozenset(
        receipt.erasure_id for owner in owners for receipt in warehouse.receipts.of(owner.source_id)
    )
    marts = warehouse.marts
    tables = marts.sources(CATALOG.every)
    # PostgreSQL does not show a role the tables that it may not read: then there is no account.
    return Look(tables, database, erasures if owners else None, marts.histories(CATALOG.every))


def _database(settings: WarehouseSettings, place: Place) -> str | None:
    """Ask a PostgreSQL server which database it is: a URL can leave that to a service."""
    if place.kind != "postgres":
        return None
    with ask(place.url, "SELECT current_database()::text", settings.limits) as answer:
        return next(str(name) for batch in answer.batches for name in batch.column(0).to_pylist())


def _tables_by_query(settings: WarehouseSettings, place: Place) -> tuple[str, ...]:
    """Name the tables for a role that may read these, and not the state."""
    query = (
        "SELECT table_name::text FROM information_schema.tables"
        f" WHERE table_schema = {sql.literal(DATA_SCHEMA)}"
    )
    with ask(place.url, query, settings.limits) as answer:
        there = {name for batch in answer.batches for name in batch.column(0).to_pylist()}
    return tuple(table.name for table in CATALOG.every if table.name in there)
