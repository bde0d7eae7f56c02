"""Adjustments without a setting in dlt: no dlt tables in our schema, one transaction per merge."""

from __future__ import annotations

import re
from typing import Any

from dlt.common.destination.reference import DestinationReference
from dlt.destinations.job_client_impl import SqlLoadJob
from typing_extensions import override

from ometria_replica.failpoints import step
from ometria_replica.schema import STATE_SCHEMA

STAGING_PREFIX = "ometria_staging_"


def patched(factory: Any) -> Any:
    """Derive a destination of dlt that keeps its notes out of our data and merges at once."""

    class Patched(factory):  # type: ignore[misc]
        __orig_base__ = factory

        @property
        def destination_type(self) -> str:
            return DestinationReference.normalize_type(
                f"{factory.__module__}.{factory.__qualname__}"
            )

        @property
        def client_class(self) -> Any:
            return _patched_client(super().client_class)

    return Patched


def _patched_client(client_class: Any) -> Any:
    class PatchedClient(client_class):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            _keep_notes_apart(self.sql_client)

        def create_load_job(self, table: Any, file_path: str, *rest: Any, **options: Any) -> Any:
            if SqlLoadJob.is_sql_job(file_path):
                return OneTransaction(file_path)
            return super().create_load_job(table, file_path, *rest, **options)

    return PatchedClient


def _keep_notes_apart(sql_client: Any) -> None:
    """Put dlt's own tables into the schema of our state: a schema with data has none of them."""
    path = sql_client.make_qualified_table_name_path

    def routed(table_name: str | None, *arguments: Any, **options: Any) -> Any:
        is_note = (table_name or "").lower().startswith("_dlt_")
        if is_note and not sql_client.dataset_name.lower().startswith(STAGING_PREFIX):
            options["dataset_name"] = STATE_SCHEMA
        return path(table_name, *arguments, **options)

    sql_client.make_qualified_table_name_path = routed


class OneTransaction(SqlLoadJob):
    """
    The statements of a merge, in one transaction.

    dlt takes any statement in which CREATE occurs for one that defines tables, as it does in
    ``created_at``, and some warehouses cannot define tables in transactions.
    """

    @override
    def run(self) -> None:
        with step("dlt merge"):
            super().run()

    @override
    def _string_contains_ddl_statements(self, sql: str) -> bool:
        return any(re.match(r"(?i)\s*(CREATE|ALTER|DROP)\b", line) for line in sql.split("\n"))
