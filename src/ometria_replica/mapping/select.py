"""
The SELECT that maps records: written from a table's description, and nothing that runs it.

It turns a relation of texts, a column for each field, into keys and typed columns, and puts
beside them the texts that did not convert.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica.mapping.quoting import literal, quoted
from ometria_replica.mapping.treatments import (
    ANONYMISED,
    person_columns,
    treated_relation,
    without_addresses,
)
from ometria_replica.schema import Md5
from ometria_replica.ways_to_read import Inside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from ometria_replica.schema import Column, Table

STAGED = "staged"
"""The temporary table of a batch's rows."""

REJECTED = "rejected"
"""The temporary table of a batch's rejects."""

STAGED_RECORDS = "staged_records"
"""The temporary view of the records of a batch, with the columns of a table of records."""

RECORD = "_record_kept"
"""The staging column with the record as it came, of a table whose records are kept."""

PARENT_ROW = "_parent_row"
"""The staging column, of a table that is inside another, with the row of the parent's record."""

SQL_TYPES: Mapping[str, str] = {
    "text": "VARCHAR",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamptz": "TIMESTAMP WITH TIME ZONE",
    "integer": "BIGINT",
    "decimal": "DECIMAL(38,9)",
}


def staged_ddl(table: Table, name: str = STAGED) -> str:
    """Write the staging table *name*: the columns, then the texts that did not convert."""
    columns = [f"{quoted(column.name)} {SQL_TYPES[column.type]}" for column in table.all_columns]
    raw = [f"{quoted(raw_name(column))} VARCHAR" for column in converted_columns(table)]
    raw += [f"{quoted(stamped(column))} BOOLEAN" for column in table.columns if column.stamp]
    raw += [f"{quoted(name)} VARCHAR" for name in person_columns(table)]
    raw += [f"{ANONYMISED} BOOLEAN"] if table.address else []
    raw += [f"{PARENT_ROW} BIGINT"] if isinstance(table.read, Inside) else []
    raw += [f"{RECORD} VARCHAR"] if table.keeps_records else []
    return (
        f"CREATE OR REPLACE TEMP TABLE {name}"
        f" ({', '.join([*columns, *raw, '_record VARCHAR', '_nuls UTINYINT'])})"
    )


def records_ddl() -> str:
    """Write the view of the records of the staged rows, which have the row ids of these."""
    return (
        f"CREATE OR REPLACE TEMP VIEW {STAGED_RECORDS} AS SELECT rowid, __source_id, __sync_key,"
        f" {RECORD} AS record, __synced_at FROM {STAGED}"
    )


def stamped(column: Column) -> str:
    """Name the staging column that says whether *column* has its stamp, for lack of a field."""
    return f"_stamped:{column.name}"


def mapping_sql(
    table: Table,
    relation: str,
    available: Iterable[str],
    *,
    account_id: str,
    source_id: str,
    synced_at: Sequence[datetime],
    record: str,
    kept: str = RECORD,
    nuls: bool = True,
) -> str:
    """
    Write the SELECT that maps *relation*, whose columns *available* are all text.

    A field that is not available is null. *synced_at* is one moment, or one for each file that
    the relation reads. *record* is an expression for the record as it came, evaluated only where
    the record has no identity; *kept* is one for what is kept of every record, if that is the
    table's. Without *nuls* no text is searched for NUL. The statement has the
    parameters of the table's pseudonyms.
    """
    raw = _Raw(frozenset(available))
    relation = treated_relation(table, relation, raw.available, several=len(synced_at) > 1)
    key = _key(table.sync_key, source_id, raw)
    lineage = {
        "_account_id": literal(account_id),
        "__source_id": literal(source_id),
        "__sync_key": key,
        "__synced_at": _of_each_file(synced_at),
    }
    columns = [
        f"{lineage.get(column.name) or _value(column, source_id, raw, nuls=nuls)}"
        f" AS {quoted(column.name)}"
        for column in table.all_columns
    ]
    failed = [
        f"CASE WHEN {raw(column.source)} <> '' AND {_value(column, source_id, raw)} IS NULL"
        f" THEN {_kept(table, raw(column.source))} END AS {quoted(raw_name(column))}"
        for column in converted_columns(table)
    ]
    failed += [
        f"{raw(column.source)} IS NULL AS {quoted(stamped(column))}"
        for column in table.columns
        if column.stamp
    ]
    failed += [
        quoted(name) if field in raw.available else "NULL::VARCHAR"
        for name, field in person_columns(table).items()
    ]
    if table.address:
        failed.append(ANONYMISED if table.address.source in raw.available else "false")
    if isinstance(table.read, Inside):
        failed.append(PARENT_ROW)
    if table.keeps_records:
        failed.append(f"{kept} AS {RECORD}")
    rest = [
        f"CASE WHEN {unidentified(table, raw)} THEN {record} END AS _record",
        f"{_nuls(table, raw) if nuls else 0} AS _nuls",
    ]
    select = ",\n  ".join([*columns, *failed, *rest])
    return f"SELECT\n  {select}\nFROM {relation}"


def _kept(table: Table, text: str) -> str:
    """Write what a reject keeps of *text*, which did not convert: maybe a cell that is shifted."""
    return without_addresses(text) if table.hides_addresses else text


def _of_each_file(moments: Sequence[datetime]) -> str:
    return f"{moments_sql(moments)}[{'file_index::BIGINT + 1' if len(moments) > 1 else 1}]"


def moments_sql(moments: Iterable[datetime]) -> str:
    """Write a list of moments."""
    literals = (f"TIMESTAMPTZ '{moment.isoformat()}'" for moment in moments)
    return f"[{', '.join(literals)}]"


def conversion(text: str, column: Column) -> str:
    """Write the expression that turns *text*, itself an expression, into the column's type."""
    return _CONVERSIONS[column.type].format(text=text)


@dataclass(frozen=True)
class _Raw:
    """Names a field of the relation, or null where it has none."""

    available: frozenset[str]

    def __call__(self, source: str | Md5) -> str:
        return quoted(str(source)) if source in self.available else "NULL::VARCHAR"


def _key(md5: Md5, source_id: str, raw: _Raw) -> str:
    texts = {"source_id": literal(source_id)}
    parts = [part if part[0] == "'" else texts.get(part) or raw(part) for part in md5.parts]
    return f"md5(concat({', '.join(parts)}))"  # concat reads null as the empty text.


def _value(column: Column, source_id: str, raw: _Raw, *, nuls: bool = True) -> str:
    if isinstance(column.source, Md5):
        return _key(column.source, source_id, raw)
    if column.treatment == "excluded":
        return f"NULL::{SQL_TYPES[column.type]}"
    if column.type == "text" and not column.stamp and not nuls:
        return raw(column.source)
    if column.stamp:
        return conversion(f"coalesce({raw(column.source)}, {raw(column.stamp)})", column)
    return conversion(raw(column.source), column)


# The conversions are frozen as the keys are: rows are found by their time, so another result
# for the same text needs one comparison with all rows. See docs/decisions.
# 'infinity', 'epoch', years before 1 and '05/01/26' convert in DuckDB, the last to the year 5,
# but mean no such moment. Hence the four digits and the bounds.
# Ten or thirteen digits are seconds or milliseconds since 1970: the export's form of time is
# undocumented, and no other reading of them is a year between 2001 and 2286.
# DuckDB knows zones by name, and reads BST as that of Bangladesh. So a name other than UTC and
# GMT does not convert. It does not read a space before an offset, nor a lower-case z.
_PLAIN_TIME = r"\s*\d{{4}}[-/][\d\s:./T+-]*(?:Z|UTC|GMT)?\s*"
_TIME = r"(?i)\s*\d{{4}}[-/][\d/-]+[T ][\d:.]+\s*(?:Z|UTC|GMT|[+-]\d{{2}}(?::?\d{{2}})?)\s*"
_WITHOUT_SPACE = r"regexp_replace(upper(trim({text})), '\s+([-+Z])', '\1')"
# A number is exact or is rejected: DuckDB rounds what has more decimals than the type. The decimals
# that it needs are those written, without zeros at the end, and as many more as its exponent says.
_PLAIN_NUMBER = r"\s*[+-]?\d{{1,29}}(?:\.\d{{1,9}})?\s*"
_PLAIN_WHOLE = r"\s*[+-]?\d{{1,18}}\s*"
_NUMBER = r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{{1,3}})?\s*"
_ZERO = r"[^1-9eE]*(?:[eE].*)?"
_DECIMALS = (
    r"length(regexp_extract({text}, '\.(\d*)', 1))"
    r" - length(replace(regexp_extract({text}, '^[^eE]*?([0.]*)\s*(?:[eE]|$)', 1), '.', ''))"
    r" - coalesce(try_cast(regexp_extract({text}, '[eE]([+-]?\d+)', 1) AS INTEGER), 0)"
)


def _number(plain: str, kind: str, decimals: int) -> str:
    """Write the conversion to *kind*, which has so many *decimals*; *plain* numbers fit."""
    exact = f"regexp_full_match({{text}}, '{_ZERO}') OR {_DECIMALS} <= {decimals}"
    return (
        f"CASE WHEN regexp_full_match({{text}}, '{plain}') THEN try_cast({{text}} AS {kind})"
        f" WHEN regexp_full_match({{text}}, '{_NUMBER}') AND ({exact})"
        f" THEN try_cast(try_cast({{text}} AS {SQL_TYPES['decimal']}) AS {kind}) END"
    )


_IN_BOUNDS = "BETWEEN TIMESTAMPTZ '0001-01-01' AND TIMESTAMPTZ '9999-12-31 23:59:59.999999'"

_CONVERSIONS: Mapping[str, str] = {
    "text": "CASE WHEN contains({text}, chr(0)) THEN replace({text}, chr(0), '') ELSE {text} END",
    "boolean": "try_cast({text} AS BOOLEAN)",
    "date": (
        "CASE WHEN regexp_matches({text}, '^\\s*0000') THEN NULL"
        " WHEN regexp_full_match({text}, '\\s*\\d{{4}}-\\d{{1,2}}-\\d{{1,2}}\\s*')"
        " THEN try_cast({text} AS DATE)"
        " WHEN regexp_matches({text}, '^\\s*\\d{{4}}-\\d{{1,2}}-\\d{{1,2}}[T ]\\d')"
        " AND try_cast({text} AS TIMESTAMPTZ) IS NOT NULL"
        " THEN try_cast(regexp_extract({text}, '\\d+-\\d+-\\d+') AS DATE) END"
    ),
    "timestamptz": (
        f"CASE WHEN regexp_full_match({{text}}, '{_PLAIN_TIME}')"
        f" AND try_cast({{text}} AS TIMESTAMPTZ) {_IN_BOUNDS}"
        " THEN try_cast({text} AS TIMESTAMPTZ)"
        f" WHEN regexp_full_match({{text}}, '{_TIME}')"
        f" AND try_cast({_WITHOUT_SPACE} AS TIMESTAMPTZ) {_IN_BOUNDS}"
        f" THEN try_cast({_WITHOUT_SPACE} AS TIMESTAMPTZ)"
        " WHEN regexp_full_match({text}, '\\d{{10}}(\\.\\d{{1,6}})?')"
        " THEN to_timestamp(try_cast({text} AS DOUBLE))"
        " WHEN regexp_full_match({text}, '\\d{{13}}')"
        " THEN to_timestamp(try_cast({text} AS DOUBLE) / 1000) END"
    ),
    "integer": _number(_PLAIN_WHOLE, SQL_TYPES["integer"], 0),
    "decimal": _number(_PLAIN_NUMBER, SQL_TYPES["decimal"], 9),
}


def converted_columns(table: Table) -> list[Column]:
    """List the columns whose text may not convert."""
    return [column for column in table.columns if column.type != "text"]


def raw_name(column: Column) -> str:
    """Name the staging column with the text of *column* that did not convert."""
    return f"_raw:{column.name}"


def unidentified(table: Table, raw: Callable[[str], str]) -> str:
    """Write the condition that a record lacks an identity. *raw* writes a field as text."""
    groups = (
        " AND ".join(f"coalesce({raw(source)}, '') = ''" for source in group)
        for group in table.identity
    )
    return " OR ".join(f"({group})" for group in groups)


def _nuls(table: Table, raw: _Raw) -> str:
    return " + ".join(
        f"coalesce(contains({raw(column.source)}, chr(0)), false)::UTINYINT"
        for column in table.columns
        if column.type == "text" and column.source in raw.available
    )


def identity_words(table: Table) -> str:
    """Name the fields that identify a record, as a reject's reason."""
    return ", or no ".join(" and no ".join(group) for group in table.identity)


def type_words(column: Column) -> str:
    """Name a column's type, as a reject's reason."""
    return {
        "boolean": "boolean",
        "date": "date",
        "timestamptz": "time",
        "integer": "whole number of 64 bits",
        "decimal": "number with at most 29 digits before the point and 9 after it",
    }[column.type]
