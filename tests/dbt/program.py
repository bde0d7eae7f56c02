"""dbt as a program, in the environment that `make test-all` makes for it."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from tests.duck import connected, opened, read
from tests.places import DuckDBPlace, PostgresPlace
from tests.postgres import postgres

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.duck import Row
    from tests.places import Place

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "dbt"
DBT = ROOT / ".venv-dbt" / "bin" / "dbt"
SCHEMA = "models"

needs_dbt = pytest.mark.skipif(
    not DBT.exists(), reason=".venv-dbt is not there: run `make .venv-dbt/.ready`"
)


@dataclass(frozen=True)
class Project:
    """A dbt project in *folder*, for the warehouse *place*; all that dbt writes is in *work*."""

    folder: Path
    place: Place
    work: Path

    def run(self, *arguments: str, code: int = 0, **variables: Any) -> str:
        """Run dbt to its end, which must have the exit code *code*; return what it printed."""
        (self.work / "profiles.yml").write_text(json.dumps({"ometria": self._profile()}))
        given = ["--vars", json.dumps(variables)] if variables else []
        ended = subprocess.run(
            [str(DBT), "--no-use-colors", *arguments, *given],
            cwd=self.folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == code, f"{ended.stdout[-6000:]}\n{ended.stderr[-2000:]}"
        return ended.stdout

    def results(self) -> dict[str, Any]:
        """Give the result of each model and test of the last run, by its id."""
        text = (self.work / "target" / "run_results.json").read_text(encoding="utf-8")
        return {each["unique_id"]: each for each in json.loads(text)["results"]}

    def table(self, name: str) -> list[Row]:
        """Read a model."""
        if isinstance(self.place, DuckDBPlace):
            with opened(self.place.path) as connection:
                return read(connection, f"{SCHEMA}.{name}", order="ALL")
        with connected() as connection, postgres().connected(self._database) as cursor:
            cursor.execute(f"SELECT * FROM {SCHEMA}.{name}")
            connection.register("found", cursor.fetch_arrow_table())
            connection.execute(
                "SET TimeZone = 'UTC'; CREATE OR REPLACE TEMP TABLE rows AS FROM found"
            )
            return read(connection, "rows", order="ALL")

    def query(self, statement: str) -> list[Any]:
        """Run a statement that names the models without their schema."""
        if isinstance(self.place, DuckDBPlace):
            with duckdb.connect(str(self.place.path), read_only=True) as connection:
                return connection.execute(f"USE {SCHEMA}; {statement}").fetchall()
        with postgres().connected(self._database) as cursor:
            cursor.execute(f"SET search_path TO {SCHEMA}")
            cursor.execute(statement)
            found: list[Any] = cursor.fetchall()
            return found

    def models(self) -> list[str]:
        """List the tables and views that dbt has made."""
        found = self.query(
            "SELECT CAST(table_name AS VARCHAR) FROM information_schema.tables"
            f" WHERE table_schema = '{SCHEMA}' ORDER BY 1"
        )
        return [str(name) for (name,) in found]

    @property
    def _database(self) -> str:
        assert isinstance(self.place, PostgresPlace)
        return self.place.database

    def _profile(self) -> Mapping[str, Any]:
        target: dict[str, Any] = {"schema": SCHEMA, "threads": 2}
        if isinstance(self.place, DuckDBPlace):
            target |= {"type": "duckdb", "path": str(self.place.path)}
        else:
            target |= {
                "type": "postgres", "host": str(postgres().folder), "user": "postgres",
                "password": "none", "port": 5432, "dbname": self._database,
            }  # fmt: skip
        return {"target": "test", "outputs": {"test": target}}

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
        return {
            **kept,
            "HOME": str(self.work),
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
            "DBT_PROFILES_DIR": str(self.work),
            "DBT_TARGET_PATH": str(self.work / "target"),
            "DBT_LOG_PATH": str(self.work / "logs"),
            "DBT_SHOW_ALL_DEPRECATIONS": "true",
        }
