"""
Queries in DuckDB: of a file, or of tables that are registered in a database in memory.

Three locks keep a query from anything else than reading: only statements that read are run, the
file is attached read-only, and DuckDB itself opens no file, address or extension from then on.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from ometria_replica import sql
from ometria_replica.errors import QueryError, WarehouseError
from ometria_replica.local_duckdb import lack, open_staging
from ometria_replica.stopping import interruptible
from ometria_replica.warehouse.engines.duckdb_file import FileAttachment
from ometria_replica.warehouse.queries.answer import ROWS_AT_ONCE, Answer, not_a_query
from ometria_replica.warehouse.queries.statement import one_statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from duckdb import DuckDBPyConnection
    from duckdb.sqltypes import DuckDBPyType

    from ometria_replica.config import Limits

_DOING = "answering the query"

_READING = frozenset({"SELECT", "EXPLAIN", "MULTI"})
"""Types of statements. PIVOT is one of several steps, of which the others make types in memory."""

_LOCKS = (
    "SET autoload_known_extensions = false",
    "SET python_enable_replacements = false",  # Else a name may mean a variable of this program.
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)
_SHOWN = frozenset({
    "boolean", "tinyint", "smallint", "integer", "bigint", "hugeint", "utinyint", "usmallint",
    "uinteger", "ubigint", "float", "double", "decimal", "varchar", "enum", "date", "time",
    "timestamp", "timestamp with time zone",
})  # fmt: skip
"""Types that Python knows. As text, DuckDB writes a JSON or a UUID as it is."""
_NESTED = frozenset({"list", "array", "struct", "map"})
# Errors of these kinds are of the statement alone, so all of their text can help its author.
_OF_THE_TEXT = (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException)


@contextmanager
def ask_file(path: str, text: str, limits: Limits) -> Iterator[Answer]:
    """
    Run the query *text* in the DuckDB file at *path*, which is locked until the block ends.

    Raises as :func:`ask`, and WarehouseError if there is no such file.
    """
    if not Path(path).exists():
        raise WarehouseError(
            f"{path} does not exist. Run `ometria-replica sync`, or change warehouse.url."
        )
    with ExitStack() as closing:
        connection = open_staging(closing, limits)
        text = checked(connection, text)
        file = FileAttachment(path, read_only=True)
        try:
            with interruptible(connection.interrupt):
                file.attach(connection)
                connection.execute(f"USE {sql.quoted(file.catalog)}")
        except duckdb.Error as error:
            raise file.explained(error, _DOING) from error

        def explained(error: Exception) -> WarehouseError | None:
            return file.explained(error, _DOING) if isinstance(error, duckdb.IOException) else None

        with ask(connection, text, explained) as answer:
            yield answer


def checked(connection: DuckDBPyConnection, text: str) -> str:
    """
    Return the one statement of *text*.

    Raises ConfigError unless it is one that reads, and QueryError if it is no SQL.
    """
    text = one_statement(text)
    try:
        statements = connection.extract_statements(text)
    except duckdb.Error as error:
        raise _refused(error) from error
    kinds = [str(each.type).rpartition(".")[2] for each in statements]
    for kind in kinds:
        if kind not in _READING:
            raise not_a_query(kind)
    return text


@contextmanager
def ask(
    connection: DuckDBPyConnection,
    text: str,
    explained: Callable[[Exception], WarehouseError | None] = lambda _: None,
) -> Iterator[Answer]:
    """
    Run a query that :func:`checked` has let pass. From then on *connection* only reads.

    An error is a QueryError, unless *explained* knows better.
    """

    def refused(error: Exception) -> WarehouseError:
        return explained(error) or _refused(error)

    with interruptible(connection.interrupt):
        try:
            for lock in _LOCKS:
                connection.execute(lock)
            relation = connection.sql(text)
            columns = ", ".join(
                _column(place, kind) for place, kind in enumerate(relation.types, start=1)
            )
            reader = relation.project(columns).to_arrow_reader(ROWS_AT_ONCE)
        except duckdb.Error as error:
            raise refused(error) from error
        yield Answer(tuple(relation.columns), _batches(reader, refused))


def _batches(
    reader: pa.RecordBatchReader, refused: Callable[[Exception], WarehouseError]
) -> Iterator[pa.RecordBatch]:
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise refused(error) from error
        yield batch


def _column(place: int, kind: DuckDBPyType) -> str:
    """Show a type that Python does not know, such as an interval, as DuckDB writes it."""
    value = f"#{place}" if _is_shown(kind) else f"CAST(#{place} AS VARCHAR)"
    return f"{value} AS column_{place}"


def _is_shown(kind: DuckDBPyType) -> bool:
    if kind.id in _NESTED:
        inside: Any = kind.children  # Of an array, its size too.
        return all(_is_shown(each) for _, each in inside if isinstance(each, type(kind)))
    return kind.id in _SHOWN


def _refused(error: Exception) -> WarehouseError:
    if not isinstance(error, duckdb.Error):  # Arrow's, which has only the text of DuckDB's.
        is_memory = "Out of Memory Error" in str(error)
        error = (duckdb.OutOfMemoryException if is_memory else duckdb.Error)(str(error))
    if known := lack(error, _DOING):
        return known
    first, *others = str(error).partition("\n\n")[0].splitlines()
    helps = others if isinstance(error, _OF_THE_TEXT) else []
    return QueryError("\n".join([first, *helps]))
