"""What only a server can do to a run: passwords, privileges, locks, lost connections."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from ometria_replica.errors import Busy, ConfigError, Unreachable, WarehouseError
from ometria_replica.tables import LISTS, PROFILES
from ometria_replica.warehouse import open_warehouse, postgres
from ometria_replica.warehouse.postgres import numbered
from ometria_replica.warehouse.state import Owner
from tests.places import PostgresPlace
from tests.postgres import GUARDED, PASSWORD
from tests.postgres import postgres as server
from tests.warehouses.loads import NOON, Load, opened, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

OWNER = Owner("account of uk", "uk")


@pytest.fixture
def place() -> Iterator[PostgresPlace]:
    """Make a database."""
    made = PostgresPlace.new()
    yield made
    made.remove()


def refusal(url: str) -> WarehouseError:
    """Tell how a warehouse is refused."""
    with open_warehouse(url) as warehouse, pytest.raises(WarehouseError) as refused:
        warehouse.prepare(OWNER, NOON)
    return refused.value


# --- connections -------------------------------------------------------------------------------


def test_a_wrong_password_is_told_and_not_shown(place: PostgresPlace) -> None:
    """The message says whose it is and what to check, and holds no password."""
    wrong = refusal(server().url(place.database, GUARDED, f"not {PASSWORD}"))

    assert "refused the password" in str(wrong)
    assert PASSWORD not in str(wrong)
    assert f"{GUARDED}:***@" in str(wrong)
    assert wrong.exit_code == 5


@pytest.mark.parametrize(
    ("url", "words", "kind"),
    [
        ("postgresql://nobody@/{database}?host={folder}", "does not know the user", WarehouseError),
        ("postgresql://postgres@/nowhere?host={folder}", "no such database", WarehouseError),
        ("postgresql://a:secret@127.0.0.1:1/x", "cannot be reached", Unreachable),
        ("postgresql://a:secret@127.0.0.1:1/x?sslmode=odd", "not understood", WarehouseError),
        ("postgresql://a:secret/1@127.0.0.1:1/x", "not understood", WarehouseError),
    ],
    ids=["user", "database", "port", "parameter", "slash"],
)
def test_a_connection_that_fails_is_told_in_words(
    url: str, words: str, kind: type[WarehouseError], place: PostgresPlace
) -> None:
    """Each with its advice, and with an exit code that says whether to try again."""
    found = refusal(url.format(database=place.database, folder=server().folder))

    assert words in str(found)
    assert type(found) is kind
    assert "secret" not in str(found)


def test_another_encoding_is_refused() -> None:
    """A database that cannot hold every text is told of before anything is made."""
    name = "in_latin1"
    server().drop(name)
    server().run(
        f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0",
    )
    try:
        assert "encoded as LATIN1" in str(refusal(server().url(name)))
    finally:
        server().drop(name)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the driver the error says what to install."""
    import builtins  # noqa: PLC0415 -- used here only.
    import sys  # noqa: PLC0415

    real = builtins.__import__

    def without(name: str, *rest: object, **more: object) -> object:
        if name.startswith("adbc_driver"):
            raise ModuleNotFoundError(name=name)
        return real(name, *rest, **more)  # type: ignore[arg-type]  # As it was called.

    monkeypatch.delitem(sys.modules, "ometria_replica.warehouse.postgres")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'ometria-replica\[postgres\]'"):
        open_warehouse("postgresql://somewhere/db")


def test_a_connection_that_breaks_loses_nothing(place: PostgresPlace) -> None:
    """A server may end the connection between two batches: what comes next connects again."""
    with opened(place) as warehouse:
        Load(LISTS, ['{"id": "1"}']).into(warehouse)
        _end_connections(place)
        with pytest.raises(Unreachable, match="broke while loading lists"):
            Load(LISTS, ['{"id": "2"}']).into(warehouse)
        Load(LISTS, ['{"id": "3"}']).into(warehouse)

    assert sorted(row["list_id"] for row in rows(place, "lists")) == ["1", "3"]


def test_a_connection_that_stood_idle_is_made_anew(
    place: PostgresPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long read between two batches may cost the connection, and not the run."""
    monkeypatch.setattr(postgres, "IDLE_SECONDS", 0.0)
    with opened(place) as warehouse:
        _end_connections(place)
        Load(LISTS, ['{"id": "1"}']).into(warehouse)

    assert len(rows(place, "lists")) == 1


def _end_connections(place: PostgresPlace) -> None:
    server().rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE datname = '{place.database}' AND pid <> pg_backend_pid()"
    )
    time.sleep(0.1)


# --- privileges --------------------------------------------------------------------------------


def guarded(place: PostgresPlace) -> str:
    """Give the URL for the role that may do next to nothing."""
    return server().url(place.database, GUARDED, PASSWORD)


def test_a_lacking_privilege_is_named(place: PostgresPlace) -> None:
    """By `check`, which changes nothing, and by a run."""
    with open_warehouse(guarded(place), dry_run=True) as warehouse:
        warehouse.prepare(OWNER, NOON)
        with pytest.raises(WarehouseError) as refused:
            warehouse.try_access()

    for schema in ("ometria", "ometria_replica"):
        assert f"make tables in the schema {schema}" in str(refused.value)
    assert "lacks a privilege" in str(refusal(guarded(place)))
    assert not place.is_there


def test_the_least_privileges_are_enough(place: PostgresPlace) -> None:
    """The statements of the docs: two schemas of its own, and temporary tables."""
    server().run(
        f"CREATE SCHEMA ometria AUTHORIZATION {GUARDED}",
        f"CREATE SCHEMA ometria_replica AUTHORIZATION {GUARDED}",
        f"REVOKE CREATE, TEMPORARY ON DATABASE {place.database} FROM PUBLIC",
        f"GRANT TEMPORARY ON DATABASE {place.database} TO {GUARDED}",
        database=place.database,
    )
    for _ in range(2):
        with open_warehouse(guarded(place)) as warehouse:
            warehouse.try_access()
            warehouse.prepare(OWNER, NOON)
            Load(PROFILES, ['{"id": "ann"}'], watermark=NOON).into(warehouse)

    assert len(rows(place, "profiles")) == 1


# --- others at work ----------------------------------------------------------------------------


def test_a_lock_of_somebody_else_is_waited_for(
    place: PostgresPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a while; then the run ends with nothing written, and a later one goes through."""
    with opened(place):
        pass
    monkeypatch.setattr(postgres, "LOCK_SECONDS", 1)
    with server().connected(place.database) as cursor, opened(place) as warehouse:
        cursor.execute("BEGIN")
        cursor.execute("LOCK TABLE ometria.lists IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(Busy, match="held tables"):
            Load(LISTS, ['{"id": "1"}']).into(warehouse)
        ending = threading.Timer(0.3, cursor.execute, ["ROLLBACK"])
        ending.start()
        Load(LISTS, ['{"id": "2"}']).into(warehouse)
        ending.join()

    assert [row["list_id"] for row in rows(place, "lists")] == ["2"]


def test_rows_that_somebody_else_doubled_are_told_of(place: PostgresPlace) -> None:
    """A table that was copied here without its index may hold a key twice: nothing is changed."""
    with opened(place) as warehouse:
        Load(LISTS, ['{"id": "1"}']).into(warehouse)
    server().run(
        "DROP INDEX ometria.lists_sync_key",
        "INSERT INTO ometria.lists SELECT * FROM ometria.lists",
        database=place.database,
    )

    assert "two rows of one __sync_key" in str(refusal(place.url))
    assert len(rows(place, "lists")) == 2


def test_two_leases_are_never_given_at_once(place: PostgresPlace) -> None:
    """Of many runs that ask at the same moment, one gets the lease."""
    from tests.warehouses.loads import a_lease  # noqa: PLC0415 -- used here only.

    with opened(place):
        pass
    got: list[str] = []
    start = threading.Barrier(5)

    def ask(run_id: str) -> None:
        with open_warehouse(place.url) as warehouse:
            warehouse.owners()  # It is connected.
            start.wait()
            try:
                warehouse.take_lease(a_lease(run_id=run_id), NOON)
            except Busy:
                return
            got.append(run_id)

    runs = [threading.Thread(target=ask, args=(f"run {number}",)) for number in range(5)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert len(got) == 1


# --- statements --------------------------------------------------------------------------------


def test_places_are_numbered_outside_of_quotes() -> None:
    """A question mark in a text or a name is none of ours."""
    written = """SELECT ? AS "what?", 'why''s that?', ? FROM "a""?b" WHERE c = ?"""

    assert numbered(written) == (
        """SELECT $1 AS "what?", 'why''s that?', $2 FROM "a""?b" WHERE c = $3"""
    )
