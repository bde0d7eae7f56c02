"""Queries in PostgreSQL, in a transaction that is read only and rolled back."""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import adbc_driver_manager as adbc
import pyarrow as pa
from adbc_driver_postgresql import dbapi

from ometria_replica.config import masked
from ometria_replica.errors import QueryError, Unreachable
from ometria_replica.warehouse.engines import postgres_errors
from ometria_replica.warehouse.engines.postgres_dialect import with_defaults
from ometria_replica.warehouse.engines.postgres_worker import Worker
from ometria_replica.warehouse.queries.answer import Answer, not_a_query
from ometria_replica.warehouse.queries.statement import one_statement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ometria_replica.errors import WarehouseError

_COPIED = frozenset({"SELECT", "WITH", "VALUES", "TABLE"})
_READING = _COPIED | {"EXPLAIN", "SHOW"}

_NUMBER = "numeric"  # The driver gives it as a text of a type of its own.
_UNEXACT = frozenset({"money", "oid"})  # Of the driver's numbers.


@contextmanager
def ask_postgres(url: str, text: str) -> Iterator[Answer]:
    """
    Run the query *text* in the database at *url*.

    Raises ConfigError if it is not one statement that reads, QueryError if the server refuses it,
    and WarehouseError if there is no connection.
    """
    statement = one_statement(text)
    if _first_word(statement) not in _READING:
        raise not_a_query(_first_word(statement) or "This text")
    asking = _Asking(url)
    try:
        yield asking.ask(statement)
    except adbc.Error as error:
        raise _refused(error, asking.place) from error
    finally:
        asking.close()


def _first_word(statement: str) -> str:
    found = re.match(r"[\s(]*(\w+)", statement)
    return found[1].upper() if found else ""


class _Asking:
    """One connection, for one query."""

    def __init__(self, url: str) -> None:
        self.place = masked(url)
        self._worker = Worker()
        self._is_read = False
        try:
            self._connection: dbapi.Connection = self._worker.run(
                partial(dbapi.connect, with_defaults(url), autocommit=True)
            )
        except adbc.Error as error:
            raise postgres_errors.not_connected(error, self.place) from error
        self._cursor = self._connection.cursor()

    def ask(self, statement: str) -> Answer:
        self._run(partial(self._connection.adbc_connection.set_autocommit, False))
        self._execute("SET TRANSACTION READ ONLY")
        # After this first query no statement can make the transaction write. Notices go to
        # standard error past this program.
        self._execute(
            "SELECT set_config('TimeZone', 'UTC', true),"
            " set_config('client_min_messages', 'error', true)"
        )
        self._run(self._cursor.fetchall)
        if _first_word(statement) in _COPIED:
            names, statement = self._with_texts(statement)
        else:
            names = None  # EXPLAIN and SHOW, of texts only. The driver would COPY their result.
            self._cursor.adbc_statement.set_options(**{"adbc.postgresql.use_copy": "false"})
        self._execute(statement)
        reader = self._run(self._cursor.fetch_record_batch)
        return Answer(names or tuple(reader.schema.names), self._batches(reader))

    def close(self) -> None:
        """Roll back, and close the connection. Rows that are not read yet are not computed."""
        if not self._is_read:
            with suppress(adbc.Error):
                self._connection.adbc_cancel()  # Else the driver reads all rows to the end.
        with suppress(adbc.Error):
            self._worker.free(self._cursor, self._cursor.close)
            self._run(self._connection.adbc_connection.rollback)
        with suppress(adbc.Error):
            self._worker.free(self._connection, partial(self._run, self._connection.close))

    def _with_texts(self, statement: str) -> tuple[tuple[str, ...], str]:
        """Let the server write the types that the driver does not know, such as an interval."""
        schema = self._run(partial(self._cursor.adbc_execute_schema, statement))
        names = tuple(schema.names)
        if not names or all(map(_is_shown, schema)):
            return names, statement
        columns = [f"column_{place}" for place in range(len(names))]
        shown = ", ".join(
            column if _is_shown(field) else f"{column}::text"
            for column, field in zip(columns, schema, strict=True)
        )
        return names, f"SELECT {shown} FROM ({statement}) AS asked ({', '.join(columns)})"

    def _batches(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        while True:
            try:
                batch = self._run(partial(next, reader, None))
            except adbc.Error as error:
                raise _refused(error, self.place) from error
            except (pa.ArrowException, OSError) as error:
                raise QueryError(_message(error)) from error
            if batch is None:
                self._is_read = True
                return
            yield batch

    def _execute(self, statement: str) -> None:
        self._run(partial(self._cursor.execute, statement))

    def _run(self, call: Any) -> Any:
        """Run a call of the driver. A signal cancels the statement."""
        return self._worker.run(call, self._connection.adbc_cancel)


def _is_shown(field: pa.Field[Any]) -> bool:
    kind: Any = field.type
    if (field.metadata or {}).get(b"POSTGRESQL:type", b"").decode() in _UNEXACT:
        return False
    if isinstance(kind, pa.BaseExtensionType):
        name = getattr(kind, "type_name", "")
        return name == _NUMBER or kind.extension_name in {"arrow.json", "arrow.uuid"}
    if pa.types.is_list(kind):
        return not isinstance(kind.value_type, pa.BaseExtensionType) and _is_plain(kind.value_type)
    return _is_plain(kind)


def _is_plain(kind: pa.DataType) -> bool:
    return any(
        test(kind)
        for test in (
            pa.types.is_boolean,
            pa.types.is_integer,
            pa.types.is_floating,
            pa.types.is_string,
            pa.types.is_date,
            pa.types.is_timestamp,
            pa.types.is_time,
        )
    )


def _refused(error: adbc.Error, place: str) -> WarehouseError:
    if postgres_errors.is_lost(error):
        return Unreachable(f"The connection to {place} broke. Nothing was changed. Run again.")
    return QueryError(_message(error))


def _message(error: Exception) -> str:
    """Take the server's message, in any language, out of what the driver says around it."""
    text = str(error)
    found = re.search(r"\b[^\W\d_]+:  (.+)", text)
    if found is None:
        return "The result could not be read. Cast columns of unusual types to text."
    return found[1]
