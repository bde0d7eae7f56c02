"""What storage still holds of a person whose rows were deleted: every byte is searched."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING, Any

import deltalake
import duckdb
import pyarrow.parquet as pq
import pytest

from ometria_replica.errors import CommitConflict
from ometria_replica.selection import ALL, Selection, Values
from ometria_replica.tables import EMAIL_EVENTS, PROFILES
from ometria_replica.warehouse import open_warehouse
from ometria_replica.warehouse.state_tables import REJECTS
from tests.faults.child import ROOT
from tests.places import KINDS, DeltaPlace, DuckDBPlace, IcebergPlace, PostgresPlace
from tests.pooler import pooled
from tests.postgres import postgres
from tests.warehouses.loads import Load, opened, rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ometria_replica.warehouse.warehouse import Warehouse
    from tests.places import Place

ANN = "ann.of.the.planted@example.com"
BOB = "bob.who.stays@example.com"


def profile(number: int, email: str) -> str:
    """Write a profile of the API, with a day of birth that is none: it is rejected."""
    return json.dumps(
        {"id": f"p{number}", "email": email, "firstname": email, "date_of_birth": email}
    )


def event(email: str) -> str:
    """Write an event of the feed."""
    return json.dumps(
        {"to_address": email, "event_type": "open", "dt_occurred": "2026-03-01T10:00:00Z"}
    )


def loaded(place: Place) -> None:
    """Load Ann, and Bob, in a run of its own."""
    with opened(place) as warehouse:
        Load(PROFILES, [profile(1, ANN), profile(2, BOB)]).into(warehouse)
        for email in (BOB, ANN):  # In a lake, in files of their own.
            Load(EMAIL_EVENTS, [event(email)]).into(warehouse)


def delete_ann(warehouse: Warehouse) -> None:
    """Delete her rows, and the rejects that quote them."""
    for table in (PROFILES, EMAIL_EVENTS):
        warehouse.delete(table, Selection("uk", Values("email", (ANN,))))
    with warehouse.sessions.writing("a test"):
        engine = warehouse._engine
        rejects = engine.name(REJECTS)
        engine.execute(f"DELETE FROM {rejects} WHERE raw LIKE ?", [f"%{ANN}%"])


def forgotten(place: Place) -> str:
    """Delete her rows, then what they have left; return what the user is told."""
    with opened(place) as warehouse:
        delete_ann(warehouse)
        return warehouse.forget_deleted()


def files_with(email: str, folder: Path) -> list[str]:
    """
    Name the files below a folder in which an address occurs, or its beginning.

    Statistics hold no more than some 16 characters of it.
    """
    return [
        str(file.relative_to(folder))
        for file in folder.rglob("*")
        if file.is_file() and any(email[:10].encode() in text for text in texts(file))
    ]


def texts(file: Path) -> Iterator[bytes]:
    """Give the bytes of a file, as they are and decoded."""
    yield file.read_bytes()
    if file.suffix == ".parquet":
        yield str(pq.read_table(file).to_pylist()).encode()
    elif file.suffix == ".avro":
        *blocks, _ = file.read_bytes().split(file.read_bytes()[-16:])
        for block in blocks[1:]:  # The first is the header.
            yield zlib.decompress(_without_number(_without_number(block)), -15)


def _without_number(block: bytes) -> bytes:
    """Leave out the number, in Avro's variable length, with which a block begins."""
    length = next(place for place, byte in enumerate(block) if byte < 128)
    return block[length + 1 :]


def emails(place: Place) -> list[object]:
    """List the addresses of the profiles that are there."""
    return [row["email"] for row in rows(place, "profiles")]


PLACES: dict[str, Any] = {"duckdb": DuckDBPlace, "delta": DeltaPlace, "iceberg": IcebergPlace}
PROGRAM = """
import os, resource, signal, sys
from pathlib import Path
from ometria_replica import failpoints
from tests.warehouses.test_forgetting import PLACES, delete_ann, opened

for kind, path, at, room in zip(*[iter(sys.argv[1:])] * 4):
    if os.fork() == 0:
        failpoints.listen(lambda step: step == at and os.kill(os.getpid(), signal.SIGKILL))
        with opened(PLACES[kind](Path(path))) as warehouse:
            delete_ann(warehouse)
            if int(room):
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (int(room), int(room)))
            print(warehouse.forget_deleted(), flush=True)
        os._exit(0)
    print(os.wait()[1], flush=True)
"""


def forget_elsewhere(*ways: tuple[str, Path, str, int]) -> list[str]:
    """Forget in processes that are killed at a step, or may write files of so many bytes."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *(str(word) for way in ways for word in way)],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


# --- DuckDB ------------------------------------------------------------------------------------


def test_no_byte_of_a_deleted_row_stays_in_a_duckdb_file(tmp_path: Path) -> None:
    """Nor beside it: it is rewritten, also behind a link, and keeps its mode."""
    folder = tmp_path / "real"
    folder.mkdir()
    real = folder / "it's a replica.duckdb"
    place = DuckDBPlace(tmp_path / "a link.duckdb")
    place.path.symlink_to(real)
    loaded(place)
    real.chmod(0o640)
    assert files_with(ANN, folder)

    assert forgotten(place) == ""
    assert files_with(ANN, tmp_path) == []
    assert files_with(BOB, folder)
    assert oct(real.stat().st_mode & 0o777) == "0o640"
    assert [file.name for file in folder.iterdir()] == [real.name]
    assert emails(DuckDBPlace(real)) == [BOB]


OF_A_USER = """
CREATE SCHEMA "my own";
CREATE TYPE mood AS ENUM ('good', 'bad');
COMMENT ON TYPE mood IS 'a type';
CREATE SEQUENCE numbers START 5 INCREMENT 3;
CREATE MACRO next(a, b := 1) AS a + b;
CREATE TABLE notes (
    id INTEGER PRIMARY KEY DEFAULT nextval('numbers'), how mood DEFAULT 'good',
    twice INTEGER GENERATED ALWAYS AS (id * 2) VIRTUAL, text TEXT NOT NULL UNIQUE,
    CHECK (id > 0)
);
CREATE TABLE answers (id INTEGER REFERENCES notes(id));
CREATE INDEX by_text ON notes (text, id);
CREATE UNIQUE INDEX by_formula ON notes ((id + 1));
COMMENT ON TABLE notes IS 'it''s a table';
COMMENT ON COLUMN notes.text IS 'a column';
COMMENT ON INDEX by_text IS 'an index';
CREATE MACRO one(a) AS TABLE FROM notes WHERE id = a;
CREATE VIEW z AS FROM notes;
CREATE VIEW a AS SELECT *, next(id) AS next_id FROM z;
COMMENT ON VIEW a IS 'a view';
COMMENT ON COLUMN a.next_id IS 'a column of a view';
CREATE VIEW "my own".people AS SELECT email FROM ometria.profiles;
CREATE TABLE gone (id INTEGER);
CREATE VIEW broken AS FROM gone;
DROP TABLE gone;
CREATE TRIGGER noted AFTER INSERT ON notes FOR EACH STATEMENT INSERT INTO answers VALUES (8);
INSERT INTO notes (text) VALUES ('first'), ('second');
"""


def described(path: Path) -> list[object]:
    """Describe what there is in a file, and count its rows."""
    with duckdb.connect(str(path)) as connection:
        found: list[object] = [
            sorted(connection.execute(f"SELECT {what} WHERE NOT internal").fetchall())
            for what in (
                "sql, coalesce(comment, '') FROM duckdb_tables()",
                "sql, coalesce(comment, '') FROM duckdb_views()",
                "schema_name, table_name, column_name, coalesce(comment, '') FROM duckdb_columns()",
                "function_name, macro_definition, parameters FROM duckdb_functions()",
                "schema_name FROM duckdb_schemas()",
                "type_name, coalesce(comment, '') FROM duckdb_types()",
            )
        ]
        found += [
            sorted(connection.execute(f"SELECT {what}").fetchall())
            for what in (
                "sql FROM duckdb_indexes()",
                "coalesce(sql, '') FROM duckdb_triggers()",
                "sql FROM duckdb_sequences()",
                "* FROM notes",
                "* FROM answers",
                "table_name, constraint_text FROM duckdb_constraints()",
                "database_name, tags FROM duckdb_databases()",
            )
        ]
        return found


@pytest.mark.slow
def test_a_rewritten_duckdb_file_keeps_what_a_user_has_in_it(tmp_path: Path) -> None:
    """Each kind of thing, its comments and its rows, and the storage version."""
    place = DuckDBPlace(tmp_path / "replica.duckdb")
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{place.path}' AS old (STORAGE_VERSION 'v2.0.0')")
    loaded(place)
    with duckdb.connect(str(place.path)) as connection:
        connection.execute(OF_A_USER)
    before = described(place.path)

    assert forgotten(place) == ""
    assert described(place.path) == before


@pytest.mark.slow
def test_a_duckdb_file_that_cannot_be_copied_whole_stays(tmp_path: Path) -> None:
    """The user is told why, and how to rewrite it."""
    place = DuckDBPlace(tmp_path / "replica.duckdb")
    loaded(place)
    with duckdb.connect(str(place.path)) as connection:
        connection.execute("CREATE MACRO one() AS 1; CREATE TABLE notes (id INTEGER DEFAULT one())")

    told = forgotten(place)
    assert "was not rewritten, because DuckDB cannot copy all that is in it" in told
    assert "EXPORT DATABASE" in told
    assert [file.name for file in tmp_path.iterdir()] == [place.path.name]
    assert emails(place) == [BOB]


@pytest.mark.slow
def test_a_killed_rewrite_leaves_a_whole_duckdb_file(tmp_path: Path) -> None:
    """It is the old one or the new one, and the next run removes the unfinished copy."""
    steps = [
        f"{when} {step}" for step in ("rewrite", "sync", "swap") for when in ("before", "after")
    ]
    places = [DuckDBPlace(tmp_path / step / "replica.duckdb") for step in steps]
    for place in places:
        place.path.parent.mkdir()
        loaded(place)
    done = forget_elsewhere(
        *(("duckdb", place.path, step, 0) for place, step in zip(places, steps, strict=True))
    )
    assert done == [str(signal.SIGKILL)] * len(steps)
    assert list(tmp_path.glob("*/.replica.duckdb.rewritten"))
    for place in places:
        with opened(place):
            pass
        assert [file.name for file in place.path.parent.iterdir()] == [place.path.name]
        assert emails(place) == [BOB]
        assert forgotten(place) == ""
        place.path.with_name("copy.duckdb").unlink()
        assert files_with(ANN, place.path.parent) == []
        assert emails(place) == [BOB]


@pytest.mark.slow
def test_a_disk_without_room_for_a_copy_leaves_the_old_duckdb_file(tmp_path: Path) -> None:
    """The user is told that its bytes are still there."""
    place = DuckDBPlace(tmp_path / "replica.duckdb")
    loaded(place)
    told, status = forget_elsewhere(("duckdb", place.path, "", 300_000))
    assert "the disk has no room for a copy" in told
    assert status == "0"
    assert [file.name for file in tmp_path.iterdir()] == [place.path.name]
    assert emails(place) == [BOB]


# --- lakes -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["delta", "iceberg"])
def test_no_byte_of_a_deleted_row_stays_in_a_lake(kind: str, tmp_path: Path) -> None:
    """Neither in old versions, nor in statistics and predicates of the log, nor in rejects."""
    place = KINDS[kind](tmp_path)
    loaded(place)
    with opened(place) as warehouse:  # A second version of her, and a log of several entries.
        for name in ("Ann", "Anna"):
            again = json.dumps({"id": "p1", "email": ANN, "firstname": name})
            Load(PROFILES, [again]).into(warehouse)
    found = files_with(ANN, tmp_path)
    assert any("_delta_log" in name or name.endswith(".avro") for name in found)
    assert any("rejects" in name for name in found)

    assert forgotten(place) == ""
    assert files_with(ANN, tmp_path) == []
    assert emails(place) == [BOB]
    with opened(place) as warehouse:  # The tables go on.
        Load(PROFILES, [profile(3, ANN)]).into(warehouse)
        assert warehouse.forget_deleted() == ""
    assert sorted(map(str, emails(place))) == [ANN, BOB]


KILLED = {"delta": ("vacuum", "checkpoint", "log"), "iceberg": ("expire", "unused file")}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["delta", "iceberg"])
def test_forgetting_in_a_lake_that_is_killed_is_done_by_the_next(kind: str, tmp_path: Path) -> None:
    """The tables can be read meanwhile, and what Iceberg no longer names goes when it is old."""
    steps = [f"{when} {step}" for step in KILLED[kind] for when in ("before", "after")]
    places = [PLACES[kind](tmp_path / step / "lake") for step in steps]
    for place in places:
        place.folder.mkdir(parents=True)
        loaded(place)
    done = forget_elsewhere(
        *((kind, place.folder, step, 0) for place, step in zip(places, steps, strict=True))
    )
    assert done == [str(signal.SIGKILL)] * len(steps)
    for place in places:
        assert emails(place) == [BOB]
        told = forgotten(place)
        if told:
            assert kind == "iceberg"
            assert "left when it was killed less than 24 hours ago" in told
            let_age(place.folder)
            assert forgotten(place) == ""
        assert files_with(ANN, place.folder) == []
        assert emails(place) == [BOB]


def let_age(folder: Path) -> None:
    """Make the files below a folder two days older."""
    for file in folder.rglob("*"):
        os.utime(file, (file.stat().st_mtime - 2 * 86_400,) * 2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["delta", "iceberg"])
def test_files_of_a_killed_write_are_removed_after_a_day(kind: str, tmp_path: Path) -> None:
    """A younger one may be that of a run at work, so that it stays, and the user is told."""
    place = KINDS[kind](tmp_path)
    loaded(place)
    orphan = next(tmp_path.glob("**/profiles/**/*.parquet"))
    orphan = orphan.with_name("abandoned.parquet")
    orphan.write_text(ANN)

    assert "ometria.profiles keeps 1 file that a run may be writing" in forgotten(place)
    assert orphan.exists()
    let_age(orphan.parent)
    assert forgotten(place) == ""
    assert files_with(ANN, tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["delta", "iceberg"])
def test_a_batch_that_meets_a_removal_of_old_versions_is_compared_again(
    kind: str, tmp_path: Path
) -> None:
    """The files that it has found are gone: a commit conflict, and no failure."""
    place = KINDS[kind](tmp_path)
    loaded(place)
    with opened(place) as warehouse:
        lake = warehouse._engine._remote._lake  # type: ignore[attr-defined]  # Of lakes.
        table = lake.open("ometria", "profiles")
        rows_before = table.rows(ALL).read_all()
        assert forgotten(place) == ""
        with pytest.raises(CommitConflict), lake.explaining("a test"):
            table.overwrite(ALL, rows_before.to_reader())
        with pytest.raises(CommitConflict), lake.explaining("a test"):
            table.rows(ALL).read_all()
    assert emails(place) == [BOB]


@pytest.mark.slow
def test_a_change_data_feed_of_delta_forgets_too(tmp_path: Path) -> None:
    """It holds the rows that were deleted, in files of their own."""
    place = DeltaPlace(tmp_path / "lake")
    loaded(place)
    table = deltalake.DeltaTable(f"{place.folder}/ometria/profiles")
    table.alter.set_table_properties({"delta.enableChangeDataFeed": "true"})
    with opened(place) as warehouse:
        delete_ann(warehouse)
        assert any("_change_data" in name for name in files_with(ANN, tmp_path))
        assert warehouse.forget_deleted() == ""
    assert files_with(ANN, tmp_path) == []


@pytest.mark.slow
def test_a_tag_of_iceberg_keeps_its_version_and_is_named(tmp_path: Path) -> None:
    """The user has asked to keep it."""
    place = IcebergPlace(tmp_path)
    loaded(place)
    catalog = place._catalog()
    table = catalog.load_table("ometria.profiles")
    table.manage_snapshots().create_tag(table.snapshots()[-1].snapshot_id, "audit").commit()
    catalog.close()

    assert "the versions of its branches and tags (audit)" in forgotten(place)
    assert files_with(ANN, tmp_path)


# --- PostgreSQL --------------------------------------------------------------------------------


@pytest.mark.slow
def test_postgresql_frees_the_space_of_deleted_rows(tmp_path: Path) -> None:
    """No version of them stays, in any table; the bytes are overwritten later, as is said."""
    place = PostgresPlace.new()
    loaded(place)
    told = forgotten(place)
    assert "until other rows are written there" in told
    assert "VACUUM for them" not in told
    assert emails(place) == [BOB]
    postgres().run("CHECKPOINT", database=place.database)
    for table in ("ometria.profiles", "ometria.email_events", "ometria_replica.rejects"):
        page = first_page(place, table)
        versions = [item for (item,) in struct.iter_unpack("<I", page[24 : page_lower(page)])]
        assert len([item for item in versions if item >> 15 & 3 == 1]) == 1, table
    place.remove()


@pytest.mark.slow
def test_a_pooler_in_front_of_postgresql_is_no_failure(tmp_path: Path) -> None:
    """It may refuse what is outside of a transaction: the user is told, and the session goes on."""
    place = PostgresPlace.new()
    loaded(place)
    with (
        pooled(postgres().folder, tmp_path) as folder,
        open_warehouse(f"postgresql://postgres@/{place.database}?host={folder}") as warehouse,
    ):
        told = warehouse.forget_deleted()
        assert "Not even that was done for ometria.profiles, " in told
        assert warehouse.count(PROFILES, Selection("uk")) == 2
    place.remove()


@pytest.mark.slow
def test_a_role_that_may_not_vacuum_is_told_so(tmp_path: Path) -> None:
    """PostgreSQL itself would only warn; with MAINTAIN it may."""
    place = PostgresPlace.new()
    loaded(place)
    server, database = postgres(), place.database
    server.run(
        "CREATE ROLE cleaner LOGIN",
        *(
            f"GRANT {what} TO cleaner"
            for schema in ("ometria", "ometria_replica")
            for what in (
                f"USAGE ON SCHEMA {schema}",
                f"SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema}",
            )
        ),
        database=database,
    )
    with open_warehouse(server.url(database, "cleaner")) as warehouse:
        told = warehouse.forget_deleted()
        assert "Not even that was done for ometria.profiles, " in told
        server.run(
            "GRANT MAINTAIN ON ALL TABLES IN SCHEMA ometria, ometria_replica TO cleaner",
            database=database,
        )
        assert "Not even that" not in warehouse.forget_deleted()
        assert warehouse.count(PROFILES, Selection("uk")) == 2
    place.remove()
    server.run("DROP ROLE cleaner")


def first_page(place: PostgresPlace, table: str) -> bytes:
    """Read the first page of a table from the server's folder."""
    ((path,),) = postgres().rows(
        f"SELECT pg_relation_filepath('{table}')::text", database=place.database
    )
    page: bytes = (postgres().folder / path).read_bytes()[:8192]
    return page


def page_lower(page: bytes) -> int:
    """Return where the list of row versions ends that follows a page's header."""
    return int.from_bytes(page[12:14], "little")
