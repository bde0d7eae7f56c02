"""
Rewrite a DuckDB file, so that nothing of deleted rows is left in it.

DuckDB leaves the bytes of deleted rows in the file, in blocks that it uses again later. So its
contents are copied into a new file beside it, which then takes its place in one step. Until then
the old file stays as it was: a run that is killed leaves at most the unfinished copy, which the
next run removes.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from ometria_replica import sql
from ometria_replica.failpoints import step
from ometria_replica.stopping import interruptible
from ometria_replica.temp_files import is_full, is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from duckdb import DuckDBPyConnection

logger = logging.getLogger(__name__)

_COPY = "rewritten"
_KINDS = (
    "columns",
    "constraints",
    "functions",
    "indexes",
    "schemas",
    "sequences",
    "tables",
    "triggers",
    "types",
    "views",
)
_OF_A_COPY = ("constraint_index", "estimated_size", "is_bound", "last_value", "start_value")
"""What may differ in a copy: the number of a constraint in the file, estimates, and numbers that
this session took from a sequence, of which its statement has the next."""

_HELD_SECONDS = 0.1
"""How long the old file stays locked after it was replaced: another program may have opened it a
moment before, and must not get its lock, since what it wrote would be lost."""


@dataclass(frozen=True)
class FileRewrite:
    """
    The file at *place*, which is attached to *connection* as *catalog*.

    A link is followed: the file that it names is replaced.
    """

    connection: DuckDBPyConnection
    place: str
    catalog: str

    def run(self) -> str:
        """
        Rewrite the file and swap it in; *catalog* is the old file until it is attached anew.

        Returns an empty sentence, or why the old file stays, and what to do about it.
        Raises duckdb.Error if the old file cannot be written at all.
        """
        remove_unfinished(self.place)
        names = self._file.stat().st_nlink
        self.connection.execute(f"CHECKPOINT {sql.quoted(self.catalog)}")
        if Path(f"{self.place}.wal").exists():  # Of the old file: it does not fit the new one.
            return self._stays("DuckDB keeps a log beside it that it could not write into it")
        try:
            with step("rewrite"):
                reason = self._copy()
            if not reason:
                self._swap()
        except (duckdb.Error, OSError) as error:
            logger.info("the file was not rewritten: %s", type(error).__name__)
            reason = _meaning(error)
        finally:
            remove_unfinished(self.place)
        if reason:
            return self._stays(reason)
        if names > 1:
            return (
                f"{self.place} was rewritten, but its hard links still name the old file, with"
                " what deleted rows held. Remove them."
            )
        return ""

    def _copy(self) -> str:
        """Write the copy; return what it lacks, or an empty text."""
        with (
            closing(self.connection.cursor()) as cursor,
            interruptible(cursor.interrupt),
        ):
            options = ", ".join(f"{name} {value}" for name, value in self._options(cursor))
            cursor.execute(f"ATTACH {sql.literal(str(self._new))} AS {_COPY} ({options})")
            try:
                cursor.execute(f"COPY FROM DATABASE {sql.quoted(self.catalog)} TO {_COPY}")
                _copy_triggers(cursor, self.catalog)
                lacking = _differences(cursor, self.catalog)
                cursor.execute(f"CHECKPOINT {_COPY}")
            finally:
                with suppress(duckdb.Error):  # The first error says more.
                    cursor.execute(f"USE memory; DETACH {_COPY}")
        return f"DuckDB's copy of it differs in {', '.join(lacking)}" if lacking else ""

    def _options(self, cursor: DuckDBPyConnection) -> Iterator[tuple[str, str]]:
        """Give the file format's options that the copy has to share."""
        ((version,),) = cursor.execute(
            "SELECT tags['storage_version'] FROM duckdb_databases() WHERE database_name = ?",
            [self.catalog],
        ).fetchall()
        yield "STORAGE_VERSION", sql.literal(str(version).rstrip("+"))
        ((block_size,),) = cursor.execute(
            "SELECT block_size FROM pragma_database_size() WHERE database_name = ?", [self.catalog]
        ).fetchall()
        yield "BLOCK_SIZE", str(block_size)

    def _swap(self) -> None:
        """
        Put the copy in the place of the file, on the disk, and for those who could read the file.

        The old file is not opened for it: to close it would end DuckDB's lock.
        """
        old, new = self._file, self._new
        there = old.stat()
        with step("sync"):
            _sync(new)
        if sys.platform != "win32":  # It has other owners, and the folder names them.
            for owner, group in ((-1, there.st_gid), (there.st_uid, -1)):
                with suppress(PermissionError):
                    os.chown(new, owner, group)
        shutil.copystat(old, new)  # Its mode, and who else may read it.
        os.utime(new)
        with step("swap"):
            new.replace(old)
        with suppress(OSError):  # Some file systems cannot, and the file is swapped already.
            _sync(old.parent)
        time.sleep(_HELD_SECONDS)

    def _stays(self, reason: str) -> str:
        return (
            f"{self.place} still holds in unused space what deleted rows held: it was not"
            f" rewritten, because {reason}. Remove the cause and run the erasure again; or open the"
            " file with DuckDB, run EXPORT DATABASE 'a_folder', run IMPORT DATABASE 'a_folder' in a"
            " new file, and put that in its place. Then remove the folder and the old file."
        )

    @property
    def _file(self) -> Path:
        return Path(self.place).resolve()

    @property
    def _new(self) -> Path:
        return _unfinished(self.place)


def remove_unfinished(place: str) -> None:
    """Remove the copy that a killed run has left beside the file *place*, which is locked."""
    for suffix in ("", ".wal"):
        copy = _unfinished(place)
        copy.with_name(copy.name + suffix).unlink(missing_ok=True)


def _unfinished(place: str) -> Path:
    """Name the copy of a file while it is written: in its folder, so that it can be renamed."""
    file = Path(place).resolve()
    return file.with_name(f".{file.name}.{_COPY}")


def _copy_triggers(cursor: DuckDBPyConnection, catalog: str) -> None:
    """Create the triggers in the copy: DuckDB 2.0 leaves them out."""
    found = cursor.execute(
        "SELECT schema_name, sql FROM duckdb_triggers() WHERE database_name = ?", [catalog]
    ).fetchall()
    for schema, statement in found:
        cursor.execute(f"USE {_COPY}.{sql.quoted(schema)}")
        cursor.execute(statement)


def _differences(cursor: DuckDBPyConnection, catalog: str) -> list[str]:
    """List what of *catalog* the copy lacks, or has otherwise: kinds of things, and row counts."""
    found = [
        kind
        for kind in _KINDS
        if _described(cursor, kind, catalog) != _described(cursor, kind, _COPY)
    ]
    tables = cursor.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = ?", [catalog]
    ).fetchall()
    for schema, name in tables if not found else ():
        counts = {
            cursor.execute(
                f"SELECT count(*) FROM {'.'.join(map(sql.quoted, (where, schema, name)))}"
            ).fetchall()[0]
            for where in (catalog, _COPY)
        }
        if len(counts) > 1:
            found.append(f"the number of rows of {schema}.{name}")
    return found


def _described(cursor: DuckDBPyConnection, kind: str, catalog: str) -> set[str]:
    """Describe all things of a kind in a catalog, whatever their numbers in it."""
    left_out = ", ".join(
        name
        for name, *_ in cursor.execute(f"DESCRIBE FROM duckdb_{kind}()").fetchall()
        if name.endswith("oid") or name in {"database_name", "parent_schema", *_OF_A_COPY}
    )
    found = cursor.execute(
        f"SELECT COLUMNS(* EXCLUDE ({left_out})) FROM duckdb_{kind}() WHERE database_name = ?",
        [catalog],
    ).fetchall()
    return set(map(repr, found))


def _sync(path: Path) -> None:
    """Write a file, or the entries of a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _meaning(error: Exception) -> str:
    """Say why there is no copy, without the error's text: it may quote a row."""
    if is_full(error):
        return "the disk has no room for a copy of it"
    if is_out_of_memory(error):
        return "DuckDB has not enough memory to copy it (warehouse.memory_limit)"
    if isinstance(error, OSError):
        return f"a copy in its folder cannot be written ({error.strerror})"
    return f"DuckDB cannot copy all that is in it ({type(error).__name__})"
