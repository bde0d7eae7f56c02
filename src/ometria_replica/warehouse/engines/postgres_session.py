"""The connection to PostgreSQL: made when it is needed; each statement is in a transaction."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import adbc_driver_manager as adbc
from adbc_driver_postgresql import dbapi

from ometria_replica.config import masked
from ometria_replica.errors import WarehouseError
from ometria_replica.failpoints import step
from ometria_replica.warehouse.engines import postgres_errors
from ometria_replica.warehouse.engines.postgres_dialect import numbered, with_defaults
from ometria_replica.warehouse.engines.postgres_worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

IDLE_SECONDS = 30.0  # After that it connects anew: a proxy may have cut the connection.
LOCK_SECONDS = 30  # For another session's statement on our tables to end.

# Until the transaction ends. Our temporary tables come before all tables of their names. libpq
# writes notices to standard error, and those of a trigger may quote personal data.
_OUR_SETTINGS = """
SELECT set_config('lock_timeout', '{lock_seconds}s', true),
  set_config('TimeZone', 'UTC', true),
  set_config('client_min_messages', 'error', true),
  set_config('search_path',
    concat_ws(', ', 'pg_temp', nullif(current_setting('search_path'), '')), true)
"""


class PostgresSession:
    """
    A connection to *url*, which *place* names in messages.

    No statement runs outside a transaction, since a pooler may give each another connection:
    there the driver's statement, prepared on the first, would be missing. *is_kept* says whether
    the transaction is committed at its end.
    """

    def __init__(self, url: str) -> None:
        self.place = masked(url)
        self.is_kept = True
        self._url = with_defaults(url)
        self._worker = Worker()
        self._connection: dbapi.Connection | None = None
        self._used_at = 0.0
        self._in_transaction = False
        self._committing = ""
        self._is_new = True
        self._sees_commits = True

    @contextmanager
    def opened(self, doing: str) -> Iterator[None]:
        """Connect, if needed, and begin a transaction. Driver errors become WarehouseError."""
        try:
            if not self._in_transaction:
                if self._connection and time.monotonic() - self._used_at > IDLE_SECONDS:
                    self.close()
                if self._connection is None:
                    self._connect()
            with self.transaction():
                yield
        except adbc.Error as error:
            if postgres_errors.is_lost(error):
                self.close()
            raise postgres_errors.refused(error, doing, self.place, LOCK_SECONDS) from error
        finally:
            self._used_at = time.monotonic()

    def _connect(self) -> None:
        self._is_new = True
        try:
            self._connection = self.run(partial(dbapi.connect, self._url, autocommit=True))
        except adbc.Error as error:
            raise postgres_errors.not_connected(error, self.place) from error
        with self.transaction():
            ((encoding, isolation),) = self.rows(
                "SELECT current_setting('server_encoding'),"
                " current_setting('default_transaction_isolation')"
            )
        self._is_new = False
        self._sees_commits = isolation == "read committed"
        if encoding != "UTF8":
            raise WarehouseError(
                f"The database at {self.place} is encoded as {encoding}, which cannot hold every"
                " text. Nothing was changed. Use a database that is encoded as UTF8."
            )

    def close(self) -> None:
        """Close the connection. Safe to call twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(adbc.Error):
                self._worker.free(connection, partial(self.run, connection.close))

    @contextmanager
    def transaction(self, name: str = "state") -> Iterator[None]:
        """Commit everything in the block, or nothing. An inner transaction is part of the outer."""
        self._committing = name
        if self._in_transaction:
            yield
            return
        self._begin()
        self._in_transaction = self.is_kept = True
        try:
            yield
            if self.is_kept:
                with step(f"commit of {self._committing}"):
                    self._autocommit(on=True)
            else:
                self._roll_back()
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._in_transaction = False

    @contextmanager
    def interrupted(self) -> Iterator[None]:
        """Commit the transaction before the block, and begin one for the rest after it."""
        self._autocommit(on=True)
        try:
            yield
        finally:
            self._begin()

    def _begin(self) -> None:
        """
        Begin a transaction, in a new connection if the server has ended this one meanwhile.

        An idle timeout, a restart or a proxy may have cut it. Nothing was under way.
        """
        try:
            self._autocommit(on=False)
            if not self._sees_commits:  # A lock is worth nothing if the view is older than it.
                self.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            self.rows(_OUR_SETTINGS.format(lock_seconds=LOCK_SECONDS))
        except adbc.Error as error:
            if self._is_new or not postgres_errors.is_lost(error):
                self._roll_back()
                raise
            logger.info("the connection to %s was cut; connecting again", self.place)
            self.close()
            self._connect()
            self._begin()
        except BaseException:
            self._roll_back()
            raise

    # By the driver, and not as statements of ours: where it believes that each statement
    # commits by itself, it commits after any with a time among its parameters (1.13).

    def _autocommit(self, *, on: bool) -> None:
        self.run(partial(self.driver().adbc_connection.set_autocommit, on))

    def _roll_back(self) -> None:
        with suppress(adbc.Error):
            connection = self.driver().adbc_connection
            self.run(connection.rollback)
            self.run(partial(connection.set_autocommit, True))

    def run(self, call: Callable[[], _Result]) -> _Result:
        """Run a call of the driver. A signal, or another exception, cancels the statement."""
        connection = self._connection
        return self._worker.run(call, connection.adbc_cancel if connection else None)

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> None:
        """Run a statement without a result: one that is not read makes the driver BEGIN again."""
        self.executed(statement, parameters)

    def executed(self, statement: str, parameters: Sequence[object] = ()) -> int:
        """
        Run a statement, and return how many rows the server says it wrote.

        -1 of a statement that writes none, or has parameters: then the driver does not say.
        """
        with self.cursor() as cursor:
            self.run(partial(cursor.execute, numbered(statement), list(parameters) or None))
            return int(cursor.rowcount)

    def rows(self, query: str, parameters: Sequence[object] = ()) -> list[Any]:
        """Run a query; rows are tuples."""
        with self.cursor() as cursor:
            self.run(partial(cursor.execute, numbered(query), list(parameters) or None))
            found: list[Any] = self.run(cursor.fetchall)
            return found

    @contextmanager
    def cursor(self) -> Iterator[dbapi.Cursor]:
        """Open a cursor for the block."""
        cursor = self.driver().cursor()
        try:
            yield cursor
        finally:
            self._worker.free(cursor, cursor.close)

    def driver(self) -> dbapi.Connection:
        """Return the driver's connection. Raises its error if there is none."""
        if self._connection is None:
            raise adbc.OperationalError("not connected", status_code=adbc.AdbcStatusCode.IO)
        return self._connection
