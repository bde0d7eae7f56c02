"""What only a server can do to a run: passwords, privileges, locks, lost connections."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from ometria_replica.batch import DeleteDetection, Owner
from ometria_replica.errors import Busy, ConfigError, Unreachable, WarehouseError
from ometria_replica.selection import Selection
from ometria_replica.tables import EMAIL_EVENTS, LISTS, PROFILES, TABLES
from ometria_replica.warehouse import open_warehouse
from ometria_replica.warehouse.engines import postgres_session
from ometria_replica.warehouse.engines.postgres_dialect import numbered
from ometria_replica.warehouse.state_tables import STATE_TABLES, WATERMARKS
from tests.places import PostgresPlace
from tests.pooler import pooled
from tests.postgres import GUARDED, PASSWORD, postgres_in_english
from tests.postgres import postgres as server
from tests.warehouses.loads import HOUR, NOON, Load, a_lease, opened, rows, table_state_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from ometria_replica.warehouse.warehouse import Warehouse

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
        ("postgresql://a:secret@127.0.0.1:1/x?sslmode=odd", "cannot be read", WarehouseError),
        ("postgresql://a:secret/1@127.0.0.1:1/x", "cannot be read", WarehouseError),
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

    monkeypatch.delitem(sys.modules, "ometria_replica.warehouse.engines.postgres")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'ometria-replica\[postgres\]'"):
        open_warehouse("postgresql://somewhere/db")


def test_a_connection_that_breaks_loses_nothing(place: PostgresPlace) -> None:
    """Between two batches it is made anew; within one the batch is rolled back."""
    with opened(place) as warehouse:
        Load(LISTS, ['{"id": "1"}']).into(warehouse)
        _end_connections(place)
        Load(LISTS, ['{"id": "2"}']).into(warehouse)
        with pytest.raises(Unreachable, match="broke while counting"):
            _count_while_it_breaks(warehouse, place)
        Load(LISTS, ['{"id": "3"}']).into(warehouse)

    assert sorted(row["list_id"] for row in rows(place, "lists")) == ["1", "2", "3"]


def _count_while_it_breaks(warehouse: Warehouse, place: PostgresPlace) -> None:
    with warehouse._engine.session("counting"):
        _end_connections(place)
        warehouse.count(LISTS, Selection("uk"))


def test_a_connection_that_stood_idle_is_made_anew(
    place: PostgresPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long read between two batches may cost the connection, and not the run."""
    monkeypatch.setattr(postgres_session, "IDLE_SECONDS", 0.0)
    with opened(place) as warehouse:
        _end_connections(place)
        Load(LISTS, ['{"id": "1"}']).into(warehouse)

    assert len(rows(place, "lists")) == 1


def test_a_pooler_may_hand_each_transaction_another_connection(
    place: PostgresPlace, tmp_path: Path
) -> None:
    """All that is asked is within transactions: reading the state as well as a batch."""
    with (
        pooled(server().folder, tmp_path) as folder,
        open_warehouse(f"postgresql://postgres@/{place.database}?host={folder}") as warehouse,
    ):
        warehouse.check_access()
        warehouse.prepare(OWNER, NOON)
        warehouse.leases.acquire(a_lease(), NOON)
        Load(LISTS, ['{"id": "1"}'], watermark=NOON, lease=a_lease()).into(warehouse)
        Load(LISTS, ['{"id": "1"}', '{"id": "2"}'], lease=a_lease()).into(warehouse)
        assert warehouse.state.table_state("uk", "lists").watermark == NOON
        warehouse.state.rewind("uk", "lists", None)
        assert warehouse.rejects.replay("uk") == 0
        assert (warehouse.runs.newest(1), warehouse.rejects.newest(1)) == ([], [])
        warehouse.leases.release(a_lease())
        assert warehouse.count(LISTS, Selection("uk")) == 2


@pytest.mark.parametrize("where", ["database", "url"])
def test_another_encoding_of_the_connection_changes_no_text(
    where: str, place: PostgresPlace
) -> None:
    """What is sent is UTF-8, whatever a database, a role or a URL has set."""
    url = place.url
    if where == "url":
        url += "&client_encoding=LATIN1"
    else:
        server().run(f"ALTER DATABASE {place.database} SET client_encoding = 'LATIN1'")
    with open_warehouse(url) as warehouse:
        warehouse.prepare(OWNER, NOON)
        Load(LISTS, ['{"id": "1", "title": "Zoë"}']).into(warehouse)
    server().run(f"ALTER DATABASE {place.database} RESET client_encoding")

    assert [row["list_title"] for row in rows(place, "lists")] == ["Zoë"]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///{database}?host={folder}&user=postgres",
        "postgresql://postgres@/{database}?host={folder}&options=-c%20statement_timeout%3D60000",
        "postgresql://postgres:a[b?c#d@/{database}?host={folder}",
    ],
    ids=["no host", "a space", "a password"],
)
def test_a_url_reaches_the_server_as_it_was_written(url: str, place: PostgresPlace) -> None:
    """The server's library reads URLs in its own way, so that nothing of them is changed."""
    with open_warehouse(url.format(database=place.database, folder=server().folder)) as warehouse:
        warehouse.prepare(OWNER, NOON)
        assert warehouse.accounts.owners() == [OWNER]


def test_tables_of_our_temporary_names_are_left_alone(place: PostgresPlace) -> None:
    """Even where a search path puts temporary tables last."""
    names = ("staged", "rejected", "matched", "found")
    server().run(
        *(f"CREATE TABLE public.{name} (__sync_key text)" for name in names),
        "INSERT INTO public.staged VALUES ('theirs')",
        database=place.database,
    )
    server().run(f"ALTER DATABASE {place.database} SET search_path = public, pg_temp")
    with opened(place) as warehouse:
        for _ in range(2):
            Load(LISTS, ['{"id": "1"}']).into(warehouse)

    assert len(rows(place, "lists")) == 1
    assert server().rows("SELECT * FROM public.staged", database=place.database) == [("theirs",)]


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
    """By a run, which leaves nothing behind."""
    assert "lacks a privilege on the database" in str(refusal(guarded(place)))
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
            warehouse.check_access()
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
    monkeypatch.setattr(postgres_session, "LOCK_SECONDS", 1)
    with server().connected(place.database) as cursor, opened(place) as warehouse:
        cursor.execute("BEGIN")
        cursor.execute("LOCK TABLE ometria.lists IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(Busy, match="held a lock"):
            Load(LISTS, ['{"id": "1"}']).into(warehouse)
        ending = threading.Timer(0.3, cursor.execute, ["ROLLBACK"])
        ending.start()
        Load(LISTS, ['{"id": "2"}']).into(warehouse)
        ending.join()

    assert [row["list_id"] for row in rows(place, "lists")] == ["2"]


def test_rows_that_somebody_else_doubled_are_told_of(place: PostgresPlace) -> None:
    """A table that was copied here without its key may hold a row twice: nothing is changed."""
    with opened(place) as warehouse:
        Load(LISTS, ['{"id": "1"}']).into(warehouse)
    server().run(
        "ALTER TABLE ometria.lists DROP CONSTRAINT lists_pkey",
        "INSERT INTO ometria.lists SELECT * FROM ometria.lists",
        database=place.database,
    )

    assert "Two rows would have the same key" in str(refusal(place.url))
    assert len(rows(place, "lists")) == 2


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_a_lease_is_given_once_whatever_the_default_isolation(
    isolation: str, place: PostgresPlace
) -> None:
    """A run that waited for the lock sees the lease that was given in the meantime."""
    with opened(place):
        pass
    database = place.database
    server().run(f"ALTER DATABASE {database} SET default_transaction_isolation = '{isolation}'")
    waiting = (
        f"SELECT 1 FROM pg_stat_activity WHERE datname = '{database}' AND wait_event_type = 'Lock'"
    )

    def acquired(run_id: str) -> bool:
        with opened(place) as warehouse:
            try:
                warehouse.leases.acquire(a_lease(run_id=run_id), NOON)
            except Busy:
                return False
            return True

    with ThreadPoolExecutor(2) as pool, server().connected(database) as cursor:
        cursor.execute("BEGIN")
        cursor.execute("LOCK TABLE ometria_replica.leases IN SHARE ROW EXCLUSIVE MODE")
        runs = [pool.submit(acquired, name) for name in ("one", "other")]
        while len(server().rows(waiting)) < len(runs):
            time.sleep(0.01)
        cursor.execute("COMMIT")

        assert sorted(run.result() for run in runs) == [False, True]


def test_two_leases_are_never_given_at_once(place: PostgresPlace) -> None:
    """Of many runs that ask at the same moment, one gets the lease."""
    with opened(place):
        pass
    got: list[str] = []
    start = threading.Barrier(5)

    def ask(run_id: str) -> None:
        with open_warehouse(place.url) as warehouse:
            warehouse.accounts.owners()  # It is connected.
            start.wait()
            try:
                warehouse.leases.acquire(a_lease(run_id=run_id), NOON)
            except Busy:
                return
            got.append(run_id)

    runs = [threading.Thread(target=ask, args=(f"run {number}",)) for number in range(5)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert len(got) == 1


def test_runs_that_begin_at_once_make_all_of_it_once(place: PostgresPlace) -> None:
    """On an empty database, where each finds everything missing."""
    failures: list[WarehouseError] = []
    start = threading.Barrier(4)

    def begin() -> None:
        with open_warehouse(place.url) as warehouse:
            warehouse.accounts.owners()  # It is connected.
            start.wait()
            try:
                warehouse.prepare(OWNER, NOON)
            except WarehouseError as error:
                failures.append(error)

    runs = [threading.Thread(target=begin) for _ in range(4)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert failures == []
    with open_warehouse(place.url) as warehouse:
        assert warehouse.accounts.owners() == [OWNER]


def test_a_server_that_is_only_read_is_told_of(place: PostgresPlace) -> None:
    """Before anything is read from Ometria, and with what to do."""
    server().run(f"ALTER DATABASE {place.database} SET default_transaction_read_only = on")

    assert "is read only" in str(refusal(place.url))
    with (
        open_warehouse(place.url) as warehouse,
        pytest.raises(WarehouseError, match="primary server"),
    ):
        warehouse.check_access()


@pytest.mark.slow
def test_more_marks_than_a_statement_has_parameters_are_written(place: PostgresPlace) -> None:
    """A statement takes 65,535 of them, and an account may have any number of lists."""
    with opened(place) as warehouse, warehouse._engine.session("a test"):
        engine = warehouse._engine
        marks = [["uk", "member_lists", f"retry {n}", NOON, "a-run"] for n in range(14_000)]
        engine.replace(WATERMARKS, *marks)
        engine.replace(WATERMARKS, *marks)
    assert len(table_state_of(place, "member_lists").retry) == 14_000


def test_a_list_whose_id_holds_a_nul_is_read(place: PostgresPlace) -> None:
    """PostgreSQL stores no NUL. What the state knows of such a list is found again."""
    noted = {"a\0b": NOON}
    with opened(place) as warehouse:
        Load(LISTS, ['{"id": "a\\u0000b", "title": "odd"}'], retry=noted, refreshed=noted).into(
            warehouse
        )

    assert [row["list_id"] for row in rows(place, "lists")] == ["ab"]
    found = table_state_of(place, "lists")
    assert (found.retry, found.refreshed) == (noted, noted)


@pytest.mark.slow
def test_a_late_file_of_many_old_copies_is_compared_in_seconds(place: PostgresPlace) -> None:
    """Without a hash table each of 300,000 rows is compared with each: hours, not a minute."""
    copies = [
        json.dumps(
            {"to_address": f"{n}@example.com", "event_type": "open", "dt_occurred": "2026-03-01"}
        )
        for n in range(300_000)
    ]
    url = f"{place.url}&options=-c%20statement_timeout%3D60s"
    with opened(place), open_warehouse(url) as warehouse:
        Load(EMAIL_EVENTS, copies, at=NOON, file=("newer", NOON)).into(warehouse)
        late = Load(EMAIL_EVENTS, copies, at=NOON + HOUR, file=("older", NOON - HOUR))
        assert late.into(warehouse).older == 300_000


# --- languages ---------------------------------------------------------------------------------


def test_the_newest_file_wins_in_a_database_of_any_language() -> None:
    """Of two files of one time, the later name by its bytes wins, whatever comes first."""
    with postgres_in_english() as english:
        assert english.rows("SELECT 'a.csv' < 'Z.csv'", database="english") == [(True,)]
        for day, names in enumerate((("Z.csv", "a.csv"), ("a.csv", "Z.csv"))):
            with open_warehouse(english.url("english")) as warehouse:
                warehouse.prepare(OWNER, NOON)
                for hours, name in enumerate(names):
                    at = NOON + (10 * day + hours) * HOUR
                    one = {"to_address": f"{day}@example.com", "event_type": "open"}
                    Load(
                        EMAIL_EVENTS, [json.dumps({**one, "campaign_title": name})], at=at,
                        file=(name, NOON + day * HOUR),
                    ).into(warehouse)  # fmt: skip
        found = english.rows("SELECT campaign_title FROM ometria.email_events", database="english")

    assert found == [("a.csv",), ("a.csv",)]


# --- primary keys ------------------------------------------------------------------------------


def keys(place: PostgresPlace) -> dict[str, list[str]]:
    """Give the columns of each table's primary key, in order."""
    return dict(
        server().rows(
            "SELECT i.indrelid::regclass::text, array_agg(a.attname::text ORDER BY n.place)"
            " FROM pg_index i CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS n (attnum, place)"
            " JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = n.attnum"
            " WHERE i.indisprimary AND i.indrelid::regclass::text LIKE 'ometria%' GROUP BY 1",
            database=place.database,
        )
    )


def index_names(place: PostgresPlace) -> set[str]:
    """Name the indexes of the data."""
    query = "SELECT indexname::text FROM pg_indexes WHERE schemaname = 'ometria'"
    return {name for (name,) in server().rows(query, database=place.database)}


def as_an_older_release_left_it(place: PostgresPlace) -> None:
    """Give the tables no primary key, and those of the data an index of the key alone."""
    server().run(
        *(f"ALTER TABLE {name} DROP CONSTRAINT {name.split('.')[1]}_pkey" for name in keys(place)),
        *(
            f"CREATE UNIQUE INDEX {table.name}_sync_key ON ometria.{table.name} (__sync_key)"
            for table in TABLES
        ),
        database=place.database,
    )


def as_guest(place: PostgresPlace) -> None:
    """Let a role that owns no table read and write all of them."""
    server().run(
        *(
            f"GRANT {rights} IN SCHEMA {schema} TO {GUARDED}"
            for schema in ("ometria", "ometria_replica")
            for rights in ("SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES",)
        ),
        f"GRANT USAGE ON SCHEMA ometria, ometria_replica TO {GUARDED}",
        database=place.database,
    )


def both_accounts(warehouse: Warehouse, title: str, at: datetime = NOON) -> None:
    """Load an event of two accounts whose keys are made of the same text."""
    for source_id, address in (("shop", "-2bob@example.com"), ("shop-2", "bob@example.com")):
        one = {"to_address": address, "event_type": "open", "campaign_title": title}
        Load(EMAIL_EVENTS, [json.dumps(one)], source_id=source_id, at=at).into(warehouse)


def test_every_table_has_a_primary_key(place: PostgresPlace) -> None:
    """That of the data is the source and the key; that of the state is what a row is known by."""
    with opened(place):
        pass

    assert keys(place) == {
        **{f"ometria.{table.name}": ["__source_id", "__sync_key"] for table in TABLES},
        **{f"ometria_replica.{table.name}": list(table.key) for table in STATE_TABLES},
    }
    assert index_names(place) == {f"{table.name}_pkey" for table in TABLES}


def test_a_publication_of_all_tables_stops_nothing(place: PostgresPlace) -> None:
    """Rows and state are replaced and removed while a publication of all tables is there."""
    server().run("CREATE PUBLICATION everything FOR ALL TABLES", database=place.database)
    for hours in range(2):
        with opened(place) as warehouse:
            warehouse.leases.acquire(a_lease(), NOON)
            Load(
                LISTS, ['{"id": "1"}', '{"id": "2"}'][hours:], at=NOON + hours * HOUR,
                watermark=NOON + hours * HOUR, lease=a_lease(), whole=DeleteDetection(True, 1.0),
            ).into(warehouse)  # fmt: skip
            warehouse.leases.release(a_lease())

    assert [row["list_id"] for row in rows(place, "lists")] == ["2"]


def test_tables_of_an_older_release_get_their_primary_keys(place: PostgresPlace) -> None:
    """In the first sync, which keeps the rows; then two accounts may have rows of one key."""
    with opened(place, "shop") as warehouse:
        due = keys(place)
        one = {"to_address": "-2bob@example.com", "event_type": "open"}
        Load(EMAIL_EVENTS, [json.dumps(one)], source_id="shop").into(warehouse)
    as_an_older_release_left_it(place)
    assert keys(place) == {}
    with open_warehouse(place.url, dry_run=True) as warehouse:
        warehouse.prepare(Owner("account of shop", "shop"), NOON)
    assert keys(place) == {}

    with opened(place, "shop", "shop-2") as warehouse:
        assert warehouse.count(EMAIL_EVENTS, Selection("shop")) == 1
        both_accounts(warehouse, "new")

    assert keys(place) == due
    assert index_names(place) == {f"{table.name}_pkey" for table in TABLES}
    assert [row["campaign_title"] for row in rows(place, "email_events")] == ["new", "new"]


def test_an_index_that_others_need_stays(place: PostgresPlace) -> None:
    """A user's foreign key may depend on the index of an older release."""
    with opened(place):
        pass
    as_an_older_release_left_it(place)
    server().run(
        "CREATE TABLE public.notes (of_list text REFERENCES ometria.lists (__sync_key))",
        "ALTER TABLE ometria.profiles ALTER __sync_key SET NOT NULL",
        "ALTER TABLE ometria.profiles REPLICA IDENTITY USING INDEX profiles_sync_key",
        "CREATE PUBLICATION everything FOR ALL TABLES",
        database=place.database,
    )
    for _ in range(2):
        with opened(place) as warehouse:
            Load(LISTS, ['{"id": "1"}']).into(warehouse)
            Load(PROFILES, ['{"id": "ann"}']).into(warehouse)

    assert index_names(place) == {f"{table.name}_pkey" for table in TABLES} | {"lists_sync_key"}
    assert len(rows(place, "lists")) == len(rows(place, "profiles")) == 1


@pytest.mark.parametrize("older", [False, True], ids=["primary keys", "indexes"])
def test_a_role_that_owns_no_table_can_load(older: bool, place: PostgresPlace) -> None:
    """It adds no key, and needs none: an index of an older release is enough."""
    with opened(place, "shop", "shop-2"):
        pass
    if older:
        as_an_older_release_left_it(place)
    before = keys(place)
    as_guest(place)

    with open_warehouse(guarded(place)) as warehouse:
        warehouse.prepare(Owner("account of shop", "shop"), NOON)
        for time in range(2):
            Load(LISTS, [json.dumps({"id": "1", "title": str(time)})], source_id="shop").into(
                warehouse
            )

    assert [row["list_title"] for row in rows(place, "lists")] == ["1"]
    assert keys(place) == before


def test_under_an_older_index_no_account_takes_the_row_of_another(place: PostgresPlace) -> None:
    """The batch of the second is refused, and the message says who can help."""
    with opened(place, "shop", "shop-2"):
        pass
    as_an_older_release_left_it(place)
    as_guest(place)

    with open_warehouse(guarded(place)) as warehouse:
        with pytest.raises(WarehouseError, match="owner of the table run a sync"):
            both_accounts(warehouse, "one")
        with pytest.raises(WarehouseError, match="owner of the table run a sync"):
            both_accounts(warehouse, "two", NOON + HOUR)

    (row,) = rows(place, "email_events")
    assert (row["__source_id"], row["campaign_title"]) == ("shop", "two")


# --- statements --------------------------------------------------------------------------------


def test_places_are_numbered_outside_of_quotes() -> None:
    """A question mark in a text or a name is none of ours."""
    written = """SELECT ? AS "what?", 'why''s that?', ? FROM "a""?b" WHERE c = ?"""

    assert numbered(written) == (
        """SELECT $1 AS "what?", 'why''s that?', $2 FROM "a""?b" WHERE c = $3"""
    )
