"""
Finds what the tables hold of people, by their ids and by all ids that hang together with these.

Ids are compared in the DuckDB in which records are mapped, by the same expressions for every
warehouse: an address in any case and with any space around it. An id is written ``kind:text``, or
``kind#text`` if *text* is its pseudonym, since a column is hashed.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ometria_replica import sql
from ometria_replica.mapping import MASKED, mask_addresses, words_sql
from ometria_replica.pseudonyms import is_pseudonym, normalised, parameters_in
from ometria_replica.schema import Inside
from ometria_replica.selection import Selection, Values, chunks
from ometria_replica.warehouse.disjoint_sets import DisjointSets
from ometria_replica.warehouse.quotations import QuotationSearch
from ometria_replica.warehouse.state_tables import REJECTS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from ometria_replica.pseudonyms import Pseudonyms
    from ometria_replica.schema import Column, Table
    from ometria_replica.suppressions import PersonId, Suppressions
    from ometria_replica.warehouse.engines.base import Engine
    from ometria_replica.warehouse.quotations import Quotations

_KNOWN, _LINKS, _ARRIVED, _RAW = "known_ids", "linked_ids", "arrived_rows", "raw_texts"
_SOUGHT = "sought_ids"
_TEXTS_AT_ONCE = 5_000


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


def id_parts(name: str) -> tuple[PersonId, str, bool]:
    """Take an id apart: its kind, its text, and whether that is a pseudonym."""
    kind, mark, text = re.split("([:#])", name, maxsplit=1)
    return kind, text, mark == "#"  # type: ignore[return-value]  # One of the three.


@dataclass(frozen=True)
class People:
    """Finds people in *tables* of *engine*, those that exist, as an account treats them."""

    engine: Engine
    connection: DuckDBPyConnection
    tables: Sequence[Table]
    source_id: str

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
        self._make(_LINKS, "place BIGINT, id VARCHAR")
        self._make(_KNOWN, "id VARCHAR")
        self._add_wanted(wanted)
        self._make(_SOUGHT, "id VARCHAR")
        if also:
            self.connection.execute(
                f"INSERT INTO {_SOUGHT} SELECT unnest($hashes::VARCHAR[])",
                {"hashes": sorted(also.hashes)},
            )
        for table in self._searched:
            self._read_values(table)
            self._add_links(table)
            if also:
                self._add_suppressed(table, also)
        if follow:
            self._follow()
        self.connection.execute(f"INSERT INTO {_SOUGHT} FROM {_KNOWN}")
        for table in self._holding:
            self._read_rows(table)
        for table in self._holding if follow else ():
            self._read_inside(table)
        keys = {table.label: self._texts(f"SELECT __sync_key FROM {held(table)} ORDER BY ALL")
                for table in self._holding}  # fmt: skip
        return Found(
            self.source_id,
            tuple(self._parted()),
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
        self._make(_LINKS, "place BIGINT, id VARCHAR")
        self._make(_KNOWN, "id VARCHAR")
        self._add_wanted(wanted)
        return [*self._texts(f"SELECT id FROM {_KNOWN} ORDER BY id")]

    def rows_of(self, name: str) -> list[dict[str, object]]:
        """Read the rows of a table that were found."""
        (table,) = [table for table in self._holding if table.label == name]
        columns = [column.name for column in table.all_columns]
        return [
            dict(zip(columns, row, strict=True))
            for row in self._rows(f"SELECT {sql.names(table)} FROM {held(table)} ORDER BY ALL")
        ]

    def forget(self) -> None:
        """Drop the temporary tables."""
        for table in self._holding:
            for name in (held(table), _values(table)):
                self.connection.execute(f"DROP TABLE IF EXISTS {name}")
        for name in (_LINKS, _KNOWN, _SOUGHT):
            self.connection.execute(f"DROP TABLE IF EXISTS {name}")

    # --- ids ---

    @property
    def _searched(self) -> list[Table]:
        return [table for table in self.tables if _id_columns(table)]

    @property
    def _holding(self) -> list[Table]:
        """The tables that may hold a person: those with an id, and what is inside their records."""
        return [table for table in self.tables if _id_columns(table) or self._parent(table)]

    def _parent(self, table: Table) -> Table | None:
        """Find the table, among those with an id, that *table* is inside."""
        name = table.read.parent if isinstance(table.read, Inside) else None
        return next((each for each in self._searched if each.name == name), None)

    @property
    def _pseudonyms(self) -> Pseudonyms | None:
        return next((table.pseudonyms for table in self.tables if table.is_treated), None)

    @property
    def _hashed(self) -> frozenset[PersonId]:
        """The kinds of ids of which a column has pseudonyms."""
        return frozenset(
            column.person
            for table in self.tables
            for column in table.columns
            if column.person and column.treatment == "hashed"
        )

    def _ids(self, column: Column) -> list[str]:
        """Write the ids that a value of *column* is, as expressions; null for none."""
        text = sql.quoted(column.name)
        return self._ids_of(column.person or "profile", text, is_hashed=bool(column.treatment))

    def _ids_of(self, kind: PersonId, text: str, *, is_hashed: bool = False) -> list[str]:
        plain = normalised(text) if kind == "address" else text
        found = [f"'{kind}#' || {text}" if is_hashed else f"'{kind}:' || {plain}"]
        if not is_hashed and kind in self._hashed and self._pseudonyms:
            hashed = self._pseudonyms.sql(text, is_address=kind == "address")
            found.append(f"'{kind}#' || {hashed}")
        return [f"CASE WHEN {normalised(text)} <> '' THEN {each} END" for each in found]

    def _add_wanted(self, wanted: Collection[tuple[PersonId, str]]) -> None:
        """Note the ids that were given; one may be the pseudonym, copied from a hashed column."""
        self._make("given_ids", "kind VARCHAR, text VARCHAR")
        for kind, text in sorted(wanted):
            self.connection.execute("INSERT INTO given_ids VALUES (?, ?)", [kind, text])
        for kind in sorted({kind for kind, _ in wanted}):
            texts = ["text", normalised("text")] if kind == "address" else ["text"]
            ids = [each for text in texts for each in self._ids_of(kind, text)]
            given = f"given_ids WHERE kind = '{kind}'"
            if kind in self._hashed:
                is_one = is_pseudonym("text")
                self._link([f"'{kind}#' || text"], f"{given} AND {is_one}")
                given += f" AND NOT {is_one}"
            self._link(ids, given)
        self.connection.execute(f"INSERT INTO {_KNOWN} SELECT DISTINCT id FROM {_LINKS}")
        self.connection.execute("DROP TABLE given_ids")

    def _read_values(self, table: Table) -> None:
        names = [column.name for column in _id_columns(table)]
        columns = ", ".join(map(sql.quoted, names))
        self._make(_values(table), ", ".join(f"{sql.quoted(n)} VARCHAR" for n in names))
        for rows in self.engine.distinct(table, self.source_id, names):
            self._insert(f"INSERT INTO {_values(table)} SELECT DISTINCT {columns}", rows)

    def _add_links(self, table: Table) -> None:
        """Note which ids stand in one row, or are the same."""
        ids = [each for column in _id_columns(table) for each in self._ids(column)]
        if len(ids) > 1:
            self._link(ids, _values(table))

    def _link(self, ids: Sequence[str], relation: str) -> None:
        self._execute(
            f"INSERT INTO {_LINKS} SELECT place + (SELECT coalesce(max(place), 0) FROM {_LINKS}),"
            f" id FROM (SELECT row_number() OVER () AS place, unnest([{', '.join(ids)}]) AS id"
            f" FROM (SELECT DISTINCT * FROM {relation})) WHERE id IS NOT NULL"
        )

    def _add_suppressed(self, table: Table, suppressions: Suppressions) -> None:
        for column in _id_columns(table):
            hashes = suppressions.sql(column.person or "profile", sql.quoted(column.name))
            self._execute(
                f"INSERT INTO {_KNOWN} SELECT DISTINCT id FROM"
                f" (SELECT unnest([{', '.join(self._ids(column))}]) AS id FROM"
                f" (SELECT *, unnest([{', '.join(hashes)}]) AS hash FROM {_values(table)})"
                f" WHERE hash IN (SELECT id FROM {_SOUGHT})) WHERE id IS NOT NULL",
                suppressions,
            )

    def _follow(self) -> None:
        """Add the ids that stand in a row with a known one, until there is none."""
        before = -1
        while (now := self._count(_KNOWN)) != before:
            before = now
            self.connection.execute(
                f"INSERT INTO {_KNOWN} SELECT DISTINCT beside.id FROM {_LINKS} beside"
                f" SEMI JOIN (FROM {_LINKS} SEMI JOIN {_KNOWN} USING (id)) USING (place)"
                f" ANTI JOIN {_KNOWN} USING (id)"
            )

    def _parted(self) -> Iterator[frozenset[str]]:
        """Part the known ids into those of each person."""
        sets, beside = DisjointSets(), dict[int, str]()
        for place, name in self._rows(f"SELECT place, id FROM {_LINKS} SEMI JOIN {_KNOWN}"
                                      " USING (id)"):  # fmt: skip
            sets.join(name, beside.setdefault(place, name))
        people: dict[str, set[str]] = {}
        for (name,) in self._rows(f"SELECT DISTINCT id FROM {_KNOWN} ORDER BY id"):
            people.setdefault(sets.name(name), set()).add(name)
        yield from map(frozenset, people.values())

    # --- rows ---

    def _read_rows(self, table: Table) -> None:
        """Copy the rows with a known id, each once."""
        typed = ", ".join(
            f"{sql.quoted(name)} {sql.DUCKDB_TYPES[kind]}" for name, kind in sql.columns_of(table)
        )
        self._make(held(table), typed)
        for column in _id_columns(table):
            ids = ", ".join(self._ids(column))
            texts = self._texts(
                f"SELECT DISTINCT text FROM (SELECT {sql.quoted(column.name)} AS text,"
                f" unnest([{ids}]) AS id FROM {_values(table)}) SEMI JOIN {_KNOWN} USING (id)"
            )
            self._copy(table, Selection(self.source_id, Values(column.name, texts)))
        if columns := [c for c in table.columns if c.holds_record and not c.treatment]:
            self._read_naming(table, columns)

    def _read_naming(self, table: Table, columns: Sequence[Column]) -> None:
        """Copy the rows that have a known id within the text of one of *columns*."""
        words = " || ".join(f"coalesce({words_sql(sql.quoted(c.name))}, [])" for c in columns)
        ids = ", ".join(each for kind in table.kinds_named for each in self._ids_of(kind, "word"))
        for rows in self.engine.read(table, Selection(self.source_id)):
            self._insert(
                f"INSERT INTO {held(table)} SELECT {sql.names(table)}",
                rows,
                f" SEMI JOIN (SELECT __sync_key FROM (SELECT __sync_key, unnest([{ids}]) AS id"
                f" FROM (SELECT __sync_key, unnest({words}) AS word FROM {_ARRIVED}))"
                f" SEMI JOIN {_KNOWN} USING (id)) USING (__sync_key)"
                f" ANTI JOIN {held(table)} USING ({', '.join(table.key)})",
            )

    def _read_inside(self, table: Table) -> None:
        """Copy the rows inside records that were found, which need not name the person."""
        parent, column = self._parent(table), table.parent_column
        if parent is None or column is None:
            return
        ids = self._texts(
            f"SELECT DISTINCT {sql.quoted(parent.record_id or '')} FROM {held(parent)} ORDER BY ALL"
        )
        self._copy(table, Selection(self.source_id, Values(column.name, ids)))

    def _copy(self, table: Table, selection: Selection) -> None:
        """Copy rows, those that are not copied yet."""
        for part in chunks(selection, _TEXTS_AT_ONCE, _TEXTS_AT_ONCE):
            for rows in self.engine.read(table, part):
                self._insert(
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
        self._make(_RAW, "reject_id VARCHAR, table_name VARCHAR, sync_key VARCHAR,"
                   " raw VARCHAR")  # fmt: skip
        if found:
            columns = [pa.array(column, pa.string()) for column in zip(*found, strict=True)]
            rows = pa.record_batch(columns, ["reject_id", "table_name", "sync_key", "raw"])
            self._insert(f"INSERT INTO {_RAW} SELECT *", rows)
        rejects: set[str] = set()
        for table in self._holding:
            of_table = f"{_RAW} WHERE table_name = {sql.literal(table.name)}"
            rejects |= {*self._texts(
                f"SELECT reject_id FROM {of_table}"
                f" AND sync_key IN (SELECT __sync_key FROM {held(table)})"
            )}  # fmt: skip
            kinds = table.kinds_named
            if kinds:
                words = f"(SELECT reject_id, unnest({words_sql('raw')}) AS word FROM {of_table})"
                rejects |= {*self._naming("reject_id", words, kinds, also)}
        quoting = f"(SELECT raw AS text FROM {_RAW})"
        if mask_addresses(self.connection, quoting, self._addresses()):  # In any form of writing.
            rejects |= {*self._texts(
                f"SELECT reject_id FROM {_RAW} WHERE raw IN (SELECT text FROM {MASKED})"
            )}  # fmt: skip
        self.connection.execute(f"DROP TABLE {_RAW}")
        return sorted(rejects)

    def _naming(
        self, column: str, words: str, kinds: Iterable[PersonId], also: Suppressions | None
    ) -> tuple[str, ...]:
        """Read *column* where ``word`` of the relation *words* is a sought id of one of *kinds*."""
        ids = [each for kind in kinds for each in self._ids_of(kind, "word")]
        ids += [f"'{kind}#' || word" for kind in kinds if kind in self._hashed]
        ids += [each for kind in kinds for each in (also.sql(kind, "word") if also else ())]
        return self._texts(
            f"SELECT DISTINCT {column} FROM (SELECT {column}, unnest([{', '.join(ids)}]) AS id"
            f" FROM {words}) SEMI JOIN {_SOUGHT} USING (id)",
            also,
        )

    def _quotations(self, also: Suppressions | None) -> Iterator[Quotations]:
        """Find the texts of other rows that quote a known address, or one of a sought hash."""
        is_by_hash = also is not None or "address" in self._hashed
        search = QuotationSearch(
            self.engine,
            self.connection,
            self.source_id,
            self._addresses(),
            lambda words: self._naming("word", words, ["address"], also) if is_by_hash else (),
        )
        for table in self.tables:
            yield from search.of(table, held(table) if table in self._holding else None)

    def _addresses(self) -> tuple[str, ...]:
        """Read the known addresses that are no pseudonyms."""
        return self._texts(
            f"SELECT substr(id, {len('address:') + 1}) FROM {_KNOWN}"
            " WHERE starts_with(id, 'address:') ORDER BY ALL"
        )

    # --- statements ---

    def _make(self, name: str, columns: str) -> None:
        self.connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} ({columns})")

    def _insert(self, statement: str, rows: pa.RecordBatch | pa.Table, joined: str = "") -> None:
        self.connection.register(_ARRIVED, rows)
        try:
            self._execute(f"{statement} FROM {_ARRIVED}{joined}")
        finally:
            self.connection.unregister(_ARRIVED)

    def _execute(self, statement: str, suppressions: Suppressions | None = None) -> None:
        parameters = parameters_in(statement, self._pseudonyms, suppressions)
        self.connection.execute(statement, parameters)

    def _rows(self, query: str, suppressions: Suppressions | None = None) -> list[tuple[Any, ...]]:
        parameters = parameters_in(query, self._pseudonyms, suppressions)
        return self.connection.execute(query, parameters).fetchall()

    def _texts(self, query: str, suppressions: Suppressions | None = None) -> tuple[str, ...]:
        return tuple(str(text) for (text,) in self._rows(query, suppressions))

    def _count(self, name: str) -> int:
        ((number,),) = self.connection.execute(f"SELECT count(*) FROM {name}").fetchall()
        return int(number)


def _values(table: Table) -> str:
    return sql.quoted(f"ids of {table.label}")


def _id_columns(table: Table) -> list[Column]:
    return [c for c in table.columns if c.person and c.treatment != "excluded"]
