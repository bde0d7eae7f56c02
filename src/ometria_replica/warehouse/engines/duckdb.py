"""
A DuckDB file that other programs want too: attached while it is used, and no longer.

DuckDB locks a file for the one process that writes it, readers included. So it is
waited for, let go while there is nothing to write, and reported by name.
"""

from __future__ import annotations

import logging
import os
import re
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import duckdb

from ometria_replica.errors import Busy, WarehouseError
from ometria_replica.local_duckdb import is_full
from ometria_replica.mapping import STAGED
from ometria_replica.steps import step
from ometria_replica.warehouse import sql
from ometria_replica.warehouse.engines.base import Engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ometria_replica.schema import Table

logger = logging.getLogger(__name__)

CATALOG = "warehouse"
WAIT_SECONDS = 30.0  # For a query of somebody else's to end. A dashboard's takes less.
RETRY_SECONDS = 0.25


class DuckDBEngine(Engine):
    """
    The file at *path*, in the catalog ``warehouse`` of *connection*; made if it is not there.

    With *read_only* it is neither made nor written: one that is not there is empty.
    """

    types: ClassVar[Mapping[str, str]] = sql.DUCKDB_TYPES
    row_id = "rowid"
    prunes_by_time = True
    catalog: str = CATALOG

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        path: str,
        *,
        read_only: bool = False,
        wait_seconds: float = WAIT_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.place = self._path = path
        self._connection = connection
        self._read_only = read_only
        self._wait_seconds = wait_seconds
        self._sleep = sleep
        self._attached = False

    @contextmanager
    def using(self, doing: str) -> Iterator[None]:
        """Attach the file if it is not, and turn the driver's errors into ours."""
        with self.translating(doing):
            if not self._attached:
                self._attach()
            yield

    @contextmanager
    def translating(self, doing: str) -> Iterator[None]:
        """
        Turn the driver's errors into ours, with nothing left half done.

        The driver's texts may quote a customer's data, so they stay out of the message.
        """
        try:
            yield
        except duckdb.Error as error:
            self._roll_back()
            raise self._explained(error, doing) from error

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> None:
        """See the base."""
        self._connection.execute(statement, list(parameters))

    def rows(self, statement: str, parameters: Sequence[object] = ()) -> list[Any]:
        """See the base."""
        return self._connection.execute(statement, list(parameters)).fetchall()

    def columns(self, schema: str, name: str) -> list[tuple[str, str]]:
        """See the base."""
        return self.rows(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_catalog = ?"
            " AND table_schema = ? AND table_name = ? ORDER BY ordinal_position",
            [self.catalog, schema, name],
        )

    def make_schema(self, name: str) -> None:
        """See the base."""
        self.execute(f"CREATE SCHEMA IF NOT EXISTS {sql.quoted(self.catalog)}.{name}")

    def replace_rows(self, table: Table) -> None:
        """See the base. The rows to delete are those that the comparison found."""
        target, names = self.data(table.name), sql.names(table)
        with step("delete"):
            self.execute(f"DELETE FROM {target} WHERE rowid IN (SELECT target_row FROM found)")
        # In order the insert takes one core, and rows of a table have no order. Staging, where
        # order counts, sets it for each batch.
        self.execute("SET preserve_insertion_order = false")
        with step("insert"):
            self.execute(f"INSERT INTO {target} ({names}) SELECT {names} FROM {STAGED}")

    def release(self) -> None:
        """Let other programs in. What is in memory only stays."""
        if self._attached and self._exists():
            with self.using("closing the file"), step("detach"):
                self._connection.execute(f"DETACH {CATALOG}")
            self._attached = False

    @contextmanager
    def transaction(self, name: str = "state") -> Iterator[None]:
        """Commit all that is done within, or none of it."""
        self._connection.execute("BEGIN")
        try:
            yield
            with step(f"commit of {name}"):
                self._connection.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def try_access(self) -> None:
        """See the base."""
        file = Path(self._path)
        place = file if file.exists() else file.absolute().parent
        if not os.access(place, os.W_OK):
            raise WarehouseError(
                f"{place} cannot be written, or is not there."
                " Make the folder, or change warehouse.url."
            )

    def close(self) -> None:
        """See the base. The file is let go with the connection, which is not ours to close."""

    def _roll_back(self) -> None:
        try:
            self._connection.execute("ROLLBACK")
        except duckdb.Error:
            logger.debug("the failure had ended the transaction")

    def _exists(self) -> bool:
        return Path(self._path).exists()

    def _attach(self) -> None:
        target, options = sql.literal(self._path), ""
        if self._read_only:
            target, options = (target, " (READ_ONLY)") if self._exists() else ("':memory:'", "")
        elif not Path(self._path).absolute().parent.is_dir():
            raise WarehouseError(
                f"Cannot make {self.place}: its folder is not there."
                " Make the folder, or change warehouse.url."
            )
        patience = self._wait_seconds
        while True:
            try:
                self._connection.execute(f"ATTACH {target} AS {CATALOG}{options}")
            except duckdb.Error as error:
                if not _is_locked(error) or patience <= 0:
                    raise
                if patience == self._wait_seconds:
                    logger.warning("waiting for %s%s", self.place, _holder(str(error)))
                patience -= RETRY_SECONDS
                self._sleep(RETRY_SECONDS)
            else:
                self._attached = True
                return

    def _explained(self, error: duckdb.Error, doing: str) -> WarehouseError:
        text, path = str(error), self.place
        if _is_locked(error):
            return Busy(
                f"{path} is open in another program{_holder(text)}, and DuckDB lets one at a"
                f" time write. It was waited for {self._wait_seconds:.0f} s. Close it there, then"
                " run again."
            )
        if "not a valid DuckDB database" in text:
            return WarehouseError(
                f"{path} is not a DuckDB file. Nothing was changed. Change warehouse.url,"
                " or move it."
            )
        if is_full(error):
            return WarehouseError(
                f"There is no room on the disk of {path}, or of the folder for temporary files."
                " The batch was rolled back and nothing is lost. Make room, then run again."
            )
        if isinstance(error, duckdb.IOException):
            return WarehouseError(
                f"Cannot read or write {path} while {doing}. The batch was rolled back."
                " Check that the file and its folder can be written, then run again."
            )
        return WarehouseError(
            f"DuckDB refused while {doing} in {path} ({type(error).__name__})."
            " The batch was rolled back. Run again; if it happens again, report it."
        )


def _is_locked(error: duckdb.Error) -> bool:
    text = str(error)
    return "Could not set lock" in text or "file handle conflict" in text


def _holder(text: str) -> str:
    """Read who holds the lock out of DuckDB's message, if it says so."""
    found = re.search(r"held in (.*?\(PID \d+\))", text)
    return f" ({found.group(1).strip()})" if found else ""
