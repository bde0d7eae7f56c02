"""
Finds texts of other people's rows that quote the addresses of people, and what they become.

Such a text is the reason of a bounce, or a link with the address of the friend who passed it on.
The tables are read once, as they stream by: what is kept are the texts that quote one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica import sql
from ometria_replica.local_duckdb import registered
from ometria_replica.mapping import MASKED, SIGNS, addresses_sql, mask_addresses
from ometria_replica.selection import in_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from ometria_replica.schema import Table
    from ometria_replica.warehouse.engines.base import Engine

_ARRIVED, _FOUND = "arrived_texts", "found_quotations"
_AT_ONCE = 500  # Rows of an update: each has two parameters, and is compared with each.


@dataclass(frozen=True)
class Quotations:
    """The texts of *column* that quote an address: of each the row's key, the text, the new one."""

    table: Table
    column: str
    texts: tuple[tuple[str, str, str], ...]

    def updates(self) -> Iterator[tuple[tuple[str, ...], str, list[str]]]:
        """Write the new value for some keys at once, as an expression with parameters."""
        for some in in_parts(self.texts, _AT_ONCE):
            masked = {text: new for _, text, new in some}
            cases = " ".join("WHEN ?::VARCHAR THEN ?::VARCHAR" for _ in masked)
            name = sql.quoted(self.column)
            yield (
                tuple(dict.fromkeys(key for key, *_ in some)),
                f"CASE {name} {cases} ELSE {name} END",
                [text for pair in masked.items() for text in pair],
            )


@dataclass(frozen=True)
class QuotationSearch:
    """
    Searches the rows of a source in *engine*, by expressions of *connection*, a DuckDB.

    *addresses* are sought, as they are, and the words that *known* returns of a relation of words:
    addresses that are only known by a hash.
    """

    engine: Engine
    connection: DuckDBPyConnection
    source_id: str
    addresses: Collection[str]
    known: Callable[[str], Collection[str]]

    def of(self, table: Table, without: str | None) -> Iterator[Quotations]:
        """Find the texts of *table*, but of the rows in the relation *without*."""
        names = quoting_columns(table)
        if not names:
            return
        self.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {_FOUND} (name VARCHAR, key VARCHAR,"
            " text VARCHAR, masked VARCHAR)"
        )
        for rows in self.engine.containing(table, self.source_id, names, SIGNS):
            self._look_at(rows, names, without)
        for name in names:
            found = self.connection.execute(
                f"SELECT DISTINCT key, text, masked FROM {_FOUND} WHERE name = ? ORDER BY ALL",
                [name],
            ).fetchall()
            if found:
                yield Quotations(table, name, tuple(found))
        self.connection.execute(f"DROP TABLE {_FOUND}")

    def _look_at(
        self, rows: pa.RecordBatch | pa.Table, names: Sequence[str], without: str | None
    ) -> None:
        each = " UNION ALL ".join(
            f"SELECT {sql.quoted(name)} AS text FROM {_ARRIVED}" for name in names
        )
        texts = f"(SELECT DISTINCT text FROM ({each}))"
        words = f"(SELECT DISTINCT unnest({addresses_sql('text')}) AS word FROM {texts})"
        with registered(self.connection, _ARRIVED, rows):
            sought = {*self.addresses, *self.known(words)}
            if sought and mask_addresses(self.connection, texts, sought):
                self._keep(names, without)

    def _keep(self, names: Sequence[str], without: str | None) -> None:
        """Keep what was masked of the rows of others."""
        others = f" ANTI JOIN {without} USING (__sync_key)" if without else ""
        for name in names:
            self.connection.execute(
                f"INSERT INTO {_FOUND} SELECT ?, __sync_key, text, masked FROM {_ARRIVED}{others}"
                f" JOIN {MASKED} ON {sql.quoted(name)} = text",
                [name],
            )


def quoting_columns(table: Table) -> list[str]:
    """List the columns whose texts may quote an address; none where the table hides them."""
    return [
        column.name
        for column in table.columns
        if column.quotes and not column.treatment and not table.hides_addresses
    ]
