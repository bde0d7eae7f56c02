"""
VACUUM the tables in PostgreSQL, so that the space of deleted rows is free.

``VACUUM FULL`` would rewrite them, and keeps every other session from them meanwhile: it is left
to the user.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ometria_replica import sql
from ometria_replica.failpoints import step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ometria_replica.schema import StateTable, Table

logger = logging.getLogger(__name__)

_KEPT = (
    "{place} frees the space of deleted rows, and their bytes stay in it until other rows are"
    " written there; VACUUM FULL rewrites a table, and locks it meanwhile. The write-ahead log,"
    " archives of it, replicas, subscribers and backups keep the rows as long as they are kept."
)
_LEFT = (
    "Not even that was done for {names}: let the owner of the tables, or a role with the privilege"
    " MAINTAIN, run VACUUM for them, without a pooler."
)


@dataclass(frozen=True)
class Vacuum:
    """
    VACUUM by a connection to *place*.

    *rows* runs a query, with *placeholder* for a parameter, and *execute* a statement; *failed*
    is the error that both raise.
    """

    place: str
    rows: Callable[[str, Sequence[object]], list[Any]]
    execute: Callable[[str], None]
    failed: type[Exception]
    placeholder: str = "?"

    def statements(self, tables: Sequence[Table | StateTable]) -> dict[str, str | None]:
        """
        Write the VACUUM of each of *tables* that exists, by its name; None if this role may not.

        PostgreSQL itself would only warn of such a table.
        """
        ((version,),) = self.rows("SELECT current_setting('server_version_num')::integer", ())
        # PostgreSQL leaves out the indexes if few rows were deleted.
        options = "(INDEX_CLEANUP TRUE) " if version >= 12_00_00 else ""
        maintains = " OR has_table_privilege(c.oid, 'MAINTAIN')" if version >= 17_00_00 else ""
        query = _MAY.format(maintains=maintains, place=self.placeholder)
        return {
            f"{sql.schema_of(table)}.{table.name}": (
                f"VACUUM {options}{sql.qualified(table)}" if may else None
            )
            for table in tables
            for (may,) in self.rows(query, [sql.schema_of(table), table.name])
        }

    def run(self, statements: Mapping[str, str | None]) -> str:
        """Run *statements*, outside of a transaction, and return what stays."""
        left = [name for name, statement in statements.items() if not self._done(name, statement)]
        kept = _KEPT.format(place=self.place)
        return f"{kept} {_LEFT.format(names=', '.join(left))}" if left else kept

    def _done(self, name: str, statement: str | None) -> bool:
        """Run a statement; return False if there is none, or it fails, as behind some poolers."""
        if statement is None:
            return False
        try:
            with step("vacuum"):
                self.execute(statement)
        except self.failed as error:
            logger.info("%s was not vacuumed (%s)", name, type(error).__name__)
            return False
        return True


_MAY = """
SELECT pg_has_role(c.relowner, 'USAGE') OR pg_has_role(
  (SELECT datdba FROM pg_database WHERE datname = current_database()), 'USAGE'){maintains}
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname = {place} AND c.relname = {place}
"""
