# ruff: noqa: D401 -- A defect's docstring describes it, and the documentation quotes it.
"""The seeded defects of :mod:`tests.faults.odd_data`."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ometria_replica.mapping import readers, select
from ometria_replica.mapping.file_staging import FileStaging
from ometria_replica.ometria import export, start_times
from ometria_replica.ometria.start_times import REFRESHED_AT, Refreshed
from ometria_replica.ometria.times import time_of
from ometria_replica.records import field_text
from ometria_replica.warehouse.lost_rows import LostRows
from tests.faults.child import patch
from tests.faults.defects import DEFECTS, defect

if TYPE_CHECKING:
    from datetime import datetime

    from ometria_replica.records import Record

__all__ = ["DEFECTS"]


@defect
def open_quote_takes_the_rest() -> None:
    """A quote that is never closed takes in the lines after it, as one rejected line."""
    original = FileStaging._read_csv

    def read(self: FileStaging, files: Any, synced_at: Any, **_: bool) -> int:
        return original(self, files, synced_at, are_whole=True)

    patch(FileStaging, "_read_csv", read)


@defect
def headers_are_records() -> None:
    """A header in the middle of a file is a record, and does not name the columns after it."""
    patch(readers, "without_headers", lambda *_: "")


@defect
def bytes_are_escaped() -> None:
    """Text in Parquet that is not marked as UTF-8 is loaded as escapes."""
    patch(readers, "_as_text", lambda column, _kind: f"{column}::VARCHAR")


@defect
def zones_guessed() -> None:
    """The name of a zone is looked up, and of several zones of that name one is taken."""
    guessed = {"timestamptz": "try_cast({text} AS TIMESTAMPTZ)"}
    patch(select, "_CONVERSIONS", {**select._CONVERSIONS, **guessed})


@defect
def young_files_read() -> None:
    """A file is read although it was written a moment ago."""
    patch(export.ExportFiles, "_is_young", lambda *_: False)


@defect
def one_day_of_overlap() -> None:
    """Profiles are requested from one day before the watermark."""
    patch(start_times, "OVERLAP", timedelta(days=1))


@defect
def refreshes_compared_with_the_watermark() -> None:
    """The changes of a list are requested only if its refresh is newer than the last run."""
    original = Refreshed.since

    def since(self: Refreshed, record: Record) -> datetime | None:
        refreshed_at = time_of(record, REFRESHED_AT)
        seen = {field_text(record, "id") or "": refreshed_at} if refreshed_at else {}
        return original(replace(self, state=replace(self.state, refreshed=seen)), record)

    patch(Refreshed, "since", since)


@defect
def state_believed() -> None:
    """A table is not read again although its rows are gone."""
    patch(LostRows, "of", lambda *_: iter(()))
