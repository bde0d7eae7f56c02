"""Several state tables as one query, for warehouses in which each query costs a while."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from ometria_replica.arrow_types import arrow_schema
from ometria_replica.warehouse.state_tables import FILES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ometria_replica.schema import StateTable

_PLACE = "place"


class StateUnion:
    """
    *tables*, one below the other.

    *schema* holds the place of a row's table in *tables*, then columns by type: as many texts,
    integers, ... as one of the tables needs.
    """

    def __init__(self, tables: Sequence[StateTable]) -> None:
        self._tables = tables
        self._columns = [_by_type(table) for table in tables]
        kinds = {name: kind for each in self._columns for name, (_, kind) in each.items()}
        self.schema = arrow_schema([(_PLACE, "integer"), *kinds.items()])

    def query(self, name: Callable[[StateTable], str], quoted: Callable[[str], str]) -> str:
        """
        Write the query. *name* names a table in full, *quoted* writes the name of a column.

        The first SELECT returns no row, and gives each column its type, which NULL has not.
        """
        of_type: dict[str, str] = {kind: quoted(column) for column, kind in FILES.columns}  # All.
        kinds = {key: kind for each in self._columns for key, (_, kind) in each.items()}
        typed = [f"{of_type[kind]} AS {quoted(key)}" for key, kind in kinds.items()]
        first = f"SELECT 0 AS {quoted(_PLACE)}, {', '.join(typed)} FROM {name(FILES)} WHERE 1 = 0"
        others = [
            f"SELECT {place}, "
            + ", ".join(quoted(columns[key][0]) if key in columns else "NULL" for key in kinds)
            + f" FROM {name(table)}"
            for place, (table, columns) in enumerate(zip(self._tables, self._columns, strict=True))
        ]
        return " UNION ALL ".join([first, *others])

    def apart(self, rows: pa.Table) -> list[pa.Table]:
        """Part the rows of the query into those of each table."""
        parts = []
        for place, columns in enumerate(self._columns):
            mine = rows.filter(pc.equal(rows.column(_PLACE), pa.scalar(place))).select(
                list(columns)
            )
            parts.append(mine.rename_columns([column for column, _ in columns.values()]))
        return parts


def _by_type(table: StateTable) -> dict[str, tuple[str, str]]:
    """Return name and type of each column, by its number among those of its type: ``text_1``."""
    seen: Counter[str] = Counter()
    found: dict[str, tuple[str, str]] = {}
    for column, kind in table.columns:
        seen[kind] += 1
        found[f"{kind}_{seen[kind]}"] = (column, kind)
    return found
