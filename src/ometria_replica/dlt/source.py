"""The source: five resources with the columns, keys and hints of their tables."""

from __future__ import annotations

import logging
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import dlt
from dlt.common.configuration.container import Container
from dlt.common.pipeline import PipelineContext
from dlt.destinations.impl.bigquery.bigquery_adapter import (
    PARTITION_HINT,
    TABLE_DESCRIPTION_HINT,
)

from ometria_replica import privacy, retention
from ometria_replica.catalog import CATALOG
from ometria_replica.comments import comments
from ometria_replica.dlt.config import ORIGIN, SECTION
from ometria_replica.dlt.destination import refuse_unless_it_fits
from ometria_replica.errors import ConfigError
from ometria_replica.extraction.config import settings_from
from ometria_replica.extraction.reading import NEVER_NULL, read
from ometria_replica.extraction.state import state_of
from ometria_replica.mapping import REJECT_COLUMNS
from ometria_replica.nearest import did_you_mean
from ometria_replica.ometria.account_source import setting_missing
from ometria_replica.schema import ROW_KEY
from ometria_replica.text import names_of
from ometria_replica.ways_to_read import Inside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dlt.common.schema.typing import TColumnSchema, TTableSchemaColumns
    from dlt.extract import DltResource, DltSource

    from ometria_replica.config import AccountSettings, Config, Limits
    from ometria_replica.schema import ColumnType, Table

logger = logging.getLogger(__name__)

NAME = "ometria"
REJECTS = "rejects"

_TYPES: dict[ColumnType, TColumnSchema] = {
    "text": {"data_type": "text"},
    "boolean": {"data_type": "bool"},
    "date": {"data_type": "date"},
    "timestamptz": {"data_type": "timestamp", "timezone": True},
    "integer": {"data_type": "bigint"},
    "decimal": {"data_type": "decimal", "precision": 38, "scale": 9},
}

# dlt's own naming convention would load __sync_key as sync_key. This one is part of the schema
# and applies to every destination, unless the destination or the configuration names another.
_SCHEMA = dlt.Schema(
    NAME,
    normalizers={
        "names": "ometria_replica.naming",
        "json": {"module": "dlt.common.normalizers.json.relational"},
    },
)


@dlt.source(section=NAME, schema=_SCHEMA)
def ometria(
    *,
    api_key: str | None = dlt.secrets.value,
    account_id: str | None = None,
    source_id: str | None = None,
    feed_url: str | None = None,
    feed: dict[str, Any] | None = dlt.secrets.value,
    api_url: str | None = None,
    requests_per_second: float | None = None,
    max_answer_bytes: int | None = None,
    changes_parameter: str | None = None,
    wide_keys: bool | None = None,
    memory_limit: str | None = None,
    threads: int | None = None,
    temp_directory: str | None = None,
    tables: list[str] | None = None,
    rejects: bool = True,
) -> list[DltResource]:
    """
    Read one Ometria account: its API with *api_key*, its export at *feed_url*, or both.

    Arguments that are not given come from dlt's configuration, section ``sources.ometria``.
    They have the meaning of the settings in ``ometria.toml``; *feed* holds those of
    ``[accounts.feed]`` except the url. *tables* selects some of the tables, further ones too; None
    selects those of the five that these settings can read. With *rejects*, rejected values,
    records and files go into a table of that name.

    Raises ConfigError with all problems at once, before it contacts Ometria or the bucket.
    """
    account, limits = settings_from(
        {
            "api_key": api_key,
            "account_id": account_id,
            "source_id": source_id,
            "feed": {**(feed or {}), "url": feed_url or (feed or {}).get("url")}
            if feed or feed_url
            else None,
            "api_url": api_url,
            "requests_per_second": requests_per_second,
            "max_answer_bytes": max_answer_bytes,
            "changes_parameter": changes_parameter,
            "wide_keys": wide_keys,
        },
        {"memory_limit": memory_limit, "threads": threads, "temp_directory": temp_directory},
        ORIGIN,
    )
    return _resources(account, limits, tables, rejects=rejects)


def ometria_accounts(
    config: Config, tables: list[str] | None = None, *, rejects: bool = True
) -> list[DltSource]:
    """Return a source for each account of ``ometria.toml``; run them as one list."""
    limits = config.warehouse.limits
    return [_ometria_account(account, limits, tables, rejects) for account in config.accounts]


@dlt.source(section=NAME, schema=_SCHEMA)
def _ometria_account(account: Any, limits: Any, tables: Any, rejects: Any) -> list[DltResource]:
    return _resources(account, limits, tables, rejects=rejects)


def _resources(
    account: AccountSettings, limits: Limits, names: list[str] | None, *, rejects: bool
) -> list[DltResource]:
    tables = _chosen(account, names_of(names or ()))
    return [_resource(account, limits, table, rejects=rejects) for table in tables]


def _chosen(account: AccountSettings, names: tuple[str, ...]) -> list[Table]:
    """Return the tables called *names*; without names, all that the account's settings can read."""
    every = CATALOG.every
    on = every if names else CATALOG.of([account])
    # dlt's merge replaces rows by key, so what an array no longer has would stay.
    nested = {table.name for table in on if isinstance(table.read, Inside)}
    readable = {
        table.name: table
        for table in on
        if setting_missing(account, table) is None and table.name not in nested
    }
    known = every.names
    problems = [
        f"{SECTION}.tables: there is no table '{name}'"
        + (did_you_mean(name, known) or f"; the tables are {', '.join(known)}.")
        if name not in known
        else f"{SECTION}.tables: {name} is an array inside other records, of which dlt cannot"
        " remove what is gone. Replicate it with `ometria-replica sync`."
        if name in nested
        else f"{SECTION}.tables: {name} needs an API key or a feed that is not set."
        for name in names
        if name not in readable
    ]
    if nested and not names:
        logger.warning("tables that are inside others are left out: %s", ", ".join(sorted(nested)))
    problems += [f"{SECTION}: {each}" for each in retention.problems(every, account)]
    problems += [f"{SECTION}: {problem}" for problem in privacy.problems(every, account)]
    if problems:
        raise ConfigError(problems)
    return [table for name, table in readable.items() if not names or name in names]


def _resource(
    account: AccountSettings, limits: Limits, table: Table, *, rejects: bool
) -> DltResource:
    def rows() -> Iterator[Any]:
        _warn_of_csv()
        refuse_unless_it_fits(table)
        state = state_of(dlt.current.resource_state(), account)
        for batch in read(account, table, state, limits=limits):
            if not batch.rejected:
                yield batch.data
            elif rejects:
                yield dlt.mark.with_table_name(batch.data, REJECTS)

    resource: DltResource = dlt.resource(rows, name=table.name)
    # This call comes first: the hints of a table start as a copy of those of the resource.
    resource.apply_hints(create_table_variant=True, **_rejects_hints())
    resource.apply_hints(
        primary_key=ROW_KEY,
        write_disposition="merge",
        columns=_columns(table),
        file_format="parquet",
        additional_table_hints={**_partition(table), **_description(table)},
    )
    return resource


@cache
def _warn_of_csv() -> None:
    """Warn once that dlt loads PostgreSQL by CSV if the driver for Parquet is missing."""
    pipelines = Container()[PipelineContext]
    destination = pipelines.pipeline().destination if pipelines.is_active() else None
    if destination is None or not destination.destination_type.endswith(".postgres"):
        return
    if find_spec("adbc_driver_postgresql") is None:
        logger.warning(
            "dlt loads PostgreSQL by CSV files, in which an empty text becomes null, because the"
            " package adbc-driver-postgresql is missing. Install 'ometria-replica[dlt,postgres]'."
        )


def _columns(table: Table) -> TTableSchemaColumns:
    about = comments(table)
    return {
        column.name: {
            "name": column.name,
            "nullable": column.name not in NEVER_NULL,
            **({"description": about[column.name]} if column.name in about else {}),
            **_TYPES[column.type],
        }
        for column in table.all_columns
    }


def _partition(table: Table) -> dict[str, Any]:
    """Partition events by month in BigQuery, whose limit a long history by day would exceed."""
    if table.time is None:
        return {}
    return {PARTITION_HINT: {table.time: "TIMESTAMP_TRUNC({column_name}, MONTH)"}}


def _description(table: Table) -> dict[str, Any]:
    return {"description": table.about, TABLE_DESCRIPTION_HINT: table.about} if table.about else {}


def _rejects_hints() -> dict[str, Any]:
    types = {"position": "bigint", "rejected_at": "timestamp"}
    return {
        "table_name": REJECTS,
        "primary_key": "reject_id",
        "write_disposition": "merge",
        "columns": {
            name: {"name": name, "data_type": types.get(name, "text")}
            for name in (*REJECT_COLUMNS, "rejected_at")
        },
    }
