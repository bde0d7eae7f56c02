"""How PostgreSQL fails: each failure has its sentence, and 75 only if it passes by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import adbc_driver_manager as adbc
import pytest

from ometria_replica.batch import DeleteDetection, Owner
from ometria_replica.catalog import CATALOG
from ometria_replica.config import Config, WarehouseSettings
from ometria_replica.doctor.run import check
from ometria_replica.errors import Busy, Unreachable, WarehouseError
from ometria_replica.tables import LISTS, PROFILES
from ometria_replica.warehouse import open_warehouse
from ometria_replica.warehouse.engines import postgres_errors
from ometria_replica.warehouse.trial import try_sync
from tests import replicas
from tests.places import PostgresPlace
from tests.postgres import GUARDED, PASSWORD
from tests.postgres import postgres as server
from tests.warehouses.loads import HOUR, NOON, Load, a_lease, opened, rows, table_state_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ometria_replica.warehouse.warehouse import Warehouse


@pytest.fixture
def place() -> Iterator[PostgresPlace]:
    """Make a database."""
    made = PostgresPlace.new()
    yield made
    made.remove()


# --- check tries what a sync does ----------------------------------------------------------------


def as_guest(place: PostgresPlace) -> str:
    """Give the URL of the role that owns nothing."""
    return server().url(place.database, GUARDED, PASSWORD)


def tried(url: str) -> None:
    """Do what `check` does to the warehouse."""
    with open_warehouse(url, dry_run=True) as warehouse:
        warehouse.check_access()
        try_sync(warehouse, CATALOG, NOON)


def granted(place: PostgresPlace, *statements: str) -> None:
    """Run statements as the administrator."""
    server().run(*(each.format(role=GUARDED) for each in statements), database=place.database)


GUEST = (
    "GRANT USAGE ON SCHEMA ometria, ometria_replica TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ometria TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ometria_replica TO {role}",
)


def syncs(url: str) -> None:
    """Load, replace and remove a row as a run does."""
    with open_warehouse(url) as warehouse:
        warehouse.prepare(Owner("account of uk", "uk"), NOON)
        warehouse.leases.acquire(a_lease(), NOON)
        Load(PROFILES, ['{"id": "1"}', '{"id": "2"}'], lease=a_lease()).into(warehouse)
        all_of_it = DeleteDetection(remove=True, max_share=1.0)
        Load(PROFILES, ['{"id": "1"}'], at=NOON + HOUR, whole=all_of_it, lease=a_lease()).into(
            warehouse
        )
        warehouse.leases.release(a_lease())


def test_check_changes_nothing_on_an_empty_server(place: PostgresPlace) -> None:
    """It makes every table, and rolls that back."""
    tried(place.url)

    assert not place.is_there


def test_check_changes_no_row_and_no_state(place: PostgresPlace) -> None:
    """Beside the rows of a source, and its lease."""
    with opened(place) as warehouse:
        warehouse.leases.acquire(a_lease(), NOON)
        Load(LISTS, ['{"id": "1"}'], watermark=NOON, lease=a_lease()).into(warehouse)
    tables = [f"{schema}.{name}" for schema, name in place._tables()]
    found = f"SELECT {', '.join(f'(SELECT array_agg(t::text) FROM {t} t)' for t in tables)}"
    before = server().rows(found, database=place.database)
    tried(place.url)

    assert server().rows(found, database=place.database) == before


def test_check_passes_a_role_with_grants_on_the_tables_of_others(place: PostgresPlace) -> None:
    """An administrator made the tables: the role may read and write them, and create nothing."""
    with opened(place):
        pass
    granted(place, *GUEST)

    tried(as_guest(place))
    syncs(as_guest(place))


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("REVOKE UPDATE ON ometria.profiles FROM {role}", "on the table profiles"),
        ("REVOKE INSERT ON ometria_replica.runs FROM {role}", "on the table runs"),
        ("ALTER TABLE ometria.profiles ENABLE ROW LEVEL SECURITY", 'on the table "profiles"'),
        ("DROP TABLE ometria.lists", "on the schema ometria"),
        ("ALTER TABLE ometria.lists DROP CONSTRAINT lists_pkey", "has no primary key"),
    ],
)
def test_check_fails_a_role_whose_sync_would_fail(
    statement: str, named: str, place: PostgresPlace
) -> None:
    """It may create tables in its schemas, which says nothing of those that are there."""
    with opened(place):
        pass
    granted(place, *GUEST, statement)

    with pytest.raises(WarehouseError) as refused:
        tried(as_guest(place))
    assert named in str(refused.value)
    assert refused.value.exit_code == 5


@pytest.mark.slow
def test_check_names_every_table_that_a_role_may_not_write(
    place: PostgresPlace, tmp_path: Path
) -> None:
    """One failure ends a sync, and one mend after the other would take as many checks."""
    with opened(place):
        pass
    granted(
        place,
        *GUEST,
        "REVOKE UPDATE, DELETE ON ometria.profiles FROM {role}",
        "REVOKE INSERT ON ometria.lists FROM {role}",
    )
    account = replicas.account(folder=tmp_path, account_id="account of uk")
    config = Config((account,), WarehouseSettings(as_guest(place)))

    found = [each for each in check(config) if each.level == "fail"]

    assert {each.code for each in found} == {"warehouse.privileges"}
    assert [each.error and each.error.exit_code for each in found] == [5, 5]
    for each, table in zip(found, ("profiles", "lists"), strict=True):
        assert each.text.startswith(f"A sync of {table} was tried and rolled back, and failed")
        assert f"lacks a privilege on the table {table}" in str(each.mend)
    assert PASSWORD not in repr(found)


def test_check_names_the_privilege_that_a_new_role_lacks(place: PostgresPlace) -> None:
    """In an empty database it may not create a schema."""
    with pytest.raises(WarehouseError, match=r"on the database test_\w+ for .*preparing"):
        tried(as_guest(place))


# --- the exit code of each failure ----------------------------------------------------------------


def test_several_hosts_are_tried_as_psql_does(place: PostgresPlace) -> None:
    """The first that accepts writes is the one."""
    hosts = f"host=/nowhere,{server().folder}&port=5432,5432"
    url = f"postgresql://postgres@/{place.database}?{hosts}&target_session_attrs=read-write"
    with open_warehouse(url) as warehouse:
        assert warehouse.accounts.owners() == []


@pytest.mark.parametrize(
    ("url", "words", "exit_code"),
    [
        ("postgresql://nobody@/x?host={folder}", "does not know the user", 5),
        ("postgresql://postgres@/nowhere?host={folder}", "no such database", 5),
        ("postgresql://{guarded}:odd@/postgres?host={folder}", "refused the password", 5),
        ("postgresql://{guarded}@/postgres?host={folder}", "refused the password", 5),
        (
            "postgresql://{guarded}:odd@/postgres?host={folder}&require_auth=none",
            "refused the user's way",
            5,
        ),
        ("postgresql://rejected@/postgres?host={folder}", "rejects connections", 5),
        ("postgresql://barred@/postgres?host={folder}", "does not know the user", 5),
        ("postgresql://postgres@/postgres?host={folder}&options=-c%20odd%3D1", "a parameter", 5),
        (
            "postgresql://postgres@/postgres?host={folder}&target_session_attrs=standby",
            "target_session_attrs",
            5,
        ),
        (
            "postgresql://postgres@/postgres?host=/nowhere,{folder}&target_session_attrs=standby",
            "cannot be reached",
            75,
        ),
        ("postgresql://postgres@/postgres?host=/nowhere", "cannot be reached", 75),
        ("postgresql://a:b@127.0.0.1:1/x", "cannot be reached", 75),
        ("postgresql://a:b@127.0.0.1:1,127.0.0.1:2/x", "cannot be reached", 75),
        ("postgresql://a:b@nowhere.invalid/x", "", None),
        ("postgresql://a:b@127.0.0.1:99999/x", "cannot be read", 5),
        ("postgresql://a:b@127.0.0.1:1/x?odd=1", "cannot be read", 5),
        ("postgresql://a:b@127.0.0.1:1/x?connect_timeout=odd", "cannot be read", 5),
        ("postgresql://a:b@127.0.0.1:1/x?service=odd", "cannot be read", 5),
    ],
)  # fmt: skip
def test_a_connection_that_fails_has_the_exit_code_of_its_kind(
    url: str, words: str, exit_code: int | None
) -> None:
    """75 only if the server may answer later; None if this machine's resolver decides."""
    given = url.format(folder=server().folder, guarded=GUARDED)
    with rejecting(), open_warehouse(given) as warehouse, pytest.raises(WarehouseError) as failed:
        warehouse.accounts.owners()

    assert words in str(failed.value)
    assert exit_code in {None, failed.value.exit_code}


@contextmanager
def rejecting() -> Iterator[None]:
    """Let pg_hba.conf reject a role, and another not log in."""
    rules = server().folder / "pg_hba.conf"
    before = rules.read_text()
    if "rejected" not in before:
        rules.write_text(f"local all rejected reject\n{before}")
        server().run("CREATE ROLE rejected LOGIN", "CREATE ROLE barred", "SELECT pg_reload_conf()")
        time.sleep(0.1)
    yield


@pytest.mark.parametrize(
    ("text", "exit_code"),
    [
        ("FATAL:  the database system is starting up", 75),
        ("FATAL:  sorry, too many clients already", 75),
        ("FATAL:  remaining connection slots are reserved for roles", 75),
        ("FATAL:  no more connections allowed (max_client_conn)", 75),
        ("timeout expired", 75),
        ('could not translate host name "h" to address: Temporary failure in name resolution', 75),
        ('could not translate host name "h" to address: Name or service not known', 5),
        ("server does not support SSL, but SSL was required", 5),
        ("SSL error: certificate verify failed", 5),
        ("SSL SYSCALL error: EOF detected", 75),
        ('FATAL:  no pg_hba.conf entry for host "h", user "u", database "d", no encryption', 5),
        ("FATAL:  Passwort-Authentifizierung für Benutzer »u« fehlgeschlagen", 5),
        ("Connection refused\nconnection to server at h2 failed: FATAL:  role u does not exist", 5),
        ("session is read-only\nconnection to server at h2 failed: Connection refused", 75),
    ],
)
def test_what_no_server_here_says_has_its_exit_code_too(text: str, exit_code: int) -> None:
    """The texts are those of libpq, PostgreSQL and PgBouncer."""
    error = adbc.OperationalError(
        f"IO: [libpq] Failed to connect: connection to server at h failed: {text}",
        status_code=adbc.AdbcStatusCode.IO,
    )
    assert postgres_errors.not_connected(error, "h").exit_code == exit_code


@pytest.mark.parametrize(
    ("statement", "words", "kind"),
    [
        ("DO $$BEGIN RAISE SQLSTATE '53100'; END$$", "disk", WarehouseError),
        ("DO $$BEGIN RAISE SQLSTATE '53200'; END$$", "no memory", Unreachable),
        ("DO $$BEGIN RAISE SQLSTATE '53400'; END$$", "too low", WarehouseError),
        ("DO $$BEGIN RAISE SQLSTATE '40001'; END$$", "held a lock", Busy),
        ("DO $$BEGIN RAISE SQLSTATE '57P01'; END$$", "broke", Unreachable),
        ("DO $$BEGIN RAISE SQLSTATE '57P04'; END$$", "was dropped", WarehouseError),
        ("DO $$BEGIN RAISE SQLSTATE '28000'; END$$", "refused the user", WarehouseError),
        ("DO $$BEGIN RAISE SQLSTATE '3D000'; END$$", "refused the user", WarehouseError),
        ("DO $$BEGIN RAISE SQLSTATE 'XX001'; END$$", "refused while", WarehouseError),
        ("DO $$BEGIN RAISE SQLSTATE '08P01' USING MESSAGE = 'in statement pooling mode'; END$$",
         "statement mode", WarehouseError),
        ("DO $$BEGIN RAISE SQLSTATE '08P01' USING MESSAGE = 'query_wait_timeout'; END$$",
         "broke", Unreachable),
        ("SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(1)", "Another session", Busy),
        ("SELECT odd", "refused while", WarehouseError),
        ("DO $$BEGIN RAISE EXCEPTION 'a trigger of the user'; END$$", "trigger", WarehouseError),
    ],
)  # fmt: skip
def test_a_statement_that_fails_has_the_exit_code_of_its_kind(
    statement: str, words: str, kind: type[WarehouseError]
) -> None:
    """As the server gives its SQLSTATE to the driver."""
    with open_warehouse(server().url()) as warehouse:
        with pytest.raises(WarehouseError) as failed, warehouse._engine.session("testing"):
            warehouse._engine.rows(statement)
        assert words in str(failed.value)
        assert type(failed.value) is kind
        with warehouse._engine.session("testing"):
            assert warehouse._engine.rows("SELECT 1") == [(1,)]


@pytest.mark.parametrize(
    ("setting", "words", "exit_code"),
    [
        ("statement_timeout", "statement_timeout", 5),
        ("transaction_timeout", "transaction_timeout", 5),
        ("idle_in_transaction_session_timeout", "idle_in_transaction_session_timeout", 5),
    ],
)
def test_a_timeout_of_the_server_is_named(
    setting: str, words: str, exit_code: int, place: PostgresPlace
) -> None:
    """With the setting to raise, which another run would meet too."""
    url = f"{place.url}&options=-c%20{setting}%3D150"
    with open_warehouse(url) as warehouse:
        with pytest.raises(WarehouseError) as failed:
            _too_long(warehouse, idle=setting.startswith("idle"))
        assert words in str(failed.value)
        assert failed.value.exit_code == exit_code


def _too_long(warehouse: Warehouse, *, idle: bool) -> None:
    with warehouse._engine.session("testing"):
        if idle:
            time.sleep(0.4)
        warehouse._engine.rows("SELECT pg_sleep(0.4)")


def test_a_connection_that_an_idle_timeout_cut_is_opened_again(place: PostgresPlace) -> None:
    """Between two batches: the lease stays the run's, and every row is there once."""
    timeout = "SELECT set_config('idle_session_timeout', '100', false)"
    with opened(place) as warehouse:
        warehouse.leases.acquire(a_lease(), NOON)
        for number in range(2):
            with warehouse._engine.session("a test"):
                warehouse._engine.rows(timeout)
            time.sleep(0.25)
            loaded = Load(LISTS, [f'{{"id": "{number}"}}', '{"id": "0"}'], lease=a_lease())
            loaded.into(warehouse)
        assert warehouse.leases.holder("uk") == a_lease()
        warehouse.leases.release(a_lease())

    assert sorted(row["list_id"] for row in rows(place, "lists")) == ["0", "1"]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE UNIQUE INDEX ON ometria.profiles (email)",
        "ALTER TABLE ometria.profiles ALTER email SET NOT NULL",
        "ALTER TABLE ometria.profiles ADD CHECK (email = 'a')",
    ],
)
def test_a_constraint_of_the_user_is_told_as_what_it_is(
    statement: str, place: PostgresPlace
) -> None:
    """Not as a row that another program loaded, which somebody would then remove."""
    records = [
        '{"id": "1", "email": "a"}',
        '{"id": "2", "email": "a"}',
        '{"id": "3", "email": "b"}',
    ]
    with opened(place) as warehouse:
        server().run(statement, database=place.database)
        with pytest.raises(WarehouseError, match=r"constraint .* not ours"):
            Load(PROFILES, [*records, '{"id": "none"}']).into(warehouse)


def test_a_view_in_the_place_of_a_table_is_named(place: PostgresPlace) -> None:
    """Such as one that somebody made to rename a column."""
    with opened(place):
        pass
    server().run(
        "ALTER TABLE ometria.lists RENAME TO old",
        "CREATE VIEW ometria.lists AS SELECT * FROM ometria.old",
        database=place.database,
    )

    with pytest.raises(WarehouseError, match="is a view"), opened(place):
        pass


def test_warnings_of_a_trigger_do_not_reach_the_output(
    place: PostgresPlace, capfd: pytest.CaptureFixture[str]
) -> None:
    """They may quote a row, and libpq writes them to standard error."""
    with opened(place) as warehouse:
        server().run(
            "CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql"
            " AS $$BEGIN RAISE WARNING '%', NEW.email; RETURN NEW; END$$",
            "CREATE TRIGGER warn BEFORE INSERT ON ometria.profiles"
            " FOR EACH ROW EXECUTE FUNCTION warn()",
            database=place.database,
        )
        Load(PROFILES, ['{"id": "1", "email": "canary@example.com"}']).into(warehouse)

    assert len(rows(place, "profiles")) == 1
    assert "canary" not in "".join(capfd.readouterr())


KEEPS_BACK = (
    "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$",
    "CREATE TRIGGER keep BEFORE {} ON ometria.profiles FOR EACH ROW EXECUTE FUNCTION keep()",
)
RULE = ("CREATE RULE keep AS ON {} TO ometria.profiles DO INSTEAD NOTHING",)


@pytest.mark.parametrize(
    ("statements", "event", "told"),
    [
        (KEEPS_BACK, "INSERT", "0 of 2 rows of ometria.profiles in .* were written"),
        pytest.param(
            KEEPS_BACK,
            "UPDATE",
            "1 of 2 rows of ometria.profiles in .* were written",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            KEEPS_BACK,
            "DELETE",
            "0 of 1 rows of ometria.profiles in .* were removed",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            RULE,
            "DELETE",
            "0 of 1 rows of ometria.profiles in .* were removed",
            marks=pytest.mark.slow,
        ),
    ],
    ids=("insert", "update", "delete", "rule"),
)
def test_rows_that_a_trigger_keeps_back_are_missed(
    statements: tuple[str, ...], event: str, told: str, place: PostgresPlace
) -> None:
    """The server says how many rows it wrote. The batch is rolled back, and check says so too."""
    syncs(place.url)
    server().run(*(each.format(event) for each in statements), database=place.database)
    before, at = rows(place, "profiles"), NOON + 2 * HOUR
    known = [] if event == "DELETE" else ['{"id": "1"}']
    whole = DeleteDetection(remove=True, max_share=1.0)

    with pytest.raises(WarehouseError, match=told), opened(place) as warehouse:
        Load(PROFILES, [*known, '{"id": "2"}'], at=at, whole=whole, watermark=at).into(warehouse)
    with pytest.raises(WarehouseError, match="keeps the others back"):
        tried(place.url)

    assert rows(place, "profiles") == before
    assert table_state_of(place, "profiles").watermark is None


# --- the server's log, and signals ----------------------------------------------------------------


def test_a_sync_leaves_no_warning_in_the_servers_log(place: PostgresPlace) -> None:
    """Times are parameters of most statements of the state."""
    log = server().folder / "log"
    before = log.stat().st_size
    syncs(place.url)
    tried(place.url)

    assert "WARNING" not in log.read_bytes()[before:].decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_cancels_a_long_statement(
    number: signal.Signals, place: PostgresPlace, tmp_path: Path
) -> None:
    """The statement ends at the server, and the program at once, as a stopped one."""
    with a_long_statement(place, tmp_path) as process:
        process.send_signal(number)
        _, said = process.communicate(timeout=20)

    assert process.returncode == 128 + number
    assert said.startswith("Stopped. ")
    assert server().rows(active_in(place)) == []


@pytest.mark.slow
def test_a_server_that_hangs_does_not_keep_a_stopped_program(
    place: PostgresPlace, tmp_path: Path
) -> None:
    """It answers nothing, not even to the request to cancel the statement."""
    with a_long_statement(place, tmp_path) as process:
        ((backend,),) = server().rows(active_in(place))
        postmaster = int((server().folder / "postmaster.pid").read_text().split()[0])
        for pid in (postmaster, backend):
            os.kill(pid, signal.SIGSTOP)
        try:
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
        finally:
            for pid in (postmaster, backend):
                os.kill(pid, signal.SIGCONT)

    assert process.returncode == 128 + signal.SIGTERM
    assert said.splitlines()[-1].startswith("Stopped. ")


def active_in(place: PostgresPlace) -> str:
    """Write the query for the server's process that runs the long statement."""
    return (
        "SELECT pid FROM pg_stat_activity WHERE query LIKE 'DO %pg_sleep(60)%'"
        f" AND state = 'active' AND datname = '{place.database}'"
    )


@contextmanager
def a_long_statement(place: PostgresPlace, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start the program, which runs a statement of a minute, and wait for that."""
    program = folder / "program.py"
    program.write_text(
        "import sys\n"
        "from ometria_replica.cli import program\n"
        "from ometria_replica.warehouse import open_warehouse\n"
        "def app(**_: object) -> None:\n"
        "    with open_warehouse(sys.argv[1]) as warehouse:\n"
        "        with warehouse._engine.session('a test'):\n"
        "            warehouse._engine.execute('DO $$BEGIN PERFORM pg_sleep(60); END$$')\n"
        "program.app = app\n"
        "program.main()\n"
    )
    command = [sys.executable, str(program), place.url]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ) as process:
        while not server().rows(active_in(place)):
            assert process.poll() is None
            time.sleep(0.05)
        yield process


@pytest.mark.parametrize(
    ("user", "port", "exit_code"), [(f"{GUARDED}:odd", 5432, 5), ("postgres", 1, 75)]
)
def test_through_dlt_a_refused_user_is_not_tried_again(
    user: str, port: int, exit_code: int
) -> None:
    """A server that is not there may come back."""
    url = f"dlt+postgresql://{user}@:{port}/postgres?host={server().folder}"
    with open_warehouse(url) as warehouse, pytest.raises(WarehouseError) as failed:
        warehouse.accounts.owners()

    assert failed.value.exit_code == exit_code
    assert "odd" not in str(failed.value)
