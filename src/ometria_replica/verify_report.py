"""The report of a verification, as data, text and JSON: counts and keys, and never a value."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ometria_replica.json_documents import as_json, plain_document
from ometria_replica.text import aligned, counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

SHOWN_KEYS = 5  # Of each kind, in the text.

_COUNTS = ("checked", "missing", "stale", "extra", "newer", "gone")


@dataclass(frozen=True)
class Differing:
    """
    A row that differs: *kind* is ``missing``, ``stale``, ``extra`` or ``newer``.

    *columns* are the names of those that differ. *id* is Ometria's id, of records that are no
    people.
    """

    kind: str
    sync_key: str
    columns: tuple[str, ...]
    id: str | None = None


@dataclass(frozen=True)
class TableVerified:
    """
    What a verification found in one table of one source.

    *parts* of *parts_total* were read: pages, lists, windows or files, as *unit* says. *checked*
    rows were compared. *missing* rows are not in the warehouse; *stale* ones have other contents,
    in *columns*; *extra* ones are of no record of Ometria, or have the key of another row.
    *newer* rows differ, and may have changed in Ometria since the last sync: the next one reads
    them. The records of *gone* rows are gone in Ometria, as is usual. *repaired* rows are missing
    or stale no more, or were removed; the other counts are without them. *unreadable* files were
    loaded, and cannot be read now; *waiting* ones no sync has loaded. *differences* are the first
    of each kind.
    """

    source_id: str
    table: str
    unit: str = ""
    parts: int = 0
    parts_total: int = 0
    requests: int = 0
    checked: int = 0
    missing: int = 0
    stale: int = 0
    extra: int = 0
    newer: int = 0
    gone: int = 0
    repaired: int = 0
    unreadable: tuple[str, ...] = ()
    waiting: int = 0
    columns: tuple[str, ...] = ()
    differences: tuple[Differing, ...] = ()
    remarks: tuple[str, ...] = ()
    seconds: float = 0.0
    error: str | None = None

    @property
    def differing(self) -> int:
        """How many rows and files are not as Ometria sent them."""
        return self.missing + self.stale + self.extra + len(self.unreadable)


@dataclass(frozen=True)
class VerifyReport:
    """
    The report of a verification. *share* is that of the sample; None if all was read.

    *not_verified* names the tables that were left out, and why.
    """

    version: str
    warehouse: str
    started_at: datetime
    finished_at: datetime
    seed: int
    share: float | None
    repairs: bool
    tables: tuple[TableVerified, ...]
    warnings: tuple[str, ...] = ()
    not_verified: tuple[str, ...] = ()

    @property
    def differing(self) -> int:
        """How many rows and files are not as Ometria sent them."""
        return sum(table.differing for table in self.tables)

    @property
    def newer(self) -> int:
        """How many rows may have changed in Ometria since the last sync; also files that wait."""
        return sum(table.newer + table.waiting for table in self.tables)

    @property
    def requests(self) -> int:
        """Requests sent to Ometria, including retries."""
        return sum(table.requests for table in self.tables)

    def to_dict(self) -> dict[str, Any]:
        """Convert the report to plain data: the document of ``verify --json``."""
        return plain_document("verify", asdict(self))

    def to_json(self) -> str:
        """Write the report as a JSON document."""
        return as_json(self.to_dict())

    def to_text(self) -> str:
        """Write the report as text."""
        seconds = (self.finished_at - self.started_at).total_seconds()
        what = "all" if self.share is None else f"a sample ({self.share:.3g}, seed {self.seed})"
        head = (
            f"Compared {what} with {self.warehouse} in {seconds:.1f} s,"
            f" with {counted(self.requests, 'request')}."
        )
        lines = [head, "", *aligned([_heads(), *map(self._line, self.tables)], left=2), ""]
        for table in self.tables:
            lines += [f"{self._name(table)}: {text}" for text in _explained(table)]
        lines += [f"Not verified: {each}." for each in self.not_verified]
        lines += [f"Warning: {each}" for each in self.warnings]
        lines.append(self._verdict())
        return "\n".join(lines)

    def _verdict(self) -> str:
        if any(table.error for table in self.tables):
            return "Not all could be read."
        if self.differing:
            return f"{counted(self.differing, 'row or file', 'rows and files')} differ."
        if not self.tables:
            return "Nothing was verified."
        if self.newer:
            rows = counted(self.newer, "row or file", "rows and files")
            return f"No row is wrong; {rows} may be newer, and the next sync reads them."
        return "Every row that was compared is as Ometria and the export have it."

    def _name(self, table: TableVerified) -> str:
        several = len({each.source_id for each in self.tables}) > 1
        return f"{table.source_id} {table.table}" if several else table.table

    def _line(self, table: TableVerified) -> list[str]:
        read = read_of(table.parts, table.parts_total, table.unit)
        counts = [f"{getattr(table, name):,}" for name in _COUNTS]
        return [self._name(table), read, *counts]


def read_of(parts: int, total: int, unit: str) -> str:
    """Say how many parts of a table are read."""
    return "all" if parts == total else f"{parts:,} of {counted(total, unit)}"


def _heads() -> list[str]:
    return ["table", "read", *_COUNTS]


def _explained(table: TableVerified) -> Iterator[str]:
    if table.error is not None:
        yield f"failed: {table.error}"
    if table.repaired:
        yield f"{counted(table.repaired, 'row was', 'rows were')} repaired."
    if table.columns:
        yield f"stale in {', '.join(table.columns)}."
    for kind in ("missing", "stale", "extra", "newer"):
        found = [each for each in table.differences if each.kind == kind]
        for each in found[:SHOWN_KEYS]:
            of = f" of {each.id}" if each.id else ""
            where = f", in {', '.join(each.columns)}" if each.columns else ""
            yield f"{kind}: {each.sync_key}{of}{where}"
        number = getattr(table, kind)
        if number > SHOWN_KEYS:
            yield f"{kind}: {number - SHOWN_KEYS:,} more; --json names up to 100."
    if table.waiting:
        yield f"{counted(table.waiting, 'file waits', 'files wait')} for the next sync."
    for name in table.unreadable:
        yield f"the file {name} was loaded, and cannot be read now."
    yield from (f"{remark}." for remark in table.remarks)
