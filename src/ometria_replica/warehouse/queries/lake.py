"""Queries of a lake: DuckDB reads the tables that a query names."""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from ometria_replica import sql
from ometria_replica.errors import WarehouseError
from ometria_replica.local_duckdb import open_staging
from ometria_replica.schema import DATA_SCHEMA, HISTORY_SCHEMA, RAW_SCHEMA, STATE_SCHEMA
from ometria_replica.warehouse.queries.duckdb import ask, checked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ometria_replica.config import Limits
    from ometria_replica.warehouse.queries.answer import Answer
    from ometria_replica.warehouse.remotes.lake import LakeRemote

_SCHEMAS = (DATA_SCHEMA, STATE_SCHEMA, HISTORY_SCHEMA, RAW_SCHEMA)
_NAMED = re.compile(rf'\b({"|".join(_SCHEMAS)})"?\s*\.\s*"?(\w+)', re.IGNORECASE | re.ASCII)

_OF_A_STREAM = ("reading the stream registered as", "get_next failed")
"""In DuckDB's messages, of an error of what it reads and not of the SQL."""


@contextmanager
def ask_lake(module: Any, url: str, text: str, limits: Limits) -> Iterator[Answer]:
    """
    Run the query *text* on the tables of the lake that *module* opens at *url*.

    Raises as :func:`ask`, and WarehouseError if the files of a table cannot be read.
    """
    with ExitStack() as closing:
        connection = open_staging(closing, limits)
        text = checked(connection, text)
        remote: LakeRemote = module.open_remote(url, connection)
        named = {(schema.lower(), name.lower()) for schema, name in _NAMED.findall(text)}
        for schema, name in sorted(named):
            if (rows := remote.scan(schema, name)) is not None:
                connection.register(f"{schema}.{name}", rows)
                connection.execute(f"CREATE SCHEMA IF NOT EXISTS {sql.quoted(schema)}")
                connection.execute(
                    f"CREATE VIEW {sql.quoted(schema)}.{sql.quoted(name)}"
                    f" AS FROM temp.main.{sql.quoted(f'{schema}.{name}')}"
                )

        def explained(error: Exception) -> WarehouseError | None:
            """Recognise an error of the lake: its text may quote a signature, so it is left out."""
            if not any(sign in str(error) for sign in _OF_A_STREAM):
                return None
            return WarehouseError(
                f"The files of {remote.place} could not be read to the end. Another session may"
                " have replaced them. Run the query again."
            )

        with ask(connection, text, explained) as answer:
            yield answer
