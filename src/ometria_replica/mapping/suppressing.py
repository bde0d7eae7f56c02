"""Records of people who were erased: they do not get past the staging."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ometria_replica.mapping.quoted_addresses import (
    MASKED,
    addresses_sql,
    mask_addresses,
    may_quote,
)
from ometria_replica.mapping.quoting import quoted
from ometria_replica.mapping.treatments import person_columns
from ometria_replica.suppressions import JoinedId

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ometria_replica.mapping.staged_tables import StagedTables
    from ometria_replica.suppressions import Suppressions

_SUPPRESSED, _QUOTING = "suppressed_people", "quoting_texts"
_WORD = r"""[^\s,;|"''<>=\[\]{}()]+"""  # May be an id; within a literal of SQL.
_PART = r"""[^\s,;|"''<>=\[\]{}()&?/:\\]+"""  # An id in an address of the web, as in a log.


def words_sql(text: str) -> str:
    """Write the list of the words in *text*, an expression, each of which may be an id."""
    decoded = f"regexp_replace({text}, '%40', '@', 'g')"
    words = (f"regexp_extract_all({decoded}, '{each}')" for each in (_WORD, _PART))
    return " || ".join([*words, addresses_sql(text)])


def drop_suppressed(
    tables: StagedTables, suppressions: Suppressions
) -> tuple[int, tuple[JoinedId, ...]]:
    """
    Drop the staged records of suppressed people, and lines that name one; return how many.

    Also returns the other ids in these records, hashed with the first secret.
    """
    connection, table = tables.connection, tables.table
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {_SUPPRESSED} AS SELECT unnest($joining::VARCHAR[]) AS hash",
        {"joining": sorted(suppressions.hashes - suppressions.alone)},
    )
    joined = tuple(_joined(tables, len(suppressions.secrets)))
    connection.execute(
        f"INSERT INTO {_SUPPRESSED} SELECT unnest($alone::VARCHAR[])",
        {"alone": sorted(suppressions.alone)},
    )
    is_theirs = " OR ".join(_is_suppressed(name) for name in person_columns(table))
    records = tables.scalar(f"DELETE FROM {tables.staged} WHERE {is_theirs}") if is_theirs else 0
    for column in table.columns:
        if column.holds_record:
            records += _drop_naming(tables, suppressions, tables.staged, quoted(column.name))
    return records + drop_rejects(tables, suppressions), joined


def _joined(tables: StagedTables, secrets: int) -> Iterator[JoinedId]:
    """Find the ids that stand beside suppressed ones, and suppress them, until there is none."""
    connection, table = tables.connection, tables.table
    columns = person_columns(table)
    if len(set(columns.values())) < 2:
        return
    known = ", ".join(
        f"CASE WHEN {_is_suppressed(name)} THEN {quoted(name)} END" for name in columns
    )
    of_field: dict[str, list[str]] = {}
    for name, field in columns.items():
        of_field.setdefault(field, []).append(name)
    beside = ", ".join(
        f"{{hash: CASE WHEN NOT coalesce({' OR '.join(map(_is_suppressed, names))}, false)"
        f" THEN {quoted(name)} END, kind: '{table.people[field]}'}}"
        for field, names in of_field.items()
        for name in names[::secrets]
    )
    while found := connection.execute(
        f"SELECT min(known), beside.hash, min(beside.kind) FROM (SELECT coalesce({known}) AS known,"
        f" unnest([{beside}]) AS beside FROM {tables.staged}) WHERE known IS NOT NULL"
        " AND beside.hash IS NOT NULL GROUP BY ALL ORDER BY ALL"
    ).fetchall():
        yield from (JoinedId(*each) for each in found)
        connection.execute(
            f"INSERT INTO {_SUPPRESSED} SELECT unnest($hashes::VARCHAR[])",
            {"hashes": [each for _, each, _ in found]},
        )


def _is_suppressed(name: str) -> str:
    return f"{quoted(name)} IN (SELECT hash FROM {_SUPPRESSED})"


def drop_rejects(tables: StagedTables, suppressions: Suppressions) -> int:
    """
    Drop the rejects of the batch that name a suppressed person; return how many.

    After :func:`drop_suppressed`, and again when more was rejected: the row of another person
    can have such a value, as where the cells of a line are shifted.
    """
    return _drop_naming(tables, suppressions, tables.rejected, "raw")


def _drop_naming(tables: StagedTables, suppressions: Suppressions, relation: str, text: str) -> int:
    """Drop the rows of *relation* whose *text* names a suppressed person; return how many."""
    kinds = tables.table.kinds_named
    hashes = ", ".join(each for kind in kinds for each in suppressions.sql(kind, "word"))
    if not hashes:
        return 0
    return tables.scalar(
        f"DELETE FROM {relation} WHERE rowid IN (SELECT place FROM (SELECT place,"
        f" unnest([{hashes}]) AS hash FROM (SELECT rowid AS place,"
        f" unnest({words_sql(text)}) AS word FROM {relation}))"
        f" WHERE hash IN (SELECT hash FROM {_SUPPRESSED}))",
        suppressions.parameters,
    )


def mask_suppressed(tables: StagedTables, suppressions: Suppressions) -> None:
    """
    Mask the addresses of suppressed people that the staged rows of others quote.

    After :func:`drop_suppressed`. Where the table hides all addresses, none is left.
    """
    connection, table = tables.connection, tables.table
    for column in () if table.hides_addresses else table.columns:
        if not column.quotes or column.treatment:
            continue
        name = quoted(column.name)
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {_QUOTING} AS SELECT DISTINCT {name} AS text"
            f" FROM {tables.staged} WHERE {may_quote(name)}"
        )
        found = connection.execute(
            f"SELECT DISTINCT word FROM (SELECT word, unnest([{_hashes('word', suppressions)}])"
            f" AS hash FROM (SELECT DISTINCT unnest({addresses_sql('text')}) AS word"
            f" FROM {_QUOTING})) WHERE {_is_suppressed('hash')}",
            suppressions.parameters,
        )
        addresses = [word for (word,) in found.fetchall()]
        if addresses and mask_addresses(connection, _QUOTING, addresses):
            connection.execute(
                f"UPDATE {tables.staged} SET {name} = masked FROM {MASKED} WHERE {name} = text"
            )
        connection.execute(f"DROP TABLE {_QUOTING}")


def _hashes(address: str, suppressions: Suppressions) -> str:
    return ", ".join(suppressions.sql("address", address))
