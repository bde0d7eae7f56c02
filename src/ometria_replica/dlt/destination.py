"""Refuses destinations in which dlt would double rows, or rename columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dlt.common.configuration.container import Container
from dlt.common.destination import DestinationCapabilitiesContext
from dlt.common.destination.utils import resolve_merge_strategy
from dlt.extract.source import SourceInjectableContext

from ometria_replica.errors import ConfigError

if TYPE_CHECKING:
    from ometria_replica.schema import Table


def refuse_unless_it_fits(table: Table) -> None:
    """
    Raise ConfigError if the load under way would double rows of *table*, or rename its columns.

    Outside a load, as when a script iterates over the source, there is nothing to refuse.
    """
    container = Container()
    if DestinationCapabilitiesContext not in container or SourceInjectableContext not in container:
        return
    source = container[SourceInjectableContext].source
    _refuse_other_names(table, source.schema.naming)
    hints: Any = source.resources[table.name].compute_table_schema()
    capabilities = container[DestinationCapabilitiesContext]
    if resolve_merge_strategy({table.name: hints}, hints, capabilities) is None:
        raise ConfigError(
            f"dlt cannot merge {table.name} in this destination: each load would append rows"
            " that are there. For files, call pipeline.run() with"
            ' table_format="delta" or "iceberg"; else use a destination that merges.'
        )


def _refuse_other_names(table: Table, naming: Any) -> None:
    names = [column.name for column in table.all_columns]
    renamed = [name for name in names if naming.normalize_identifier(name).lower() != name]
    if renamed:
        raise ConfigError(
            f"dlt's naming convention '{naming.name()}' would rename columns of {table.name}:"
            f" {', '.join(renamed)}. Remove the setting schema.naming, or the argument"
            " naming_convention of the destination: the source has a convention of its own."
        )
