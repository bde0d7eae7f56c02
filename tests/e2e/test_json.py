"""What commands print with ``--json`` is as the JSON Schemas of the documentation say."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from jsonschema import Draft202012Validator
from scripts import reference
from scripts.schema_tables import schemas

from ometria_replica.json_documents import VERSIONS, schema_of
from ometria_replica.warehouse import open_warehouse
from ometria_simulator import Account, Feed, serve
from tests.e2e.program import api_env, invoke
from tests.schemas import faults, objects
from tests.warehouses.loads import a_lease

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

SCHEMAS = schemas()
WITHOUT_FEED: dict[str, str | None] = {"OMETRIA_FEED_URL": None}
ELSEWHERE = {"demo", "models build", "models docs", "models list"}
"""Commands that other tests run: they start a simulator, or dbt, which is not installed here."""

WRONG: dict[str, str | None] = {"OMETRIA_API_KEY": "another-key"}


@dataclass
class Story:
    """A warehouse through its life, and each document that commands printed, by command."""

    env: dict[str, str]
    printed: dict[str, list[Any]] = field(default_factory=dict)

    def tell(self, *arguments: str, name: str | None = None, **env: str | None) -> Result:
        """Run a command, and keep what it printed under *name*, that of the command by default."""
        environ = {key: value for key, value in (self.env | env).items() if value is not None}
        result = invoke(*arguments, "--json", env=environ)
        words = [word for word in arguments if not word.startswith("-")]
        group = 2 if words[0] in {"state", "rejects", "models"} else 1
        assert result.stdout, (arguments, result.exception)
        document = json.loads(result.stdout)
        self.printed.setdefault(name or " ".join(words[:group]), []).append(document)
        return result


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Run each command at least once: in a new warehouse, one with rows, and where it fails."""
    folder = tmp_path_factory.mktemp("story")
    shop = Account.create(profiles=12, lists=2, email_events=20)
    feed = Feed(shop, folder / "feed", redelivered=0, duplicate_share=0)
    feed.export_history(files_per_day=1 / 90)
    shop.update_profile(shop.profiles[0].id, date_of_birth="soon")
    bad = folder / "feed" / "bad.csv.gz"
    bad.write_bytes(b"\x1f\x8b\x08\x00 this is no gzip file at all" * 9)
    os.utime(bad, (0, 0))
    with serve(shop, requests_per_second=None) as server:
        story = Story(
            {
                **api_env(server, folder / "w.duckdb"),
                "OMETRIA_FEED_URL": str(folder / "feed"),
                "OMETRIA_KEEP_RECORDS": "true",
                "XDG_CACHE_HOME": str(folder / "cache"),
            }
        )
        _tell(story, folder, [each.email for each in shop.profiles if each.email])
    return story


def _tell(story: Story, folder: Path, people: list[str]) -> None:
    for command in (["status"], ["state", "show"], ["runs"], ["rejects", "list"], ["fields"]):
        story.tell(*command)
    story.tell("check")
    story.tell("check", **WRONG)
    story.tell("check", OMETRIA_REQUESTS_PER_SECOND="many")
    story.tell("init", "--yes", "--config", str(folder / "new.toml"))
    story.tell("plan")
    story.tell("sync", "--dry-run", **WITHOUT_FEED)
    story.tell("sync")
    refused = story.tell("sync", **WRONG)
    assert refused.exception
    assert story.printed["sync"][-1]["outcome"] == "failed"
    story.tell("backfill", "lists", "--since", "7d", "--until", "yesterday")
    with duckdb.connect(folder / "w.duckdb") as connection:
        connection.execute("DELETE FROM ometria.profiles WHERE email LIKE '%2%'")
        connection.execute("UPDATE ometria.lists SET list_description = 'x'")
        connection.execute("UPDATE ometria_replica.watermarks SET reached_at = '2100-01-01'")
    assert story.tell("verify", "--all").exception
    assert story.tell("verify", "--all", **WRONG, **WITHOUT_FEED).exception
    story.tell("rejects", "list")
    story.tell("rejects", "list", "--raw")
    story.tell("rejects", "replay")
    story.tell("rejects", "replay", **WRONG)
    story.tell("fields")
    ann, bob = (("--email", each) for each in people[:2])
    story.tell("erase", *ann, "--dry-run", name="erase --dry-run")
    story.tell("erase", *ann, "--export", str(folder / "held.json"), name="erase --export")
    story.tell("erase", *ann, "--yes", name="erase")
    story.tell("erase", *bob, "--blank", "--yes", name="erase")
    story.tell("erase", "--list", name="erase --list")
    story.tell("erase", *ann, "--allow", name="erase --allow")
    story.tell("state", "rewind", "lists", "profiles", "--since", "30d")
    story.tell("state", "rewind", "email_events")
    story.tell("runs")
    shutil.copy(folder / "w.duckdb", folder / "hashed.duckdb")
    hashing: dict[str, str | None] = {
        "OMETRIA_HASH": "*.email",
        "OMETRIA_HASH_KEY": "0123456789abcdef0123",
        "OMETRIA_KEEP_RECORDS": "false",
    }
    story.tell("rehash", "--warehouse", str(folder / "hashed.duckdb"), name="rehash", **hashing)
    with open_warehouse(story.env["OMETRIA_WAREHOUSE_URL"]) as warehouse:
        lease = a_lease("ometria-uk", until=datetime(2100, 1, 1, tzinfo=UTC))
        warehouse.leases.acquire(lease, datetime.now(UTC))
    story.tell("state", "show")
    story.tell("status")
    story.tell("plan", "backfill", "--since", "7d", "--offline", **WITHOUT_FEED)
    story.tell("plan", **WRONG)
    story.tell("status", OMETRIA_SOURCE_ID="another", **WITHOUT_FEED)
    story.tell("report", "--html", str(folder / "report.html"), **WITHOUT_FEED)
    story.tell("models", "export", str(folder / "package"))
    story.tell("tables", "--all")
    story.tell("tables", "ometria_raw.lists")
    story.tell("config")
    story.tell("maintain")
    story.tell("query", "SELECT 1 AS one, NULL AS none, DATE '2026-01-01' AS day")
    story.tell("query", "SELECT 1 WHERE false")


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_commands_print_is_as_its_schema_says(name: str, story: Story) -> None:
    """Each command that the schema names printed at least one such document; of demo, see below."""
    for command in sorted({*SCHEMAS[name]["x-commands"]} - ELSEWHERE):
        assert story.printed[command], command
        for document in story.printed[command]:
            assert faults(name, document) == [], command


@pytest.mark.slow
def test_the_report_of_a_demo_is_that_of_a_sync(tmp_path: Path) -> None:
    """The simulator starts for it, which takes seconds."""
    sizes = ("--profiles", "5", "--lists", "1", "--events", "5")
    result = invoke(
        "demo", *sizes, "--warehouse", f"duckdb:///{tmp_path}/d.duckdb", "--json", env={}
    )

    assert faults("sync", json.loads(result.stdout)) == []


def test_each_array_of_a_document_was_filled_at_least_once(story: Story) -> None:
    """
    Else nothing would have been checked of what is in it.

    A plan has nothing to warn of here, and a DuckDB file needs no maintenance: see test_maintain.
    """
    empty: dict[str, bool] = {}
    for name, schema in SCHEMAS.items():
        for command in schema["x-commands"]:
            for document in story.printed.get(command, ()):
                for field_, value in document.items() if isinstance(document, dict) else ():
                    if isinstance(value, list):
                        empty[f"{name}.{field_}"] = (
                            empty.get(f"{name}.{field_}", True) and not value
                        )

    assert [name for name, is_empty in empty.items() if is_empty] == [
        "maintain.tables",
        "plan.warnings",
        "status.maintenance_due",
    ]


HERE = [name for name, schema in SCHEMAS.items() if not {*schema["x-commands"]} <= ELSEWHERE]


@pytest.mark.parametrize("name", [name for name in HERE if name != "query"])
def test_a_schema_refuses_a_document_that_lacks_a_field_or_has_another(
    name: str, story: Story
) -> None:
    """So this test would notice a field that a command adds, renames or leaves out."""
    document = story.printed[SCHEMAS[name]["x-commands"][0]][-1]

    assert all(faults(name, {**document, key: object()}) for key in document)
    assert all(faults(name, {k: v for k, v in document.items() if k != key}) for key in document)
    assert faults(name, {**document, "another": 1})


def test_each_command_with_json_has_a_schema() -> None:
    """A new command needs a file in docs/reference/schemas, and a row in json_documents.py."""
    described = {command for schema in SCHEMAS.values() for command in schema["x-commands"]}
    commands = {
        name
        for name, command in reference.commands().items()
        if any("--json" in parameter.opts for parameter in command.params)
    }

    assert {name.partition(" --")[0] for name in described} == commands
    assert set(SCHEMAS) == {*VERSIONS, "query"}


def test_each_command_prints_json() -> None:
    """All but the groups, and that which prints a script."""
    without = {
        name
        for name, command in reference.commands().items()
        if not any("--json" in parameter.opts for parameter in command.params)
    }

    assert without == {"completion", "state", "rejects", "models"}


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one_and_names_itself_and_all_of_its_fields(name: str) -> None:
    """Its version is that of the program; each field has a meaning, and is always there."""
    schema = SCHEMAS[name]
    Draft202012Validator.check_schema(schema)

    assert schema["title"] == name
    if name != "query":
        assert schema["$id"] == f"urn:ometria-replica:{name}:{VERSIONS[name]}"
        assert schema["properties"]["schema"]["const"] == schema_of(name)
    for part in objects(schema):
        assert set(part["properties"]) - set(part["required"]) <= {"raw"}
        assert all(each["description"] for each in part["properties"].values())
