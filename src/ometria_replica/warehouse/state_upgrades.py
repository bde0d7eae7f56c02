"""
The version of the state's layout, and how an older layout is read and upgraded.

Version 1 is the layout before there were versions, version 2 had no treatments of columns and no
erasures, and version 3 no records that are kept: an older program would not heed them. A newer
program upgrades an older state in one transaction; an older program refuses a newer state.
Commands that only read see an older layout as if it were upgraded, and leave it alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica.errors import WarehouseError
from ometria_replica.failpoints import step
from ometria_replica.schema import StateTable
from ometria_replica.version import __version__
from ometria_replica.warehouse.state_tables import (
    DELETED_UPSTREAM,
    STATE_TABLES,
    VERSION,
    WATERMARKS,
)

if TYPE_CHECKING:
    from datetime import datetime

    from ometria_replica.warehouse.engines.base import Engine

STATE_VERSION = 4


@dataclass(frozen=True)
class Replaced:
    """A state table *old* of an earlier version, whose rows *query* turns into those of *new*."""

    old: StateTable
    new: StateTable
    query: str

    def rows(self, engine: Engine) -> str:
        """Write the query, with the old table's name in full."""
        return self.query.format(old=engine.name(self.old))


_MARKS = StateTable(
    "marks",
    tuple(("mark" if name == "kind" else name, kind) for name, kind in WATERMARKS.columns),
    key=("source_id", "table_name", "mark"),
)
_MISSING = StateTable("missing", DELETED_UPSTREAM.columns, DELETED_UPSTREAM.key)

_UPGRADES = (
    Replaced(
        _MARKS,
        WATERMARKS,
        "SELECT source_id, table_name, CASE WHEN mark = 'whole' THEN 'full_read'"
        " WHEN starts_with(mark, 'unread ') THEN 'retry ' || substr(mark, 8) ELSE mark END AS kind,"
        " reached_at, run_id FROM {old}",
    ),
    Replaced(
        _MISSING,
        DELETED_UPSTREAM,
        f"SELECT {', '.join(DELETED_UPSTREAM.column_names)} FROM {{old}}",
    ),
)
"""Of version 1. Later versions only add tables."""

OLD_TABLES = tuple(each.old for each in _UPGRADES)
"""The tables of earlier versions that this version has no longer."""


def refuse_newer(engine: Engine) -> None:
    """Raise WarehouseError if a newer program has upgraded the state."""
    version = version_of(engine)
    if version is not None and version > STATE_VERSION:
        raise WarehouseError(
            f"The state in {engine.place} has version {version}, and this program"
            f" ({__version__}) knows versions up to {STATE_VERSION}. Nothing was changed."
            " Install a newer ometria-replica."
        )


def version_of(engine: Engine) -> int | None:
    """Read the version of the state; None if there is no state yet."""
    if engine.exists(VERSION):
        ((version,),) = engine.rows(f"SELECT max(version) FROM {engine.name(VERSION)}")
        if version is not None:
            return int(version)
    return 1 if any(engine.exists(table) for table in OLD_TABLES) else None


def upgrade(engine: Engine, now: datetime) -> None:
    """
    Bring the state to this version, all tables of which exist. Belongs into one transaction.

    An upgrade that was interrupted between tables, where there are no transactions, is repeated.
    Of two at the same time the second finds nothing to do.
    """
    for table in (VERSION, *(each.new for each in _UPGRADES)):
        if version_of(engine) == STATE_VERSION:
            return
        engine.lock(table)
    with step("upgrade"):
        for each in _UPGRADES:
            if engine.exists(each.old):
                new = engine.name(each.new)
                engine.execute(f"DELETE FROM {new}")
                columns = ", ".join(each.new.column_names)
                engine.execute(f"INSERT INTO {new} ({columns}) {each.rows(engine)}")
                engine.drop_table(each.old)
        engine.replace(VERSION, [STATE_VERSION, __version__, now])


@dataclass
class Layout:
    """Names the relations that hold the state's rows, whatever the version of the state."""

    engine: Engine
    _is_current: bool = False

    def readable(self, table: StateTable) -> str:
        """Name a state table, or write the query for it; a table that is missing is empty."""
        if not self._is_current:
            version = version_of(self.engine)
            # All tables exist then, unless a user has dropped one.
            self._is_current = version == STATE_VERSION and all(
                self.engine.exists(each) for each in STATE_TABLES
            )
            if version == 1:
                for each in _UPGRADES:
                    if each.new is table:
                        return f"({each.rows(self.engine)}) AS {table.name}"
        if self._is_current or self.engine.exists(table):
            return self.engine.name(table)
        columns = ", ".join(
            f"CAST(NULL AS {self.engine.types[kind]}) AS {name}" for name, kind in table.columns
        )
        return f"(SELECT {columns} WHERE 1 = 0) AS {table.name}"
