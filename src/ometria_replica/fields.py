"""The fields of the records that are kept: every path, in how many records, of which types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica.catalog import CATALOG
from ometria_replica.state_commands import chosen_sources, opened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ometria_replica.catalog import Catalog
    from ometria_replica.config import Config
    from ometria_replica.field_paths import Field
    from ometria_replica.schema import Table


@dataclass(frozen=True)
class TableFields:
    """
    The fields of a table's *records*, with the column that takes each; None if no column does.

    *is_cut* says that some names are not shown, or some paths not told apart.
    """

    source_id: str
    table: str
    records: int
    fields: tuple[tuple[Field, str | None], ...]
    is_cut: bool


def read_fields(
    config: Config,
    tables: Sequence[str] = (),
    accounts: Sequence[str] = (),
    *,
    catalog: Catalog = CATALOG,
) -> list[TableFields]:
    """
    Read the fields of the kept records of each source, or of the named *accounts*, by table.

    A table of which no records are kept is left out. Raises ConfigError for an unknown name.
    """
    chosen = catalog.every.only(tables)
    with opened(config, catalog, dry_run=True) as warehouse:
        sources = chosen_sources(warehouse, config, accounts)
        return [
            TableFields(
                owner.source_id,
                table.name,
                found.records,
                tuple((each, _column(table, each.path)) for each in found),
                found.is_cut,
            )
            for owner in warehouse.accounts.owners()
            if sources is None or owner.source_id in sources
            for table in chosen
            if (found := warehouse.records.fields(table, owner.source_id)) is not None
        ]


def _column(table: Table, path: str) -> str | None:
    """Name the column that takes the value at *path*, in any case; None if none does."""
    columns = {
        str(column.source).replace("::", ".").lower(): column.name for column in table.columns
    }
    return columns.get(path.lower())
