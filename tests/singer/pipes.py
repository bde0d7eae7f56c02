"""Run the tap and a target as processes, and look at the messages between them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ometria_replica.catalog import CATALOG

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ometria_simulator import Feed, Server
    from tests.duck import Row
    from tests.postgres import Postgres

BIN = Path(sys.executable).parent
FIVE = tuple(table.name for table in CATALOG)


def config_of(server: Server | None, feed: Feed | None, **more: Any) -> dict[str, Any]:
    """Return the config of a tap that reads the account of tests.replicas.account()."""
    api = {"api_key": server.key, "api_url": server.url} if server else {}
    files = {"feed_url": str(feed.target), "feed": {"settle_seconds": 0}} if feed else {}
    ids = {"account_id": "1042", "source_id": "uk", "requests_per_second": 1000}
    return {**ids, **api, **files, **more}


@dataclass(frozen=True)
class Ended:
    """A tap that ended: its exit code, its messages and what it logged."""

    code: int
    messages: Sequence[dict[str, Any]]
    err: str

    def records(self, stream: str) -> list[Row]:
        """Return the records of a stream, in order."""
        return [each["record"] for each in self.messages if of(each, "RECORD", stream)]

    def schema(self, stream: str) -> dict[str, Any]:
        """Return the one schema of a stream."""
        (found,) = (each["schema"] for each in self.messages if of(each, "SCHEMA", stream))
        return dict(found)

    @property
    def state(self) -> dict[str, Any]:
        """The last state."""
        return dict([each["value"] for each in self.messages if of(each, "STATE")][-1])

    def bookmark(self, stream: str) -> dict[str, Any]:
        """Return the last state of a stream."""
        return dict(self.state["bookmarks"][stream])


def of(message: Mapping[str, Any], kind: str, stream: str | None = None) -> bool:
    """Whether a message is of a kind, and of a stream if it is named."""
    return message["type"] == kind and stream in {None, message.get("stream")}


def written(folder: Path, name: str, content: Any) -> str:
    """Write a JSON file, and return its path."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


def tap_command(folder: Path, config: Any, state: Any = None, catalog: Any = None) -> list[str]:
    """Return the command of the tap, with its files written to *folder*."""
    command = [str(BIN / "tap-ometria"), "--config", written(folder, "config", config)]
    for name, content in (("state", state), ("catalog", catalog)):
        if content is not None:
            command += [f"--{name}", written(folder, name, content)]
    return command


def tap(folder: Path, config: Any, state: Any = None, catalog: Any = None, **env: str) -> Ended:
    """Run the tap to its end."""
    command = tap_command(folder, config, state, catalog)
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **env}
    )
    messages = [json.loads(line) for line in ended.stdout.splitlines()]
    return Ended(ended.returncode, messages, ended.stderr)


def discovered(**selected: bool) -> dict[str, Any]:
    """Return the catalog that the tap discovers, with streams switched on or off."""
    catalog: dict[str, Any] = json.loads(_discovered())
    for stream in catalog["streams"]:
        root = next(each["metadata"] for each in stream["metadata"] if not each["breadcrumb"])
        root["selected"] = selected.get(stream["stream"], root["selected"])
    return catalog


@cache
def _discovered() -> str:
    command = [str(BIN / "tap-ometria"), "--discover"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def pipe(
    folder: Path, config: Any, target: Any, state: Any = None, catalog: Any = None
) -> dict[str, Any]:
    """
    Pipe the tap into target-postgres; return the last state that the target has stored.

    Both must end without an error.
    """
    into = [str(BIN / "target-postgres"), "--config", written(folder, "target", target)]
    command = tap_command(folder, config, state, catalog)
    with (
        (folder / "tap.log").open("w+", encoding="utf-8") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as one,
    ):
        other = subprocess.run(into, stdin=one.stdout, capture_output=True, text=True, check=False)
    assert one.returncode == 0, (folder / "tap.log").read_text(encoding="utf-8")
    assert other.returncode == 0, other.stderr
    return dict(json.loads(other.stdout.splitlines()[-1]))


def target_of(server: Postgres, database: str, **more: Any) -> dict[str, Any]:
    """Return the config of a target that loads the schema ``ometria`` of a database."""
    url = f"postgresql+psycopg://postgres@/{database}?host={server.folder}"
    return {"sqlalchemy_url": url, "default_target_schema": "ometria", **more}


def loaded(server: Postgres, database: str, tables: Iterable[str]) -> dict[str, list[Row]]:
    """Read what the target has loaded, ordered by key, in our columns."""
    found = {}
    for name in tables:
        table = CATALOG.every.table(name)
        columns = [column.name for column in table.all_columns]
        listed = ", ".join(f'"{each}"' for each in columns)
        query = f'SELECT {listed} FROM ometria."{name}" ORDER BY "__sync_key" COLLATE "C"'
        rows = server.rows(query, database=database)
        decimals = {each.name for each in table.all_columns if each.type == "decimal"}
        found[name] = [
            {
                # The driver gives them as texts.
                column: Decimal(value) if column in decimals and value is not None else value
                for column, value in zip(columns, row, strict=True)
            }
            for row in rows
        ]
    return found
