# ruff: noqa: D401 -- A defect's docstring describes it, and the documentation quotes it.
"""The seeded defects of further and nested tables, of records and of histories."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ometria_replica import sql
from ometria_replica.ometria.account_source import AccountSource
from ometria_replica.ometria.growing_collections import GrowingReading
from ometria_replica.schema import RAW_SCHEMA
from ometria_replica.warehouse import history_versions
from ometria_replica.warehouse.comparison import _PartComparison
from ometria_replica.warehouse.history_versions import _Versions
from tests.faults.child import patch
from tests.faults.data_defects import DEFECTS
from tests.faults.defects import _execute_unless, defect

if TYPE_CHECKING:
    from ometria_replica.warehouse.changes import Changes
    from ometria_replica.ways_to_read import Growing

__all__ = ["DEFECTS"]


@defect
def changes_not_asked_for() -> None:
    """Of a collection that grows, what was added is read, and what has changed is not."""
    patch(GrowingReading, "_changed", lambda *_: iter(()))


@defect
def first_collection_only() -> None:
    """Of several collections of contacts, the first is read."""
    original = AccountSource._branches

    def branches(self: AccountSource, growing: Growing) -> Any:
        return original(self, growing)[:1]

    patch(AccountSource, "_branches", branches)


@defect
def rows_left_inside() -> None:
    """What a record no longer has inside it stays."""
    patch(_PartComparison, "_no_longer_inside", lambda _: [])


@defect
def records_of_the_first_copy() -> None:
    """Of a row that changes, the record of its first copy stays."""
    original = _PartComparison.changes

    def changes(self: _PartComparison) -> Changes:
        found = original(self)
        if self.table.schema != RAW_SCHEMA:
            return found
        self.engine.temporary(
            "first_copies",
            f"SELECT * FROM {found.rows} WHERE __sync_key NOT IN"
            f" (SELECT __sync_key FROM {self.engine.name(self.table)})",
        )
        self.engine.temporary(
            "none_replaced", "SELECT NULL AS staged_row, NULL AS target_row WHERE 1 = 0"
        )
        return replace(found, rows="first_copies", replaced="none_replaced")

    patch(_PartComparison, "changes", changes)


@defect
def records_twice() -> None:
    """The record of a row that changes is added to the one that is there."""
    _execute_unless('DELETE FROM "warehouse"."ometria_raw"')


@defect
def version_of_each_load() -> None:
    """Each load of a row makes a version, whether the row has changed or not."""

    class AsIfChanged:
        def __getattr__(self, name: str) -> Any:
            return getattr(sql, name)

        def same_contents(self, *_: Any, **__: Any) -> str:
            return "false"

    patch(history_versions, "sql", AsIfChanged())


@defect
def versions_overwritten() -> None:
    """A changed row takes the place of its last version, and begins when that began."""
    patch(history_versions, "_start", lambda _: "h.valid_from")


@defect
def deleted_rows_hold_on() -> None:
    """The version of a row whose record was deleted does not end."""
    patch(_Versions, "_tells_deleted", property(lambda _: False))
