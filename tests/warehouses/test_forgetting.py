"""What a DuckDB file still holds of a person whose rows were deleted: every byte is searched."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import duckdb
import pytest

from tests.places import DuckDBPlace
from tests.warehouses.forgetting import (
    ANN,
    BOB,
    emails,
    files_with,
    forget_elsewhere,
    forgotten,
    loaded,
)
from tests.warehouses.loads import opened

if TYPE_CHECKING:
    from pathlib import Path


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
