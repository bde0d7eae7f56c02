"""The settings of the warehouse, and of each DuckDB that the program opens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ometria_replica.config.checks import check_memory, check_one_of, check_text, check_threads
from ometria_replica.config.limits import Limits
from ometria_replica.config.secrets import masked
from ometria_replica.config.setting import setting
from ometria_replica.config.urls import check_warehouse_url

STORAGE_VERSION: Final = "v1.4.0"
"""The storage version of a new DuckDB file: DuckDB of that version, and newer, can open it."""

STORAGE_VERSIONS: Final = (STORAGE_VERSION, "v1.5.0", "v2.0.0", "latest")


@dataclass(frozen=True)
class WarehouseSettings:
    """The warehouse. The URL may hold a password, so the repr masks it."""

    url: str = setting(
        check_warehouse_url,
        "URL or path",
        "The warehouse: `duckdb:///relative.duckdb`, `duckdb:////absolute.duckdb`,"
        " a path ending in `.duckdb` or `.db`, `postgresql://user@host/database`,"
        " or another of [the warehouses](warehouses.md).",
        "duckdb:///warehouse.duckdb",
        env="OMETRIA_WAREHOUSE_URL",
        reference="allowed",
    )
    duckdb_storage_version: str = setting(
        check_one_of(*STORAGE_VERSIONS),
        ", ".join(f"`{version}`" for version in STORAGE_VERSIONS),
        "The storage version of a new DuckDB file: DuckDB of that version, and newer, can open it."
        " An existing file keeps its own.",
        STORAGE_VERSION,
    )
    memory_limit: str | None = setting(
        check_memory,
        "size",
        "The memory of each DuckDB that the program opens, such as `512MB` or `4GB`; at least"
        " `100MB`. Beyond it, DuckDB writes to the temporary directory.",
        None,
        env="OMETRIA_MEMORY_LIMIT",
        unset="550 MB, or in a small container 55 % of its memory",
        example='"2GB"',
    )
    threads: int | None = setting(
        check_threads,
        "whole number",
        "The threads of each DuckDB that the program opens. Each takes memory of its own.",
        None,
        env="OMETRIA_THREADS",
        unset="one for each core, at most 4",
    )
    temp_directory: str | None = setting(
        check_text,
        "path",
        "The folder for temporary files: export files that are being read, and rows for which"
        " there is no room in memory. It is created if it does not exist.",
        None,
        env="OMETRIA_TEMP_DIRECTORY",
        unset="`TMPDIR`, or the system's own",
        example='"/var/tmp"',
    )

    @property
    def limits(self) -> Limits:
        """The limits of each DuckDB that the program opens."""
        return Limits(self.memory_limit, self.threads, self.temp_directory)

    def __repr__(self) -> str:
        return f"WarehouseSettings(url={masked(self.url)!r})"
