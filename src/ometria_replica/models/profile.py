"""
The profile with which dbt connects to the configured warehouse.

It holds no secret: PostgreSQL is connected to by its URL, which is kept in memory.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ometria_replica.local_duckdb import config_of
from ometria_replica.schema import MARTS_SCHEMA

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_replica.config import Limits
    from ometria_replica.models.place import Place

NAME = "ometria"
"""What the package calls its profile."""

_TARGET = "warehouse"
_PLUGIN = "ometria_replica.models.lake_tables"
_POSTGRES_THREADS = 4
_OF_THE_URL = "of warehouse.url"


def write_profile(
    place: Place, folder: Path, limits: Limits, threads: int | None, database: str | None
) -> None:
    """
    Write the profile of *place* into *folder*, as JSON, which is YAML too.

    DuckDB spills into *folder*. *database* is the name of a PostgreSQL database.
    """
    if place.kind == "duckdb":
        output = _duckdb(place, folder, limits, threads)
    else:
        output = _postgres(threads, database or "")
    text = json.dumps({NAME: {"target": _TARGET, "outputs": {_TARGET: output}}}, indent=2)
    (folder / "profiles.yml").write_text(text, encoding="utf-8")


def _duckdb(place: Place, folder: Path, limits: Limits, threads: int | None) -> dict[str, Any]:
    options = config_of(limits, folder / "spill")
    return {
        "type": "duckdb",
        "schema": MARTS_SCHEMA,
        "path": _plain(place.file or ""),
        # One model after the other: each uses all threads of DuckDB, and the memory is one.
        "threads": threads or 1,
        "config_options": {name: _plain(value) for name, value in options.items()},
        "settings": {"TimeZone": "UTC"},
        **({"plugins": [{"module": _PLUGIN}]} if place.lake else {}),
    }


def _postgres(threads: int | None, database: str) -> dict[str, Any]:
    """Name the database, by which dbt names relations. All else is in the URL."""
    unused = ("host", "user", "password")
    return {
        "type": "postgres",
        "schema": MARTS_SCHEMA,
        "dbname": _plain(database),
        "port": 5432,
        **dict.fromkeys(unused, _OF_THE_URL),
        "threads": threads or _POSTGRES_THREADS,
    }


def _plain(text: str) -> str:
    """Keep dbt from reading a text as a template."""
    return text.replace("{", "{{ '{' }}")
