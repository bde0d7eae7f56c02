"""Finds what the tables hold of people: rows, records, rejects and quotations."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ometria_replica import sql
from ometria_replica.local_duckdb import registered
from ometria_replica.mapping import (
    MASKED,
    addresses_sql,
    mask_addresses,
    without_escapes,
    words_sql,
)
from ometria_replica.raw_records import records_of
from ometria_replica.selection import Selection, Values, chunks, in_parts
from ometria_replica.warehouse.erasure.person_ids import (
    KNOWN,
    SOUGHT,
    PersonIds,
    id_columns,
    values_of,
)
from ometria_replica.warehouse.erasure.quotations import QuotationSearch
from ometria_replica.warehouse.erasure.temporary_tables import ARRIVED, TemporaryTables
from ometria_replica.warehouse.state_tables import REJECTS
from ometria_replica.ways_to_read import Inside

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from ometria_replica.schema import Column, Table
    from ometria_replica.suppressions import PersonId, Suppressions
    from ometria_replica.warehouse.engines.base import Engine
    from ometria_replica.warehouse.erasure.quotations import Quotations

_RAW = "raw_texts"
_TEXTS_AT_ONCE = 5_000
_IN_A_PATTERN = 200
_SPECIAL = re.compile(r"[^\w@ ]", re.ASCII)
_HELD_TYPES = {**sql.DUCKDB_TYPES, "json": "VARCHAR"}


@dataclass(frozen=True)
class Found:
    """
    What a source holds of people.

    *people* are their ids, those of each that hang together; *keys* the keys of their rows by
    table, once for each row, and *rejects* the ids of their rejects. *quotations* are the texts of
    other rows that quote an address of theirs. *not_followed* names the excluded columns, by which
    no row can be found. *past_addresses* are those of people who are not erased, in versions of
    their rows that have ended. The rows are in the temporary tables :func:`held`. Tables have
    their labels.
    """

    source_id: str
    people: tuple[frozenset[str], ...]
    keys: Mapping[str, tuple[str, ...]]
    rejects: tuple[str, ...]
    quotations: tuple[Quotations, ...] = ()
    not_followed: tuple[str, ...] = ()
    past_addresses: tuple[str, ...] = ()

    @property
    def rows(self) -> dict[str, int]:
        """The number of rows by table."""
        return {name: len(keys) for name, keys in self.keys.items()}

    @property
    def quoted(self) -> int:
        """The number of texts of other rows that quote an address."""
        return sum(len(each.texts) for each in self.quotations)

    def ids(self, kind: PersonId) -> int:
        """Count the ids of a kind; an id that is known as such and by its pseudonym is one."""
        of_kind = Counter(
            each[len(kind)] for ids in self.people for each in ids if each.startswith(kind)
        )
        return max(of_kind[":"], of_kind["#"])

    @property
    def most_profiles(self) -> int:
        """The most profiles that hang together."""
        return max((Found(self.source_id, (ids,), {}, ()).ids("profile") for ids in self.people),
                   default=0)  # fmt: skip


def held(table: Table) -> str:
    """Name the temporary table with the rows of *table* that were found."""
    return sql.quoted(f"held {table.label}")


@dataclass(frozen=True)
class People:
    """Finds people in *tables* of *engine*, those that exist, as an account treats them."""

    engine: Engine
    connection: DuckDBPyConnection
    tables: Sequence[Table]
    source_id: str

    @cached_property
    def temporary(self) -> TemporaryTables:
        """Temporary tables of what is found."""
        treated = (table.pseudonyms for table in self.tables if table.is_treated)
        return TemporaryTables(self.connection, next(treated, None))

    @cached_property
    def ids(self) -> PersonIds:
        """Ids of the people."""
        return PersonIds(self.engine, self.temporary, self.tables, self.source_id)

    def find(
        self,
        wanted: Collection[tuple[PersonId, str]],
        also: Suppressions | None = None,
        *,
        follow: bool = True,
    ) -> Found:
        """
        Find all of the people with the ids *wanted*, and of those with one of the hashes.

        Without *follow*, only what has one of these ids itself.
        """
        self.ids.start(wanted)
        self.ids.find(also, follow=follow)
        for table in self._holding:
            self._read_rows(table)
        for table in self._holding if follow else ():
            self._read_inside(table)
        for table, raw in self._records:
            self._read_records(table, raw, also)
        keys = {name: self.temporary.texts(f"SELECT __sync_key FROM {held(table)} ORDER BY ALL")
                for name, table in self._named.items()}  # fmt: skip
        return Found(
            self.source_id,
            tuple(self.ids.of_each_person()),
            keys,
            tuple(self._rejects(also)),
            tuple(self._quotations(also)),
            tuple(
                f"{table.name}.{column.name}"
                for table in self.tables
                for column in table.columns
                if column.person and column.treatment == "excluded" and table.label == table.name
            ),
        )

    def names(self, wanted: Collection[tuple[PersonId, str]]) -> list[str]:
        """Write the ids that were given, without a look at the tables."""
        self.ids.start(wanted)
        return self.ids.names()

    def rows_of(self, name: str) -> list[dict[str, object]]:
        """Read the rows of a table that were found."""
        table = self._named[name]
        columns = [column.name for column in table.all_columns]
        return [
            dict(zip(columns, row, strict=True))
            for row in self.temporary.rows(
                f"SELECT {sql.names(table)} FROM {held(table)} ORDER BY ALL"
            )
        ]

    def forget(self) -> None:
        """Drop the temporary tables."""
        self.temporary.drop(*map(held, self._named.values()))
        self.ids.forget()

    @property
    def _named(self) -> dict[str, Table]:
        """The tables of which rows are found, by their labels."""
        tables = [*self._holding, *(raw for _, raw in self._records)]
        return {table.label: table for table in tables}

    @property
    def _records(self) -> list[tuple[Table, Table]]:
        """The tables with an id of which records are kept, each with that of the records."""
        return [
            (table, raw)
            for table in self.ids.searched
            for raw in records_of(table)
            if self.engine.exists(raw)
        ]

    @property
    def _holding(self) -> list[Table]:
        """The tables that may hold a person: those with an id, and what is inside their records."""
        return [table for table in self.tables if id_columns(table) or self._parent(table)]

    def _parent(self, table: Table) -> Table | None:
        """Find the table, among those with an id, that *table* is inside."""
        name = table.read.parent if isinstance(table.read, Inside) else None
        return next((each for each in self.ids.searched if each.name == name), None)

    def _read_rows(self, table: Table) -> None:
        """Copy the rows with a known id, each once."""
        self._make_held(table)
        for column in id_columns(table):
            ids = ", ".join(self.ids.ids(column))
            texts = self.temporary.texts(
                f"SELECT DISTINCT text FROM (SELECT {sql.quoted(column.name)} AS text,"
                f" unnest([{ids}]) AS id FROM {values_of(table)}) SEMI JOIN {KNOWN} USING (id)"
            )
            self._copy(table, Selection(self.source_id, Values(column.name, texts)))
        if columns := [c for c in table.columns if c.holds_record and not c.treatment]:
            self._read_naming(table, columns)

    def _read_naming(self, table: Table, columns: Sequence[Column]) -> None:
        """Copy the rows that have a known id within the text of one of *columns*."""
        words = " || ".join(f"coalesce({words_sql(sql.quoted(c.name))}, [])" for c in columns)
        ids = ", ".join(
            each for kind in table.kinds_named for each in self.ids.ids_of(kind, "word")
        )
        for rows in self.engine.read(table, Selection(self.source_id)):
            self.temporary.insert(
                f"INSERT INTO {held(table)} SELECT {sql.names(table)}",
                rows,
                f" SEMI JOIN (SELECT __sync_key FROM (SELECT __sync_key, unnest([{ids}]) AS id"
                f" FROM (SELECT __sync_key, unnest({words}) AS word FROM {ARRIVED}))"
                f" SEMI JOIN {KNOWN} USING (id)) USING (__sync_key)"
                f" ANTI JOIN {held(table)} USING ({', '.join(table.key)})",
            )

    def _read_records(self, table: Table, raw: Table, also: Suppressions | None) -> None:
        """Copy the records of the rows that were found, and those that quote a sought address."""
        self._make_held(raw)
        keys = self.temporary.texts(f"SELECT DISTINCT __sync_key FROM {held(table)}")
        self._copy(raw, Selection(self.source_id, Values("__sync_key", keys)))
        addresses = self.ids.addresses()
        if not addresses and also is None:
            return
        for some in self.engine.scan(raw, Selection(self.source_id)):
            sought = sorted({*addresses, *self._sought_in(some, also)})
            if sought:
                self.temporary.insert(
                    f"INSERT INTO {held(raw)} SELECT {sql.names(raw)}",
                    some,
                    f" ANTI JOIN {held(raw)} USING (__sync_key) WHERE {_quoting(sought)}",
                )

    def _sought_in(
        self, records: pa.RecordBatch | pa.Table, also: Suppressions | None
    ) -> tuple[str, ...]:
        """Read the addresses in *records* of which only a hash is known."""
        if also is None:
            return ()
        found = addresses_sql(without_escapes("record"))
        words = f"(SELECT DISTINCT unnest({found}) AS word FROM {ARRIVED})"
        with registered(self.connection, ARRIVED, records):
            return self._naming("word", words, ["address"], also)

    def _make_held(self, table: Table) -> None:
        columns = ", ".join(
            f"{sql.quoted(name)} {_HELD_TYPES[kind]}" for name, kind in sql.columns_of(table)
        )
        self.temporary.make(held(table), columns)

    def _read_inside(self, table: Table) -> None:
        """Copy the rows inside records that were found, which need not name the person."""
        parent, column = self._parent(table), table.parent_column
        if parent is None or column is None:
            return
        ids = self.temporary.texts(
            f"SELECT DISTINCT {sql.quoted(parent.record_id or '')} FROM {held(parent)} ORDER BY ALL"
        )
        self._copy(table, Selection(self.source_id, Values(column.name, ids)))

    def _copy(self, table: Table, selection: Selection) -> None:
        """Copy rows, those that are not copied yet."""
        for part in chunks(selection, _TEXTS_AT_ONCE, _TEXTS_AT_ONCE):
            for rows in self.engine.read(table, part):
                self.temporary.insert(
                    f"INSERT INTO {held(table)} SELECT {sql.names(table)}",
                    rows,
                    f" ANTI JOIN {held(table)} USING ({', '.join(table.key)})",
                )

    def _rejects(self, also: Suppressions | None) -> Iterable[str]:
        """Find the rejects of rows that were found, and those whose text names a sought id."""
        import pyarrow as pa  # noqa: PLC0415 -- 80 ms, and only an erasure needs it.

        found = self.engine.rows(
            f"SELECT reject_id, table_name, sync_key, raw FROM {self.engine.name(REJECTS)}"
            " WHERE source_id = ?",
            [self.source_id],
        ) if self.engine.exists(REJECTS) else []  # fmt: skip
        self.temporary.make(_RAW, "reject_id VARCHAR, table_name VARCHAR, sync_key VARCHAR,"
                   " raw VARCHAR")  # fmt: skip
        if found:
            columns = [pa.array(column, pa.string()) for column in zip(*found, strict=True)]
            rows = pa.record_batch(columns, ["reject_id", "table_name", "sync_key", "raw"])
            self.temporary.insert(f"INSERT INTO {_RAW} SELECT *", rows)
        rejects: set[str] = set()
        for table in self._holding:
            of_table = f"{_RAW} WHERE table_name = {sql.literal(table.name)}"
            rejects |= {*self.temporary.texts(
                f"SELECT reject_id FROM {of_table}"
                f" AND sync_key IN (SELECT __sync_key FROM {held(table)})"
            )}  # fmt: skip
            kinds = table.kinds_named
            if kinds:
                words = f"(SELECT reject_id, unnest({words_sql('raw')}) AS word FROM {of_table})"
                rejects |= {*self._naming("reject_id", words, kinds, also)}
        quoting = f"(SELECT raw AS text FROM {_RAW})"
        if mask_addresses(
            self.connection, quoting, self.ids.addresses()
        ):  # In any form of writing.
            rejects |= {*self.temporary.texts(
                f"SELECT reject_id FROM {_RAW} WHERE raw IN (SELECT text FROM {MASKED})"
            )}  # fmt: skip
        self.temporary.drop(_RAW)
        return sorted(rejects)

    def _naming(
        self, column: str, words: str, kinds: Iterable[PersonId], also: Suppressions | None
    ) -> tuple[str, ...]:
        """Read *column* where ``word`` of the relation *words* is a sought id of one of *kinds*."""
        ids = [each for kind in kinds for each in self.ids.ids_of(kind, "word")]
        ids += [f"'{kind}#' || word" for kind in kinds if kind in self.ids.hashed]
        ids += [each for kind in kinds for each in (also.sql(kind, "word") if also else ())]
        return self.temporary.texts(
            f"SELECT DISTINCT {column} FROM (SELECT {column}, unnest([{', '.join(ids)}]) AS id"
            f" FROM {words}) SEMI JOIN {SOUGHT} USING (id)",
            also,
        )

    def _quotations(self, also: Suppressions | None) -> Iterator[Quotations]:
        """Find the texts of other rows that quote a known address, or one of a sought hash."""
        is_by_hash = also is not None or "address" in self.ids.hashed
        search = QuotationSearch(
            self.engine,
            self.connection,
            self.source_id,
            self.ids.addresses(),
            lambda words: self._naming("word", words, ["address"], also) if is_by_hash else (),
        )
        for table in self.tables:
            yield from search.of(table, held(table) if table in self._holding else None)


def _quoting(addresses: Sequence[str]) -> str:
    """Write the condition that a record quotes any of *addresses*, written as within JSON."""
    written = [json.dumps(text, ensure_ascii=False)[1:-1] for text in addresses]
    patterns = [_SPECIAL.sub(r"\\\g<0>", text) for text in written]
    return " OR ".join(
        f"regexp_matches(record, {sql.literal('|'.join(some))}, 'i')"
        for some in in_parts(patterns, _IN_A_PATTERN)
    )
