# ruff: noqa: S311  # Seeded randomness is the point; nothing here is a secret.
"""The self-serve export: files of mail events that overlap, repeat, change and break."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

from ometria_simulator.dialect import Cells, Dialect, compress
from ometria_simulator.storage import S3Access, open_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from ometria_simulator.account import Account
    from ometria_simulator.records import EmailEvent
    from ometria_simulator.storage import Storage

_MAINTENANCE = b"<!DOCTYPE html><html><body><h1>503 Service Unavailable</h1></body></html>\n"
_JUNK = bytes(range(256)) * 64


@dataclass(frozen=True, slots=True)
class Delivered:
    """
    One record of a file.

    ``cells`` has the exact text of each column, None for null. ``position`` is the number
    of the record from 1, without the header, and ``version`` that of the file from 1.
    """

    cells: Cells
    file: str
    position: int
    modified_at: datetime
    version: int = 1


@dataclass(slots=True)
class _File:
    rows: list[Cells]
    version: int = 0
    modified_at: datetime | None = None


@dataclass(slots=True)
class Feed:
    """
    Writes an account's events to a folder or to ``s3://bucket/prefix``.

    Each export contains the events that became available since the previous export, the
    last ``redelivered`` events of that export again, and one event in a thousand twice.
    ``delivered`` has all records ever written, ``present`` those in the current files.
    """

    account: Account
    target: str | Path
    dialect: Dialect = field(default_factory=Dialect)
    s3: S3Access | None = None
    rows_per_file: int = 50_000
    redelivered: int = 20
    duplicate_share: float = 0.001
    seed: int = 7
    delivered: list[Delivered] = field(default_factory=list)
    _files: dict[str, _File] = field(default_factory=dict)
    _done: int = 0
    _number: int = 0
    _storage: Storage = field(init=False)
    _random: Random = field(init=False)

    def __post_init__(self) -> None:
        """Open the target. Raises StorageError."""
        self._storage = open_storage(self.target, self.s3)
        self._random = Random(self.seed)

    @property
    def present(self) -> list[Delivered]:
        """The records in the current files, in the order of file names and lines."""
        return [
            record
            for record in sorted(self.delivered, key=lambda record: (record.file, record.position))
            if record.file in self._files and record.version == self._files[record.file].version
        ]

    # Exporting

    def export(self) -> list[str]:
        """Write the events that are new since the last export; without news, write no file."""
        events, moment = self._take_new(), self.account.now
        if not events:
            return []
        return self._write_all(self._overlapping(events), moment)

    def export_history(self, *, files_per_day: float = 1 / 7) -> list[str]:
        """Write all available events in regular exports, by default once a week."""
        names: list[str] = []
        period = timedelta(days=1) / files_per_day
        batch: list[EmailEvent] = []
        end: datetime | None = None
        for event in self._take_new():
            end = end or event.available_at + period
            if event.available_at >= end:
                names += self._write_all(batch, end)
                batch = batch[-self.redelivered :] if self.redelivered else []
                while event.available_at >= end:
                    end += period
            batch.append(event)
        if batch and end:
            names += self._write_all(batch, min(end, self.account.now))
        return names

    def export_empty(self) -> str:
        """Write a file without records, with a header if the dialect has one."""
        return self._write(self._new_name(self.account.now), [], self.account.now)

    def export_events(self, events: Iterable[EmailEvent]) -> list[str]:
        """Write exactly these events, regardless of earlier exports."""
        return self._write_all(list(events), self.account.now)

    # Disturbing

    def rewrite(self, name: str, change: Callable[[Cells], Cells] | None = None) -> str:
        """
        Replace a file by one with *change* applied to every record.

        By default, campaign titles get a suffix, as after an edit in the app.
        """
        rows = [dict(row) for row in self._files[name].rows]
        if change is None:
            for row in rows:
                if row.get("campaign_title"):
                    row["campaign_title"] = f"{row['campaign_title']} (edited)"
        else:
            rows = [self.dialect.as_written(change(row)) for row in rows]
        return self._write(name, rows, self.account.now)

    def write_again(self, name: str) -> str:
        """Write the same bytes again: only the modification time changes."""
        return self._write(name, self._files[name].rows, self.account.now)

    def export_partial(self, share: float = 0.5) -> str:
        """Write only the first part of the next export, as during an upload."""
        name, rows = self._next_rows()
        data = self.dialect.encode(rows)
        self._files[name] = _File(rows)
        self._storage.write(name, data[: int(len(data) * share)], self.account.now)
        return name

    def complete(self, name: str) -> str:
        """Complete a partial or poisoned file."""
        return self._write(name, self._files[name].rows, self.account.now)

    def export_truncated_gzip(self) -> str:
        """Write the next export as truncated gzip, in any dialect."""
        name, rows = self._next_rows()
        data = replace(self.dialect, compression=None).encode(rows)
        packed = compress(data, "gzip", name)
        return self.poison(name, packed[: len(packed) * 2 // 3], rows)

    def export_html(self) -> str:
        """Write an HTML error page under the name of the next export."""
        name, rows = self._next_rows()
        return self.poison(name, _MAINTENANCE, rows)

    def export_junk(self) -> str:
        """Write meaningless bytes under the name of the next export."""
        name, rows = self._next_rows()
        return self.poison(name, _JUNK, rows)

    def poison(self, name: str, data: bytes, rows: list[Cells] | None = None) -> str:
        """Write *data* as file *name*; :meth:`complete` replaces it by the correct contents."""
        file = self._files.setdefault(name, _File(rows or []))
        file.version += 1
        self._storage.write(name, data, self.account.now)
        return name

    def delete(self, name: str) -> None:
        """Delete a file, as a lifecycle rule of a bucket does."""
        self._storage.delete(name)
        del self._files[name]

    def read(self, name: str) -> bytes:
        """Return the bytes of a file."""
        return self._storage.read(name)

    # Writing

    def _take_new(self) -> list[EmailEvent]:
        events = self.account.events
        new, self._done = events[self._done :], len(events)
        return new

    def _overlapping(self, events: list[EmailEvent]) -> list[EmailEvent]:
        first = self._done - len(events)
        before = self.account.events[max(0, first - self.redelivered) : first]
        return [*before, *events]

    def _next_rows(self) -> tuple[str, list[Cells]]:
        name = self._new_name(self.account.now)
        return name, self._rows(self._overlapping(self._take_new()))

    def _rows(self, events: Sequence[EmailEvent]) -> list[Cells]:
        rows: list[Cells] = []
        for event in events:
            row = self.dialect.as_written(event.cells(self.dialect.timestamp_form))
            rows.append(row)
            if self._random.random() < self.duplicate_share:
                rows.append(dict(row))
        return rows

    def _write_all(self, events: Sequence[EmailEvent], moment: datetime) -> list[str]:
        rows = self._rows(events)
        return [
            self._write(self._new_name(moment), rows[start : start + self.rows_per_file], moment)
            for start in range(0, len(rows), self.rows_per_file)
        ]

    def _write(self, name: str, rows: list[Cells], moment: datetime) -> str:
        modified_at = self._storage.write(name, self.dialect.encode(rows), moment)
        file = self._files.setdefault(name, _File(rows))
        file.rows, file.modified_at, file.version = rows, modified_at, file.version + 1
        self.delivered += [
            Delivered(cells, name, position, modified_at, file.version)
            for position, cells in enumerate(rows, 1)
        ]
        return name

    def _new_name(self, moment: datetime) -> str:
        self._number += 1
        return self.dialect.name.format(
            moment=moment, number=self._number, extension=self.dialect.extension
        )
