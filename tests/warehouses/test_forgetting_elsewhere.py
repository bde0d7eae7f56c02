"""What PostgreSQL and dlt still hold of a person whose rows were deleted."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from ometria_replica.selection import Selection
from ometria_replica.tables import PROFILES
from ometria_replica.warehouse import open_warehouse
from ometria_replica.warehouse.remotes.dlt_schemas import staging_schema
from tests.places import KINDS, PostgresPlace
from tests.pooler import pooled
from tests.postgres import postgres
from tests.warehouses.forgetting import (
    ANN,
    BOB,
    delete_ann,
    emails,
    files_with,
    forgotten,
    loaded,
)
from tests.warehouses.loads import opened

if TYPE_CHECKING:
    from pathlib import Path


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


# --- through dlt -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dlt+duckdb", "dlt+postgres"])
def test_what_dlt_loads_is_forgotten_too(kind: str, tmp_path: Path) -> None:
    """Its staging tables are emptied, where a load that was interrupted may have left rows."""
    place = KINDS[kind](tmp_path)
    loaded(place)
    with opened(place) as warehouse:
        delete_ann(warehouse)
        loader = warehouse._engine._remote._loader  # type: ignore[attr-defined]  # Of dlt.
        staged = loader.qualified(staging_schema("uk"), "profiles")
        loader.execute(
            f"INSERT INTO {staged} SELECT * FROM {loader.qualified('ometria', 'profiles')}"
        )
        told = warehouse.forget_deleted()
        assert loader.rows(f"SELECT count(*) FROM {staged}")[0][0] == 0
        assert warehouse.count(PROFILES, Selection("uk")) == 1
    if kind == "dlt+duckdb":
        assert told == ""
        assert files_with(ANN, tmp_path) == []
    else:
        assert "until other rows are written there" in told
        assert "Not even that" not in told
    assert emails(place) == [BOB]
    place.remove()
