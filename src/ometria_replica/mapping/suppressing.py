"""Records of people who were erased: they do not get past the staging."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ometria_replica.mapping.quoting import quoted
from ometria_replica.mapping.select import REJECTED, STAGED
from ometria_replica.mapping.treatments import person_columns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from duckdb import DuckDBPyConnection

    from ometria_replica.schema import Table
    from ometria_replica.suppressions import Suppressions

_SUPPRESSED = "suppressed_people"
_WORD = r"""[^\s,;|"''<>=\[\]{}()]+"""  # May be an id; within a literal of SQL.


def drop_suppressed(
    connection: DuckDBPyConnection, table: Table, suppressions: Suppressions
) -> int:
    """Drop the staged records of suppressed people, and lines that name one; return how many."""
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {_SUPPRESSED} AS SELECT unnest($hashes::VARCHAR[]) AS hash",
        {"hashes": sorted(suppressions.hashes)},
    )
    is_theirs = " OR ".join(
        f"{quoted(name)} IN (SELECT hash FROM {_SUPPRESSED})" for name in person_columns(table)
    )
    records = _deleted(connection, f"DELETE FROM {STAGED} WHERE {is_theirs}") if is_theirs else 0
    hashes = ", ".join(suppressions.sql(person, "word") for person in set(table.people.values()))
    if not hashes:
        return records
    return records + _deleted(
        connection,
        f"DELETE FROM {REJECTED} WHERE rowid IN (SELECT place FROM (SELECT place,"
        f" unnest([{hashes}]) AS hash FROM (SELECT rowid AS place,"
        f" unnest(regexp_extract_all(raw, '{_WORD}')) AS word FROM {REJECTED}))"
        f" WHERE hash IN (SELECT hash FROM {_SUPPRESSED}))",
        suppressions.parameters,
    )


def _deleted(
    connection: DuckDBPyConnection, statement: str, parameters: Mapping[str, bytes] | None = None
) -> int:
    ((number,),) = connection.execute(statement, dict(parameters or {})).fetchall()
    return int(number)
