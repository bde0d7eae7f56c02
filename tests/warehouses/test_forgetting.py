"""What storage still holds of a person whose rows were deleted: every byte is searched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import duckdb
import pytest

from ometria_replica.selection import Selection, Values
from ometria_replica.tables import PROFILES
from ometria_replica.warehouse.state_tables import REJECTS
from tests.faults.child import ROOT
from tests.places import DuckDBPlace
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


def loaded(place: Place) -> None:
    """Load Ann, and Bob, in a run of its own."""
    with opened(place) as warehouse:
        Load(PROFILES, [profile(1, ANN), profile(2, BOB)]).into(warehouse)


def delete_ann(warehouse: Warehouse) -> None:
    """Delete her rows, and the rejects that quote them."""
    warehouse.delete(PROFILES, Selection("uk", Values("email", (ANN,))))
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
    """Name the files below a folder in which an address occurs."""
    return [
        str(file.relative_to(folder))
        for file in folder.rglob("*")
        if file.is_file() and any(email.encode() in text for text in texts(file))
    ]


def texts(file: Path) -> Iterator[bytes]:
    """Give the bytes of a file, as they are and decoded."""
    yield file.read_bytes()


def emails(place: Place) -> list[object]:
    """List the addresses of the profiles that are there."""
    return [row["email"] for row in rows(place, "profiles")]


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


PROGRAM = """
import os, resource, signal, sys
from pathlib import Path
from ometria_replica import failpoints
from tests.places import DuckDBPlace
from tests.warehouses.test_forgetting import delete_ann, opened

for path, at, room in zip(*[iter(sys.argv[1:])] * 3):
    if os.fork() == 0:
        failpoints.listen(lambda step: step == at and os.kill(os.getpid(), signal.SIGKILL))
        with opened(DuckDBPlace(Path(path))) as warehouse:
            delete_ann(warehouse)
            if int(room):
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (int(room), int(room)))
            print(warehouse.forget_deleted(), flush=True)
        os._exit(0)
    print(os.wait()[1], flush=True)
"""


def forget_elsewhere(*ways: tuple[Path, str, int]) -> list[str]:
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
        *((place.path, step, 0) for place, step in zip(places, steps, strict=True))
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
    told, status = forget_elsewhere((place.path, "", 300_000))
    assert "the disk has no room for a copy" in told
    assert status == "0"
    assert [file.name for file in tmp_path.iterdir()] == [place.path.name]
    assert emails(place) == [BOB]
