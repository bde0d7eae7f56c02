"""
Compares a batch with the history of its table: which versions end, and which begin.

A row is compared with the version that holds in the history itself, and not with the table:
then it does not matter whether an interrupted batch has written one of the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica import sql
from ometria_replica.batch import Loaded
from ometria_replica.failpoints import step
from ometria_replica.history import VALIDITY, history_table
from ometria_replica.mapping import SEEN_KEYS
from ometria_replica.selection import Selection, Values
from ometria_replica.warehouse.changes import Changes

if TYPE_CHECKING:
    from ometria_replica.batch import Batch
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.engines.base import Engine

_HELD, _CHANGED, _ALIKE, _VERSIONS = (
    "held_versions", "changed_versions", "alike_versions", "new_versions",
)  # fmt: skip
_HOLDS = "h.valid_to IS NULL"
_A_MOMENT = "INTERVAL '1 microsecond'"


def compare_versions(engine: Engine, batch: Batch, own: Changes) -> Changes:
    """
    Compare the rows of *batch*, of which *own* are the changes, with the versions that hold.

    Rows of an older file are not among them. A version that begins when the one before it began
    takes its place. If a clock was wrong, and it came earlier, it begins a moment later instead.
    """
    with step("comparison"):
        return _Versions(engine, batch, own, history_table(batch.table)).changes()


@dataclass(frozen=True)
class _Versions:
    engine: Engine
    batch: Batch
    own: Changes
    history: Table

    def changes(self) -> Changes:
        if not self.engine.exists(self.history):  # In a dry run.
            return self._made(Loaded(inserted=self.engine.count_of(self.own.rows)))
        self._find_held()
        self._find_changed()
        self._settle_alike()
        self._make_versions()
        changed, ended = self.engine.rows(
            f"SELECT count(*), count(CASE WHEN starts > began THEN 1 END) FROM {_CHANGED}"
        )[0]
        new = self.engine.count_of(self.own.rows) - self.engine.count_of(_HELD)
        return self._made(Loaded(inserted=ended + new, updated=ended, merged=changed - ended))

    def _made(self, counts: Loaded) -> Changes:
        return Changes(
            table=self.history,
            source_id=self.batch.source_id,
            rows=_VERSIONS,
            replaced=_CHANGED,
            gone=None,
            counts=counts,
            state=self.batch,
        )

    def _find_held(self) -> None:
        """Match the keys alone, as the comparison with the table does."""
        row_id = self.engine.row_id
        self.engine.temporary(
            _HELD,
            f"SELECT s.{row_id} AS staged_row, h.{row_id} AS target_row FROM {self.own.rows} s"
            f" JOIN {self.engine.name(self.history)} h"
            f" ON s.__sync_key = h.__sync_key AND s.__source_id = h.__source_id WHERE {_HOLDS}",
            by_index=True,
        )

    def _find_changed(self) -> None:
        """Find versions that end, from when on the next one holds, and whether that is deleted."""
        row_id, same = self.engine.row_id, sql.same_contents(self.batch.table, "s", "h")
        statement = (
            "SELECT c.staged_row, c.target_row, h.__sync_key, h.valid_from AS began,"
            f" {_start('s.__synced_at')} AS starts, false AS is_gone"
            f" FROM {_HELD} c JOIN {self.own.rows} s ON s.{row_id} = c.staged_row"
            f" JOIN {self.engine.name(self.history)} h ON h.{row_id} = c.target_row"
            f" WHERE h.is_deleted OR ({same}) IS NOT TRUE"
        )
        if self._tells_deleted:
            statement += (
                f" UNION ALL SELECT h.{row_id}, h.{row_id}, h.__sync_key, h.valid_from,"
                f" {_start('b.synced_at')}, true"
                f" FROM {self.engine.name(self.history)} h"
                " CROSS JOIN (SELECT ?::TIMESTAMPTZ AS synced_at) b"
                f" WHERE h.__source_id = ? AND {_HOLDS} AND NOT h.is_deleted AND NOT EXISTS"
                f" (SELECT 1 FROM {SEEN_KEYS} seen WHERE seen.__sync_key = h.__sync_key)"
            )
        parameters = [self.batch.synced_at, self.batch.source_id] if self._tells_deleted else []
        by_index = not self._tells_deleted
        self.engine.temporary(_CHANGED, statement, parameters, by_index=by_index)

    @property
    def _tells_deleted(self) -> bool:
        """Whether rows that the batch has not found are deleted; too many are not believed."""
        return self.batch.deletes is not None and not self.own.counts.removal_refused

    def _settle_alike(self) -> None:
        """
        Let a version hold for a moment where without it the ones before and after are alike.

        That needs a look at the one before only where a version would take another's place.
        """
        found = self.engine.rows(f"SELECT __sync_key FROM {_CHANGED} WHERE starts = began")
        if not found:
            return
        keys = tuple(key for (key,) in found)
        selection = Selection(self.batch.source_id, Values("__sync_key", keys))
        self.engine.stage_more(self.history, selection)
        row_id, name = self.engine.row_id, self.engine.name(self.history)
        same = sql.same_contents(self.batch.table, "s", "p")
        same_as_held = sql.same_contents(self.batch.table, "h", "p", has_stamps=False)
        before = (
            f" JOIN {name} h ON h.{row_id} = c.target_row JOIN {name} p"
            " ON p.__source_id = h.__source_id AND p.__sync_key = h.__sync_key"
            " AND p.valid_to = h.valid_from"
        )
        self.engine.temporary(
            _ALIKE,
            f"SELECT c.target_row FROM {_CHANGED} c{before}"
            f" JOIN {self.own.rows} s ON s.{row_id} = c.staged_row"
            f" WHERE c.starts = c.began AND NOT c.is_gone AND NOT p.is_deleted AND ({same})"
            f" UNION ALL SELECT c.target_row FROM {_CHANGED} c{before}"
            f" WHERE c.starts = c.began AND c.is_gone AND p.is_deleted AND ({same_as_held})",
        )
        self.engine.execute(
            f"UPDATE {_CHANGED} SET starts = began + {_A_MOMENT}"
            f" WHERE target_row IN (SELECT target_row FROM {_ALIKE})"
        )

    def _make_versions(self) -> None:
        """Write the ends of versions, and those that begin, as rows of the history."""
        row_id, history = self.engine.row_id, self.engine.name(self.history)
        staged, held = self._columns("s"), self._columns("h")
        deleted = self._columns("h", synced_at="c.starts")
        of_changed = f"FROM {_CHANGED} c JOIN {history} h ON h.{row_id} = c.target_row"
        self.engine.temporary(
            _VERSIONS,
            f"SELECT {held}, h.valid_from, c.starts AS valid_to, h.is_deleted"
            f" {of_changed} WHERE c.starts > c.began"
            f" UNION ALL SELECT {staged}, c.starts, {sql.NO_TIME}, false FROM {_CHANGED} c"
            f" JOIN {self.own.rows} s ON s.{row_id} = c.staged_row WHERE NOT c.is_gone"
            f" UNION ALL SELECT {deleted}, c.starts, {sql.NO_TIME}, true"
            f" {of_changed} WHERE c.is_gone"
            f" UNION ALL SELECT {staged}, s.__synced_at, {sql.NO_TIME}, false"
            f" FROM {self.own.rows} s WHERE NOT EXISTS"
            f" (SELECT 1 FROM {_HELD} c WHERE c.staged_row = s.{row_id})",
            by_index=True,
        )

    def _columns(self, relation: str, synced_at: str | None = None) -> str:
        """Name the columns that a version has of its row."""
        given = {"__synced_at": synced_at} if synced_at else {}
        names = [c.name for c in self.history.all_columns if c not in VALIDITY]
        return ", ".join(
            f"{given.get(name, f'{relation}.{sql.quoted(name)}')} AS {sql.quoted(name)}"
            for name in names
        )


def _start(at: str) -> str:
    """Write when a version begins that came *at* a time, while *h* holds."""
    return f"CASE WHEN {at} >= h.valid_from THEN {at} ELSE h.valid_from + {_A_MOMENT} END"
