"""The command ``models build`` with real dbt, in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from ometria_replica.config import Config, WarehouseSettings
from ometria_replica.erasing import erase, ids_of
from ometria_replica.html_report.figures import read_figures
from ometria_replica.replication import sync
from ometria_simulator import Account, Feed, serve
from tests.duck import opened
from tests.incremental.shops import HOUR, NOON, account
from tests.pages_shown import settings_of, shop_with_everything, write_events
from tests.postgres import postgres
from tests.schemas import faults

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DBT = Path(f"{sys.prefix}-dbt") / "bin" / "ometria-replica"
"""The program in the environment that ``make test-all`` sets up: dbt needs other packages."""


def models(*arguments: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the models in *folder*."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMETRIA_", "DBT_"))}
    return subprocess.run(
        [DBT, "models", *arguments], cwd=folder, env=kept | env, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def built(*arguments: str, folder: Path, **env: str) -> dict[str, Any]:
    """Build, and return the document that was printed."""
    ended = models("build", "--json", *arguments, folder=folder, **env)
    assert ended.returncode == 0, ended.stderr
    document: dict[str, Any] = json.loads(ended.stdout)
    assert faults("models-build", document) == []
    return document


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Replicate a shop with a year of email, in a folder whose name is a template and a quote."""
    folder = tmp_path_factory.mktemp("shop's {{ models }}")
    shop = Account.create(profiles=60, lists=3, email_events=400, now=NOON)
    Feed(shop, folder / "feed").export_history(files_per_day=1 / 60)
    with serve(shop, requests_per_second=None) as server:
        url = f"duckdb:///{folder}/shop.duckdb"
        sync(
            Config((account(server, folder / "feed"),), WarehouseSettings(url=url)),
            clock=lambda: NOON - HOUR,
        )
    return folder


def test_one_command_builds_the_marts_of_a_file(folder: Path) -> None:
    """Whatever its name and its folder are called; nothing else is written, and it is unlocked."""
    there = sorted(each.name for each in folder.iterdir())

    first = built(folder=folder, OMETRIA_WAREHOUSE_URL="shop.duckdb")

    assert first["is_success"]
    assert "customer_orders" in first["skipped"]
    rows = {each["name"]: each["rows"] for each in first["models"]}
    with opened(folder / "shop.duckdb") as connection:
        ((sends, profiles),) = connection.execute(
            "SELECT (SELECT count(DISTINCT coalesce(send_id, __sync_key))"
            " FROM ometria.email_events), (SELECT count(*) FROM ometria.profiles)"
        ).fetchall()
        schemas = connection.execute(
            "SELECT DISTINCT schema_name FROM duckdb_tables() WHERE schema_name LIKE 'ometria%'"
        ).fetchall()
    assert (rows["email_sends"], rows["profile_current"]) == (sends, profiles)
    assert {"ometria", "ometria_marts"} <= {name for (name,) in schemas}
    assert sorted(each.name for each in folder.iterdir()) == there


def test_the_report_counts_the_same_in_the_mart_and_in_the_events(tmp_path: Path) -> None:
    """Hostile titles, a message without an id, and one that was never sent are among them."""
    write_events(tmp_path / "feed")
    settings = WarehouseSettings(url=f"duckdb:///{tmp_path}/w.duckdb")
    with serve(shop_with_everything(), requests_per_second=None) as server:
        accounts = settings_of(server, tmp_path / "feed")
        sync(Config(accounts, settings), clock=lambda: NOON - HOUR)
    config = Config(accounts, settings)
    counted = read_figures(config, days=365, clock=lambda: NOON)
    assert not counted.sends.is_current
    assert not counted.sends.because

    built("--select", "+email_sends", "--no-tests", "--warehouse", "w.duckdb", folder=tmp_path)

    from_mart = read_figures(config, days=365, clock=lambda: NOON)
    assert from_mart.sends.is_current
    assert len(counted.of("campaigns")) > 2
    in_any_order = [
        {name: sorted(map(repr, rows)) for name, rows in figures.rows.items()}
        for figures in (from_mart, counted)
    ]
    assert in_any_order[0] == in_any_order[1]
    with opened(tmp_path / "w.duckdb", read_only=False) as connection:
        connection.execute("DELETE FROM ometria.email_events WHERE event_type = 'click'")
    older = read_figures(config, days=365, clock=lambda: NOON)
    assert older.sends.because == "it is older than the events"
    assert [row.numbers[4] for row in older.of("campaigns")].count(0) == len(older.of("campaigns"))


def test_a_build_gives_way_to_another_program_in_the_file(folder: Path) -> None:
    """DuckDB lets in one program at a time: the other one is told to come again."""
    with opened(folder / "shop.duckdb", read_only=False):
        ended = models("build", "--select", "stg_ometria__lists", "--warehouse", "shop.duckdb",
                       folder=folder)  # fmt: skip
    assert ended.returncode == 75
    assert "one writer at a time" in ended.stderr


@contextmanager
def building(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a build, and wait until dbt builds the first model."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("OMETRIA_")}
    with subprocess.Popen(
        [DBT, "models", "build", "--warehouse", "shop.duckdb"],
        cwd=folder, env=kept, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as program:  # fmt: skip
        assert program.stderr is not None
        assert program.stderr.readline().startswith("Building ")
        yield program


def test_a_signal_ends_dbt_and_unlocks_the_file(folder: Path) -> None:
    """The process of dbt ends with the command, whatever it does at that moment."""
    with building(folder) as program:
        program.terminate()
        assert program.wait(60) == 143

    with opened(folder / "shop.duckdb", read_only=False) as connection:
        assert connection.execute("SELECT count(*) FROM ometria.profiles").fetchall()


def test_a_killed_command_leaves_no_process_of_dbt(folder: Path) -> None:
    """It sees the end of its standard input, and unlocks the file."""
    with building(folder) as program:
        program.kill()

    for _ in range(60):
        try:
            with opened(folder / "shop.duckdb", read_only=False):
                break
        except duckdb.IOException:
            time.sleep(1)
    else:
        pytest.fail("the file is still locked")


def test_a_role_that_may_only_read_the_tables_builds_them_in_postgresql(tmp_path: Path) -> None:
    """With a password that is nowhere written, and without a look at the state."""
    server, password = postgres(), "canary'/@:p#w {{ x }}"
    database = server.new_database()
    write_events(tmp_path / "feed")
    settings = WarehouseSettings(url=server.url(database))
    with serve(shop_with_everything(), requests_per_second=None) as simulator:
        accounts = settings_of(simulator, tmp_path / "feed")
        sync(Config(accounts, settings), clock=lambda: NOON - HOUR)
    quoted = password.replace("'", "''")
    server.run(
        f"CREATE ROLE models_analyst LOGIN PASSWORD '{quoted}'",
        "GRANT USAGE ON SCHEMA ometria TO models_analyst",
        "GRANT SELECT ON ALL TABLES IN SCHEMA ometria TO models_analyst",
        f"GRANT CREATE ON DATABASE {database} TO models_analyst",
        database=database,
    )
    url = server.url(database, "models_analyst", password)

    document = built("--no-tests", folder=tmp_path, OMETRIA_WAREHOUSE_URL=url, TMPDIR=str(tmp_path))

    assert document["is_success"]
    ((sends,),) = server.rows("SELECT count(*) FROM ometria_marts.email_sends", database=database)
    assert {each["name"]: each["rows"] for each in document["models"]}["email_sends"] == sends > 0
    assert "canary" not in json.dumps(document)
    erased = erase(Config(accounts, settings), ids_of(["planted3@example.com"]))
    assert "ometria_marts.email_sends" in {name for each in erased for name in each.rows}
    ((left,),) = server.rows(
        "SELECT count(*) FROM ometria_marts.profile_current WHERE email = 'planted3@example.com'",
        database=database,
    )
    assert left == 0


def test_the_models_of_a_lake_are_built_in_a_file_beside_it(tmp_path: Path) -> None:
    """DuckDB reads the tables through their own library, as often as models name them."""
    write_events(tmp_path / "feed")
    settings = WarehouseSettings(url=f"delta:///{tmp_path}/lake")
    with serve(shop_with_everything(), requests_per_second=None) as server:
        accounts = settings_of(server, tmp_path / "feed")
        sync(Config(accounts, settings), clock=lambda: NOON - HOUR)

    built("--into", "marts.duckdb", "--warehouse", settings.url, folder=tmp_path)

    with opened(tmp_path / "marts.duckdb") as connection:
        found = connection.execute("SELECT sum(events) FROM ometria_marts.email_sends").fetchall()
        people = connection.execute("SELECT count(*) FROM ometria_marts.profile_current").fetchall()
    assert found == [(25,)]
    assert people == [(18,)]


def test_the_package_is_listed_and_documented(folder: Path) -> None:
    """Each mart is described, and names the tables that it needs; the page needs no network."""
    listed = json.loads(models("list", "--json", folder=folder).stdout)
    assert faults("models-list", listed) == []
    by_name = {each["name"]: each for each in listed["models"]}
    assert by_name["customer_orders"]["tables"]
    marts = [each for each in listed["models"] if each["layer"] == "marts"]
    assert len(marts) > 10
    assert all(each["about"] for each in marts)

    page = folder.parent / "models.html"
    told = models(
        "docs", "--html", str(page), "--json", "--warehouse", "shop.duckdb", folder=folder
    )
    assert faults("models-docs", json.loads(told.stdout)) == []
    assert "campaign_performance" in page.read_text(encoding="utf-8")


def test_a_profile_of_the_user_says_where_models_are_built(folder: Path, tmp_path: Path) -> None:
    """For warehouses whose ways to sign in are many; and what is wrong with one is said."""
    file = folder / "shop.duckdb"
    output = {"type": "duckdb", "path": str(file).replace("{", "{{ '{' }}"), "schema": "mine"}
    profile = {"ometria": {"target": "dev", "outputs": {"dev": output}}}
    (tmp_path / "profiles.yml").write_text(json.dumps(profile))
    select = ("--select", "+unsubscribe_reasons", "--warehouse", "shop.duckdb")

    document = built(*select, "--profiles-dir", str(tmp_path), folder=folder)

    assert {each["rows"] for each in document["models"]} == {None}
    with opened(file) as connection:
        assert connection.execute("SELECT count(*) FROM mine.unsubscribe_reasons").fetchall()
    (tmp_path / "profiles.yml").write_text(json.dumps({"another": profile["ometria"]}))
    refused = models("build", *select, "--profiles-dir", str(tmp_path), folder=folder)
    assert refused.returncode == 2
    assert "Could not find profile named 'ometria'" in refused.stderr
