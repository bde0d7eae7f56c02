"""The statements that create the tables of a catalog, in the SQL of each warehouse."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ometria_replica import sql
from ometria_replica.comments import comments
from ometria_replica.config.limits import NO_LIMITS
from ometria_replica.warehouse import SCHEMES, imported

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ometria_replica.catalog import Catalog
    from ometria_replica.schema import Table

DEFAULT = "duckdb"


def warehouses() -> tuple[str, ...]:
    """Name the warehouses that are created by SQL, as their URLs do."""
    clouds = (name for name, known in SCHEMES.items() if "dlt_destinations" in known.module)
    return (DEFAULT, "postgresql", *(name for name in clouds if not name.startswith("dlt+")))


def create_statements(catalog: Catalog, warehouse: str = DEFAULT) -> list[str]:
    """
    Write the statements that a first sync executes in *warehouse*, one of warehouses().

    Raises ConfigError if the packages for it are not installed. Nothing is contacted.
    """
    schemas = dict.fromkeys(table.schema for table in catalog)
    if warehouse in {DEFAULT, "postgresql"}:
        return [
            *(f"CREATE SCHEMA IF NOT EXISTS {sql.quoted(schema)}" for schema in schemas),
            *(each for table in catalog for each in _statements(table, warehouse)),
        ]
    return _through_dlt(catalog, warehouse)


def _statements(table: Table, warehouse: str) -> Iterator[str]:
    if warehouse == DEFAULT:
        yield sql.create_table(table)
    else:
        yield sql.create_table(table, types=sql.POSTGRES_TYPES, has_key=True)
    for name, text in comments(table).items():
        yield sql.comment(table, name, text)


def _through_dlt(catalog: Catalog, warehouse: str) -> list[str]:
    """Ask dlt, which needs no connection for it, but an address: that of the documented form."""
    module = imported(warehouse)
    from ometria_replica.warehouse.remotes.dlt_destinations import Address  # noqa: PLC0415 -- dlt: 0.8 s.
    from ometria_replica.warehouse.remotes.dlt_remote import open_at  # noqa: PLC0415

    form = Address.read(module.FORM)
    files = {name for name, value in form.options.items() if value == "FILE"}
    given = {name: value for name, value in form.options.items() if name not in files}
    remote = open_at(module.DESTINATION, replace(form, options=given), NO_LIMITS, connects=False)
    try:
        return remote.create_statements(tuple(catalog))
    finally:
        remote.close()
