"""Rewrites the rows of an account after the treatments of its columns have changed."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from ometria_replica.batch import Batch, Loaded
from ometria_replica.failpoints import step
from ometria_replica.local_duckdb import registered
from ometria_replica.mapping import (
    REJECTED,
    SQL_TYPES,
    STAGED,
    Staging,
    quoted,
    without_addresses,
)
from ometria_replica.pseudonyms import is_pseudonym, parameters_in
from ometria_replica.raw_records import records_of
from ometria_replica.schema import Md5
from ometria_replica.selection import Selection, Values, chunks, in_parts
from ometria_replica.warehouse.changes import Changes
from ometria_replica.warehouse.comparison import compare
from ometria_replica.warehouse.rehashing.key_texts import KeyTexts
from ometria_replica.warehouse.sessions import Part
from ometria_replica.warehouse.state_tables import DELETED_UPSTREAM, REJECTS, WRITTEN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from duckdb import DuckDBPyConnection

    from ometria_replica.schema import Column, StateTable, Table
    from ometria_replica.warehouse.rehashing.key_texts import TimeForm
    from ometria_replica.warehouse.state.table_states import TableStates

_ARRIVING, _STORED, _NOTHING = "arriving_rows", "stored_rows", "nothing_replaced"
_OWN, _MOVED = "own_values", "moved_keys"
_SAMPLE = 100  # Rows whose form of time is looked for at once: a table has one form, or a few.
_AT_ONCE = 50_000  # Rows of a batch, where not all are written in one transaction.
_MOST_KEYS = 2_000


@dataclass(frozen=True)
class Rewritten:
    """
    The rows of *table* as they are to be, in the temporary table *name*.

    *rows* are stored. Those with ``_kept`` are to be written: *merged* others have the key of a
    newer one. The keys of *unknown* rows cannot be made anew.
    """

    table: Table
    name: str
    rows: int
    merged: int
    unknown: int
    has_new_keys: bool


@dataclass(frozen=True)
class RowRewriting(Part):
    """Rewrites rows. Records are mapped in *mapping*, a DuckDB; *state* is that of the tables."""

    mapping: DuckDBPyConnection
    state: TableStates

    def prepare(self, stored: Table, wanted: Table, source_id: str) -> Rewritten:
        """
        Make the rows of a source as *wanted* of those as *stored*: one table, then and now.

        They are copied to temporary tables, so that the warehouse stays as it is.
        """
        self.mapping.execute("SET TimeZone = 'UTC'")
        name = f"rewritten_{wanted.label}"
        with self.sessions.open(f"reading {stored.name}"):
            self._copy(stored, source_id)
        texts, new = KeyTexts(stored, source_id), _new_texts(stored, wanted)
        has_new_keys = bool(new.keys() & set(stored.sync_key.parts))
        key = self._new_key(texts, new) if has_new_keys else "__sync_key"
        values = [
            f"{_value(column, new, key)} AS {quoted(column.name)}" for column in wanted.all_columns
        ]
        statement = (
            f"CREATE OR REPLACE TEMP TABLE {quoted(name)} AS SELECT {', '.join(values)},"
            f" __sync_key AS _old_key, true AS _kept FROM {_STORED}"
        )
        self.mapping.execute(statement, parameters_in(statement, wanted.pseudonyms))
        self.mapping.execute(f"DROP TABLE {_STORED}")
        if has_new_keys:
            self._merge_equal_keys(quoted(name))
        rows, merged, unknown = self._row(
            "SELECT count(*), count(*) FILTER (NOT _kept), count(*) FILTER (__sync_key IS NULL)"
            f" FROM {quoted(name)}"
        )
        return Rewritten(wanted, name, rows, merged, unknown, has_new_keys)

    def write(self, rewritten: Rewritten, source_id: str, run_id: str, now: datetime) -> None:
        """
        Put the rewritten rows in place of those that are stored, and mend the state of them.

        Belongs into one transaction where the warehouse has them; elsewhere the rows are written
        in batches, and an interrupted call is repeated from :meth:`prepare` on.
        """
        table = rewritten.table
        batch = Batch(table, source_id, run_id, now)
        if not self._engine.commits_rows_with_state:
            for first in range(0, rewritten.rows, _AT_ONCE):
                self._write_batch(rewritten, batch, first)
        elif rewritten.has_new_keys:
            own = self._engine.own_columns(table)
            if own:
                self._set_aside(rewritten, source_id, own)
            self.stage(rewritten)
            self._engine.stage(batch)
            self._engine.delete(table, Selection(source_id))
            counts = Loaded(inserted=rewritten.rows - rewritten.merged)
            self.insert_staged(table, source_id, counts)
            if own:
                self._put_back(table, source_id, own)
        else:
            self.stage(rewritten)
            self._engine.stage(batch)
            self._apply(replace(compare(self._engine, batch), state=None))
        self._mend_state(rewritten, source_id)

    def insert_staged(self, table: Table, source_id: str, counts: Loaded) -> None:
        """Insert the staged rows, none of which replaces another."""
        self._engine.temporary(_NOTHING, "SELECT NULL AS target_row WHERE 1 = 0")
        self._apply(Changes(table, source_id, STAGED, _NOTHING, None, counts, state=None))

    def remove(self, table: Table, source_id: str, now: datetime) -> None:
        """Remove the rows of a source, and their rejects, and let the next run read them again."""
        self._engine.delete(table, Selection(source_id))
        self._engine.execute(
            f"DELETE FROM {self._engine.name(REJECTS)} WHERE source_id = ? AND table_name = ?",
            [source_id, table.name],
        )
        self.state.forget_rows(source_id, table.name, now)
        self._hash_deleted(table, source_id)

    def forget_records(self, table: Table, source_id: str) -> None:
        """Remove records that were kept before columns were treated: they hold the values."""
        for raw in records_of(table):
            if self._engine.exists(raw):
                self._engine.delete(raw, Selection(source_id))

    def _apply(self, changes: Changes) -> None:
        with step("rewritten rows"):
            self._engine.apply(changes)
        for name in (STAGED, REJECTED):  # Another table may follow in the same transaction.
            self._engine.execute(f"DROP TABLE IF EXISTS {name}")

    def _set_aside(self, rewritten: Rewritten, source_id: str, own: Sequence[str]) -> None:
        """Keep the values of a user's columns by the new key; not of rows that become one."""
        self.mapping.execute(
            f"CREATE OR REPLACE TEMP TABLE {_MOVED} AS"
            " SELECT __sync_key AS new_key, min(_old_key) AS old_key"
            f" FROM {quoted(rewritten.name)} GROUP BY __sync_key HAVING count(*) = 1"
        )
        self._engine.share(_MOVED)
        values = ", ".join(f"t.{name}" for name in own)
        self._engine.temporary(
            _OWN,
            f"SELECT new_key, {values} FROM {self._engine.name(rewritten.table)} t"
            f" JOIN {_MOVED} ON t.__sync_key = old_key WHERE t.__source_id = ?",
            [source_id],
        )

    def _put_back(self, table: Table, source_id: str, own: Sequence[str]) -> None:
        values = ", ".join(f"{name} = {_OWN}.{name}" for name in own)
        self._engine.execute(
            f"UPDATE {self._engine.name(table)} t SET {values} FROM {_OWN}"
            f" WHERE t.__source_id = ? AND t.__sync_key = {_OWN}.new_key",
            [source_id],
        )
        for name in (_OWN, _MOVED):  # Another table may follow in the same transaction.
            self._engine.execute(f"DROP TABLE IF EXISTS {name}")

    def _write_batch(self, rewritten: Rewritten, batch: Batch, first: int) -> None:
        """Write some rows, and only then delete those with their old keys."""
        where = f"WHERE rowid >= {first} AND rowid < {first + _AT_ONCE}"
        self.stage(rewritten, f"{where} AND _kept")
        self._engine.stage(batch)
        with step("rewritten rows"):
            self._engine.apply(replace(compare(self._engine, batch), state=None))
        old = self.mapping.execute(
            f"SELECT _old_key FROM {quoted(rewritten.name)} {where} AND _old_key <> __sync_key"
        )
        keys = tuple(key for (key,) in old.fetchall())
        selection = Selection(batch.source_id, Values("__sync_key", keys))
        for part in chunks(selection, _MOST_KEYS, _MOST_KEYS) if keys else ():
            self._engine.delete(batch.table, part)

    def stage(self, rewritten: Rewritten, where: str = "WHERE _kept") -> None:
        """Stage rewritten rows in the DuckDB in which records are mapped."""
        Staging(self.mapping, rewritten.table, "", "")  # Makes the tables of a batch.
        names = ", ".join(quoted(column.name) for column in rewritten.table.all_columns)
        self.mapping.execute(
            f"INSERT INTO {STAGED} BY NAME SELECT {names} FROM {quoted(rewritten.name)} {where}"
        )

    def _mend_state(self, rewritten: Rewritten, source_id: str) -> None:
        """
        Give rejects the new keys, and drop what they hold of the texts; the same for deleted rows.

        A reject's own id is made from its text and key too, so it gets another.
        """
        table = rewritten.table
        self.state.watermarks.forget_starting(source_id, table.name, WRITTEN)
        treated = {c.name for c in table.columns if c.treatment}
        rejects = self._state_of(REJECTS, table, source_id)
        keys = self._new_keys(rewritten, [row["sync_key"] for row in rejects if row["sync_key"]])
        texts = self._without_addresses(table, [row["raw"] for row in rejects])
        for row, text in zip(rejects, texts, strict=True):
            row["raw"] = text
            row["sync_key"] = keys.get(row["sync_key"], row["sync_key"])
            row["reject_id"] = secrets.token_hex(16)
            if row["column_name"] is None or row["column_name"] in treated:
                row["raw"] = None
        if rejects:
            self._put_state(REJECTS, table, source_id, rejects)
        self._hash_deleted(table, source_id)

    def _without_addresses(self, table: Table, texts: list[str | None]) -> list[str | None]:
        """Replace addresses in *texts* of rejects, where the table hides them."""
        if not texts or not table.hides_addresses:
            return texts
        found = self.mapping.execute(
            f"SELECT {without_addresses('text')} FROM (SELECT unnest($texts::VARCHAR[]) AS text,"
            " generate_subscripts($texts::VARCHAR[], 1) AS place) ORDER BY place",
            {"texts": texts},
        )
        return [text for (text,) in found.fetchall()]

    def _hash_deleted(self, table: Table, source_id: str) -> None:
        """Hash the ids of deleted rows, and their keys, as the table now has them."""
        column = next((c for c in table.columns if c.name == table.record_id), None)
        if column is None or column.treatment != "hashed" or table.pseudonyms is None:
            return
        deleted = self._state_of(DELETED_UPSTREAM, table, source_id)
        if not deleted:
            return
        found = self.mapping.execute(
            "SELECT hash, md5($source_id || hash) FROM (SELECT place,"
            f" CASE WHEN {is_pseudonym('id')} THEN id ELSE {table.pseudonyms.sql('id')} END"
            " AS hash FROM (SELECT unnest($ids::VARCHAR[]) AS id,"
            " generate_subscripts($ids::VARCHAR[], 1) AS place)) ORDER BY place",
            {
                **table.pseudonyms.parameters,
                "source_id": source_id,
                "ids": [row["record_id"] for row in deleted],
            },
        )
        is_key = table.sync_key.parts == ("source_id", column.source)
        for row, (pseudonym, key) in zip(deleted, found.fetchall(), strict=True):
            row["record_id"] = pseudonym
            row["sync_key"] = key if is_key else row["sync_key"]
        self._put_state(DELETED_UPSTREAM, table, source_id, deleted)

    def _state_of(self, state: StateTable, table: Table, source_id: str) -> list[dict[str, Any]]:
        found = self._engine.rows(
            f"SELECT {', '.join(state.column_names)} FROM {self._engine.name(state)}"
            " WHERE source_id = ? AND table_name = ?",
            [source_id, table.name],
        )
        return [dict(zip(state.column_names, row, strict=True)) for row in found]

    def _put_state(
        self, state: StateTable, table: Table, source_id: str, rows: Sequence[dict[str, Any]]
    ) -> None:
        """Put *rows* in place of all that *state* has of a table."""
        self._engine.execute(
            f"DELETE FROM {self._engine.name(state)} WHERE source_id = ? AND table_name = ?",
            [source_id, table.name],
        )
        for some in in_parts(rows, _MOST_KEYS):
            self._engine.insert(state, *(tuple(row.values()) for row in some))

    def _new_keys(self, rewritten: Rewritten, old: list[str]) -> Mapping[str, str]:
        """Map old keys to the new ones."""
        found = self.mapping.execute(
            f"SELECT _old_key, __sync_key FROM {quoted(rewritten.name)}"
            " WHERE _old_key IN (SELECT unnest($keys::VARCHAR[]))",
            {"keys": old},
        )
        return dict(found.fetchall())

    def _copy(self, table: Table, source_id: str) -> None:
        import pyarrow as pa  # noqa: PLC0415 -- 80 ms, and only a rewrite needs it.

        from ometria_replica.arrow_types import ARROW_TYPES  # noqa: PLC0415 -- As above.

        schema = pa.schema(
            [(column.name, ARROW_TYPES[column.type]) for column in table.all_columns]
        )
        batches = self._engine.read(table, Selection(source_id))
        first = list(islice(batches, 1))  # Now: a remote is read into this DuckDB first.
        rows = (
            batch if batch.schema == schema else batch.cast(schema)
            for batch in chain(first, batches)
        )
        arriving = pa.RecordBatchReader.from_batches(schema, rows)
        with registered(self.mapping, _ARRIVING, arriving):
            self.mapping.execute(
                f"CREATE OR REPLACE TEMP TABLE {_STORED} AS SELECT * FROM {_ARRIVING}"
            )

    def _new_key(self, texts: KeyTexts, new: Mapping[str, str]) -> str:
        """
        Write the new key of a stored row; null if the old one cannot be made of what is stored.

        A row that an interrupted call has rewritten, or that has nothing to treat, keeps its key.
        """
        is_done = " AND ".join(
            f"coalesce({is_pseudonym(quoted(column.name))}, true)"
            for column in texts.table.columns
            if column.source in new and column.source in texts.table.sync_key.parts
        )
        cases = [
            f"WHEN __sync_key = {texts.sql(form)} THEN {texts.sql(form, new)}"
            for form in (self._forms(texts) if texts.is_stored else ())
        ]
        return f"CASE {' '.join([f'WHEN {is_done} THEN __sync_key', *cases])} END"

    def _forms(self, texts: KeyTexts) -> list[TimeForm | None]:
        """Find the forms of the times in the keys, until no row tells another."""
        if texts.time is None:
            return [None]
        forms: list[TimeForm | None] = []
        while True:
            others = [f"__sync_key <> {texts.sql(form)}" for form in forms]
            sample = self.mapping.execute(
                f"SELECT {', '.join(texts.columns())}, __sync_key FROM {_STORED}"
                f" WHERE {' AND '.join([f'{texts.time} IS NOT NULL', *others])} LIMIT {_SAMPLE}"
            ).fetchall()
            found = {texts.form_of(parts, key) for *parts, key in sample} - {None}
            if not found:
                return forms
            forms += sorted(found, key=str)

    def _merge_equal_keys(self, name: str) -> None:
        """
        Keep the newest of rows that now have one key.

        Addresses that differed in case or space only have one pseudonym. An interrupted rewrite
        leaves a row with its old and its new key. Of rows of one file it is not known which is
        the newer one.
        """
        repeated = (
            f"SELECT __sync_key FROM {name} WHERE __sync_key IS NOT NULL"
            " GROUP BY __sync_key HAVING count(*) > 1"
        )
        self.mapping.execute(
            f"UPDATE {name} SET _kept = false WHERE rowid IN (SELECT rowid FROM {name}"
            f" WHERE __sync_key IN ({repeated}) QUALIFY row_number() OVER"
            " (PARTITION BY __sync_key ORDER BY __synced_at DESC, _old_key) > 1)"
        )

    def _row(self, query: str) -> tuple[int, int, int]:
        ((rows, merged, unknown),) = self.mapping.execute(query).fetchall()
        return int(rows), int(merged), int(unknown)


def _new_texts(stored: Table, wanted: Table) -> dict[str, str]:
    """Write what becomes of each field that was not treated and is now, by its name."""
    new: dict[str, str] = {}
    hides = wanted.hides_addresses and not stored.hides_addresses
    pairs = list(zip(stored.columns, wanted.columns, strict=True))
    ids = [quoted(c.name) for before, c in pairs if c.person and c.treatment != before.treatment]
    for before, column in pairs:
        text = quoted(column.name)
        if column.treatment and not before.treatment and column.type == "text":
            pseudonym = "NULL::VARCHAR"
            if wanted.pseudonyms:
                pseudonym = wanted.pseudonyms.sql(text, is_address=column.person == "address")
            new[str(column.source)] = (
                f"CASE WHEN {is_pseudonym(text)} THEN {text} ELSE {pseudonym} END"
            )
        elif column.quotes and hides:
            new[str(column.source)] = without_addresses(text, ids)
    return new


def _value(column: Column, new: Mapping[str, str], key: str) -> str:
    if isinstance(column.source, Md5) or column.name == "__sync_key":
        return key
    if column.treatment == "excluded":
        return f"NULL::{SQL_TYPES[column.type]}"
    return new.get(column.source, quoted(column.name))
