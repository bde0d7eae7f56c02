"""Join the rows of a lake with new ones in DuckDB, as streams."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from ometria_replica.local_duckdb import registered
from ometria_replica.warehouse.remotes.base import ROWS_AT_ONCE, Relation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    import pyarrow as pa
    from duckdb import DuckDBPyConnection


class Joins:
    """Queries of *connection* over rows that are registered there for a while."""

    def __init__(self, connection: DuckDBPyConnection) -> None:
        self.connection = connection

    def stream(self, query: str, take: Callable[[pa.RecordBatchReader], None]) -> None:
        """Run *query*, and let *take* read its rows."""
        relation = Relation(self.connection, query)
        with self.streaming(), closing(relation.reader(ROWS_AT_ONCE)) as rows:
            take(rows)

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """
        Have joins keep the right side in memory: a batch, and not the rows that stream by.

        DuckDB cannot know how many those are, and would keep them: 2 GB for 3 million profiles.
        """
        self.connection.execute("SET disabled_optimizers = 'build_side_probe_side'")
        try:
            yield
        finally:
            self.connection.execute("RESET disabled_optimizers")

    def registered(
        self, name: str, rows: pa.Table | pa.RecordBatchReader
    ) -> AbstractContextManager[None]:
        """Give *rows* a name in queries."""
        return registered(self.connection, name, rows)
