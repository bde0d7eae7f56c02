"""Examples of the documentation run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
import warnings
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
import typer

from ometria_replica import load_config, sync
from ometria_replica.cli import app
from ometria_replica.tables import TABLES
from ometria_simulator import Account, Dialect, Feed, serve
from tests.forked import forkserver
from tests.postgres import postgres

from .pages import BY_HAND, DOCS, PAGES, ROOT, blocks, links, read

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .conftest import Shop
    from .pages import Block

GROUP: Any = typer.main.get_command(app)
TARGETS = set(re.findall(r"^([a-z-]+):", read(ROOT / "Makefile"), re.MULTILINE))
MAY_BE_EMPTY = (
    "ATTACH",
    "p.valid_from <=",
    "WHERE valid_from <=",
    "unreadable_because IS NOT NULL",
    "ometria_replica.deleted_upstream",
)
ELSEWHERE = {
    *("pip", "export", "source", "set", "pass", "apt", "cd"),
    *("git", "curl", "sleep", "cat", "python3", "airflow", "dagster"),
    *("aws", "gcloud", "kubectl", "podman"),
    *(".venv/bin/python", ".venv/bin/ometria-simulator", "ometria-simulator"),
    "tap-ometria",
    *(".venv-models/bin/pip", ".venv-models/bin/dbt"),
}


def commands(text: str) -> list[list[str]]:
    """Split a shell block into its commands' words, without where their output goes."""
    lines = text.replace("\\\n", " ").splitlines()
    return [
        words for line in lines if (words := shlex.split(line.partition(" > ")[0], comments=True))
    ]


def parse(words: list[str]) -> None:
    """Parse a command line without running it."""
    if not words or words in (["--help"], ["--version"]):
        return
    context = GROUP.make_context("ometria-replica", list(words))
    name, command, rest = GROUP.resolve_command(context, list(words))
    while hasattr(command, "resolve_command") and rest:
        name, command, rest = command.resolve_command(context, rest)
    command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("block", [*blocks("shell"), *blocks("sh")], ids=str)
def test_the_commands_of_a_shell_block_exist(block: Block) -> None:
    """Each line is a command of the program with existing options, a make target, or well known."""
    for words in commands(block.text):
        match words:
            case ["ometria-replica", *rest]:
                parse(rest)
            case ["make", *rest]:
                assert {word for word in rest if "=" not in word} <= TARGETS
            case [first, *_]:
                assert first in ELSEWHERE or "=" in first


@pytest.mark.parametrize("page", BY_HAND, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_named_in_a_sentence_exist(page: Path) -> None:
    """`ometria-replica sync --full` in running text is a command with an option that it has."""
    for words in re.findall(r"`ometria-replica ([^`]+)`", read(page)):
        if "TABLE" not in words and "DATE" not in words and "…" not in words:
            parse(shlex.split(words))
    for target in re.findall(r"`make ([a-z-]+)", read(page)):
        assert target in TARGETS


SLOW_PAGES = {"add-a-table.md", "dagster.md", "dlt.md", "lake.md"}
"""Their blocks sync by themselves, or import much; tests of their own show what they do."""


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, marks=[pytest.mark.slow] * (block.page.name in SLOW_PAGES))
        for block in blocks("python")
    ],
    ids=str,
)
def test_a_python_block_runs(block: Block, shop: Shop, tmp_path: Path) -> None:
    """Each block stands alone, in a folder with a copy of the synced ``warehouse.duckdb``."""
    if block.page.name == "CONTRIBUTING.md":  # Shows style, and does nothing.
        compile(block.text, str(block), "exec")
        return
    said = tmp_path / "said"
    shutil.copy(shop.folder / "warehouse.duckdb", tmp_path)
    environ = {**shop.environ, "OMETRIA_WAREHOUSE_URL": f"duckdb:///{tmp_path}/warehouse.duckdb"}
    process = forkserver().Process(target=execute, args=(block.text, said, tmp_path, environ))
    process.start()
    process.join(60)

    assert process.exitcode == 0, said.read_text()


def execute(text: str, said: Path, folder: Path, environ: Mapping[str, str]) -> None:
    """Run a block in this forked process, whose libraries are imported; write what it prints."""
    output = os.open(said, os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    warnings.simplefilter("error")
    exec(compile(text, "block", "exec"), {"__name__": "__main__"})


def in_duckdb(statement: str, shop: Shop) -> list[Any]:
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{shop.folder}/warehouse.duckdb' AS shop (READ_ONLY); USE shop")
        return connection.execute(statement).fetchall()


def comparable(rows: list[Any]) -> list[list[str]]:
    """Write values as text: decimals are texts in one driver, times have other zones."""
    return sorted([_comparable(cell) for cell in row] for row in rows)


def _comparable(cell: Any) -> str:
    if isinstance(cell, datetime):
        return str(cell.astimezone(UTC))
    try:
        return f"{float(cell):.6f}"
    except (TypeError, ValueError):
        return str(cell)


@pytest.mark.parametrize("block", [*blocks("sql"), *blocks("sql duckdb")], ids=str)
def test_an_sql_block_runs_against_a_synced_account(
    block: Block, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each query returns rows, unless it may be empty in a small account."""
    monkeypatch.chdir(shop.folder)

    rows = in_duckdb(block.text, shop)

    assert rows or any(words in block.text for words in MAY_BE_EMPTY)


@pytest.mark.parametrize("block", blocks("sql"), ids=str)
def test_an_sql_block_returns_the_same_in_postgresql(
    block: Block, shop: Shop, database: str
) -> None:
    """The same rows, though perhaps in another order of texts; the time of a sync is its own."""
    there = postgres().rows(block.text, database=database)

    takes_any = "LIMIT" in block.text and "ORDER BY" not in block.text
    if takes_any or "watermarks" in block.text:
        assert len(there) == len(in_duckdb(block.text, shop))
    else:
        assert comparable(there) == comparable(in_duckdb(block.text, shop))


@pytest.mark.parametrize("block", blocks("sql postgresql"), ids=str)
def test_an_sql_block_of_postgresql_runs_there(block: Block, database: str) -> None:
    """In the words of PostgreSQL, against the same account."""
    assert postgres().rows(block.text, database=database)


def test_the_members_that_the_query_counts_are_those_of_the_account(shop: Shop) -> None:
    """From the last event of each profile, in lists whose events all reach back to their start."""
    (block,) = [block for block in blocks("sql") if "WITH moves" in block.text]

    found = {list_id: people for list_id, _, people in in_duckdb(block.text, shop)}

    assert found == {
        segment.id: len(shop.account.members(segment.id))
        for segment in shop.account.lists
        if shop.account.members(segment.id)
    }


def test_the_least_privileges_suffice(shop: Shop) -> None:
    """Of the role that syncs, and of the one that reads, as the page of warehouses grants them."""
    owner, reader = (block.text for block in blocks("postgresql"))
    server = postgres()
    server.run("CREATE DATABASE shop", "CREATE ROLE analysts LOGIN")
    for statement in f"{owner}{reader}".split(";\n")[:-1]:
        server.run(statement, database="shop")
    url = server.url("shop", "ometria_replica")

    sync(load_config(None, shop.environ, warehouse_url=url), ["lists"])

    count = "SELECT count(*) FROM ometria.lists"
    with server.connected("shop", "analysts") as cursor:
        cursor.execute(count)
        assert cursor.fetchall() == in_duckdb(count, shop)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_columns_that_the_demo_shows_have_values(table: Any, shop: Shop) -> None:
    """In a quarter of the rows of a first sync, which leaves `profiles.updated_at` null in all."""
    with duckdb.connect(str(shop.folder / "warehouse.duckdb"), read_only=True) as connection:
        counts = ", ".join(f"count({name}) / count(*)" for name in table.sample_columns)
        (shares,) = connection.execute(
            f"SELECT {counts} FROM warehouse.{table.full_name}"
        ).fetchall()
        (updated,) = connection.execute("SELECT count(updated_at) FROM ometria.profiles").fetchall()

    assert min(shares) > 0.25
    assert updated == (0,)


def test_the_simulator_can_be_synced_as_its_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines with ``export`` are all that the program needs beside a simulator that serves."""
    (text,) = [
        block.text
        for block in blocks("shell")
        if block.page.name == "simulator.md" and "OMETRIA_API_URL" in block.text
    ]
    exported = [words[1].split("=", 1) for words in commands(text) if words[0] == "export"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    account = Account.create(profiles=5, lists=1, email_events=20)
    Feed(account, "exports", Dialect(compression="gzip")).export_history()

    with serve(account, requests_per_second=None) as server:
        environ = {**dict(exported), "OMETRIA_REQUESTS_PER_SECOND": "1000"}
        assert environ["OMETRIA_API_KEY"] == server.key
        environ["OMETRIA_API_URL"] = environ["OMETRIA_API_URL"].replace("8765", f"{server.port}")
        assert environ["OMETRIA_API_URL"] == server.url
        report = sync(load_config(None, environ))

    assert {table.table for table in report.tables if table.inserted} >= {"profiles", "lists"}
    assert sum(table.files for table in report.tables) > 0
    assert (tmp_path / "simulated.duckdb").exists()


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_a_settings_block_is_taken(block: Block, tmp_path: Path) -> None:
    """Each block is a whole file, or one account's section of it."""
    (tmp_path / "secret").write_text("a-key-of-enough-characters\n")
    text = re.sub(r'"file:/[^/"][^"]*"', f'"file:{tmp_path}/secret"', block.text)
    if "[[accounts]]" not in text:
        text = f'[[accounts]]\napi_key = "env:A_KEY"\n\n{text}'
    names = re.findall(r'"env:(\w+)"', text)
    path = tmp_path / "ometria.toml"
    path.write_text(text)

    environ = dict.fromkeys(names, "a-key-of-enough-characters")
    environ |= {name: "https://hooks.example.com/" for name in names if "WEBHOOK" in name}
    config = load_config(path, environ)

    assert config.accounts


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_a_json_block_is_json(block: Block) -> None:
    """It can be pasted."""
    assert json.loads(block.text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Links to other pages and pictures of this repository resolve."""
    inside = [link.partition("#")[0] for link in links(page) if "://" not in link]

    assert [link for link in inside if link and not (page.parent / link).exists()] == []


def test_every_page_can_be_reached_from_the_first() -> None:
    """Links lead from the first page to every other."""
    first = DOCS / "index.md"
    reached, waiting = {first}, [first]
    while waiting:
        page = waiting.pop()
        for link in links(page):
            target = (page.parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target.exists() and target not in reached:
                reached.add(target)
                waiting.append(target)

    assert [page for page in DOCS.rglob("*.md") if page not in reached] == []
