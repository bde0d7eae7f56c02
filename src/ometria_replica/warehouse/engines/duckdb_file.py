"""
A DuckDB file, attached to the connection in which records are mapped.

DuckDB locks a file for the one process that writes it, and keeps readers out too. So it is
attached when the lock is free, and detached when there is nothing to write; what holds it is named.
"""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from ometria_replica import sql
from ometria_replica.config.warehouse_settings import STORAGE_VERSION
from ometria_replica.errors import Busy, WarehouseError
from ometria_replica.failpoints import step
from ometria_replica.local_duckdb import lack
from ometria_replica.permissions import CLOSED_UMASK, ensure_writable
from ometria_replica.temp_files import is_full
from ometria_replica.warehouse.duckdb_rewrite import FileRewrite, remove_unfinished

if TYPE_CHECKING:
    from collections.abc import Callable

    from duckdb import DuckDBPyConnection

logger = logging.getLogger(__name__)

CATALOG = "warehouse"
WAIT_SECONDS = 30.0  # For another program's query to end. A dashboard's takes less.
RETRY_SECONDS = 0.25

_DAMAGE = ("Could not read enough bytes", "Corrupt database file")
"""In DuckDB's messages, of a file that was cut off, and of one with a wrong checksum."""


@dataclass
class FileAttachment:
    """
    The file at the path *place*, created if it does not exist.

    With *read_only* it is neither created nor written: a file that does not exist is empty.
    With *in_memory* the database is in memory, and *place* only its name in messages.
    Wait *wait_seconds* for a lock of another program; None means WAIT_SECONDS.
    A new file has *storage_version*: DuckDB of that version, and newer, can open it.
    """

    place: str
    read_only: bool = False
    in_memory: bool = False
    wait_seconds: float | None = None
    sleep: Callable[[float], None] = time.sleep
    catalog: str = CATALOG
    locks: bool = True
    storage_version: str = STORAGE_VERSION

    def attach(self, connection: DuckDBPyConnection) -> None:
        """
        Attach the file, after waiting for another program's lock.

        A new file, and DuckDB's log beside it while it is attached, are for their owner alone.
        The log of a file that exists is for those who may read the file.
        """
        if not self.in_memory and not self.read_only and self.place != ":memory:":
            CLOSED_UMASK.hold(self, Path(self.place))
        try:
            self._attach(connection)
        except BaseException:
            CLOSED_UMASK.release(self)
            raise
        if self._exists and not self.read_only:
            remove_unfinished(self.place)  # Now that no other program can be writing it.

    def _attach(self, connection: DuckDBPyConnection) -> None:
        target, options = sql.literal(self.place), ""
        if self.in_memory or (self.read_only and not self._exists):
            target = "':memory:'"
        elif self.read_only:
            options = " (READ_ONLY)"
        elif not Path(self.place).absolute().parent.is_dir():
            raise WarehouseError(
                f"Cannot create {self.place}: its folder does not exist."
                " Create the folder, or change warehouse.url."
            )
        elif not self._exists:
            options = f" (STORAGE_VERSION {sql.literal(self.storage_version)})"
        waited = 0.0
        while True:
            try:
                connection.execute(f"ATTACH {target} AS {CATALOG}{options}")
            except duckdb.Error as error:
                if not _is_locked(error) or waited >= self._patience:
                    raise
                if not waited:
                    logger.warning("waiting for %s%s", self.place, _holder(str(error)))
                waited += RETRY_SECONDS
                self.sleep(RETRY_SECONDS)
            else:
                return

    def forget_deleted(self, connection: DuckDBPyConnection) -> str:
        """Rewrite the file; one that is only in memory holds no deleted rows for long."""
        if not self._exists or self.read_only:
            return ""
        return FileRewrite(connection, self.place, self.catalog).run()

    def detach(self, connection: DuckDBPyConnection) -> bool:
        """Detach the file. A database that is only in memory stays."""
        try:
            if not self._exists:
                return False
            with step("detach"):
                connection.execute(f"DETACH {CATALOG}")
            return True
        finally:
            CLOSED_UMASK.release(self)

    def merge_row_groups(self, connection: DuckDBPyConnection, *, now: bool) -> None:
        """Set the number of merges, which holds for all that *connection* has attached."""
        if not self.in_memory:  # There they free memory.
            most = "RESET GLOBAL max_vacuum_tasks" if now else "SET GLOBAL max_vacuum_tasks = 0"
            connection.execute(most)

    def check_access(self) -> None:
        """Look at the permissions of the file and of its folder, which gets a log beside it."""
        file = Path(self.place)
        if file.exists():
            ensure_writable(file)
        ensure_writable(file.absolute().parent)

    def explained(self, error: duckdb.Error, doing: str) -> WarehouseError:
        """Explain an error of the file."""
        text, path = str(error), self.place
        if _is_locked(error):
            return self._locked(text)
        if unfit := _unfit(path, text):
            return WarehouseError(unfit)
        if is_full(error):  # Whose disk, DuckDB does not always say.
            return WarehouseError(
                f"The disk of {path} is full, or the disk of the folder for temporary files."
                " Uncommitted changes were rolled back, and nothing is lost."
                " Free some space, then run again."
            )
        if isinstance(error, duckdb.IOException):
            return WarehouseError(
                f"Cannot read or write {path} while {doing}. Uncommitted changes"
                " were rolled back. Check that the file and its folder can be written, then run"
                " again."
            )
        return lack(error, doing) or WarehouseError(
            f"DuckDB refused while {doing} in {path} ({type(error).__name__})."
            " Uncommitted changes were rolled back. Run again; if it happens again, report it."
        )

    def _locked(self, text: str) -> WarehouseError:
        if _is_open_here(text):
            return WarehouseError(
                f"{self.place} is open in this process: duckdb.connect() keeps a file until"
                f" .close(), in a notebook too. Waited {self._patience:.0f} s. Nothing was changed."
                " Close the connection, then run again."
            )
        return Busy(
            f"{self.place} is open in another program{_holder(text)}, and DuckDB allows one writer"
            f" at a time. Waited {self._patience:.0f} s. Close it there, then run again."
        )

    @property
    def _exists(self) -> bool:
        return not self.in_memory and Path(self.place).exists()

    @property
    def _patience(self) -> float:
        return WAIT_SECONDS if self.wait_seconds is None else self.wait_seconds


def _unfit(path: str, text: str) -> str | None:
    """Say why DuckDB cannot read what the file holds; None if it does not say that."""
    if "not a valid DuckDB database" in text:
        return (
            f"{path} is not a DuckDB file. Nothing was changed. Change warehouse.url, or move it."
        )
    if "newer version of DuckDB" in text or "but we can only read" in text:
        return (
            f"{path} was written by a newer DuckDB than {duckdb.__version__}, which is installed"
            " here. Nothing was changed. Run pip install --upgrade duckdb, or name another file in"
            " warehouse.url."
        )
    if "Failure while replaying WAL" in text:
        return (
            f"{path}.wal, DuckDB's log of what is not in {path} yet, is damaged. Nothing was"
            " changed. Restore both files from a backup, or move the log away and run again: the"
            " next sync repeats what the log held."
        )
    if any(sign in text for sign in _DAMAGE):
        return (
            f"{path} is damaged: a part of it is missing, or was changed by another program or the"
            " disk. Uncommitted changes were rolled back. Restore it from a backup, or move it"
            " away: the next sync then reads all that Ometria and the export still have."
        )
    return None


def _is_locked(error: duckdb.Error) -> bool:
    return "Could not set lock" in str(error) or _is_open_here(str(error))


def _is_open_here(text: str) -> bool:
    """Return whether another connection of this process has the file open, as in a notebook."""
    return "file handle conflict" in text


def _holder(text: str) -> str:
    """Read the program that holds the lock from DuckDB's message, if it names one."""
    if _is_open_here(text):
        return ", which another connection of this process has open"
    found = re.search(r"held in (.*?\(PID \d+\))", text)
    return f" ({found.group(1).strip()})" if found else ""
