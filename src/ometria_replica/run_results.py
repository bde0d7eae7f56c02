"""What a run did: the results of each account, which are joined at its end."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ometria_replica.errors import ReplicaError, WarehouseError
from ometria_replica.log_context import logging_for, remember_context
from ometria_replica.report import TableReport

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ometria_replica.errors import OmetriaError

logger = logging.getLogger(__name__)


@dataclass
class Results:
    """
    The results of one account, or of a part of it that is read by a thread of its own.

    Only one thread at a time writes them. *not_read* are a source, a table of it, and the reason.
    *bugs* are errors of libraries. *refusals* are why optional tables could not be read, by name,
    None for each other table that was. *is_broken* says that an error ended the reading. *parts*
    are the results of other threads of the account. *source_id* is None for those that are no
    account's.
    """

    source_id: str | None = None
    tables: list[TableReport] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    not_read: list[tuple[str | None, str, str]] = field(default_factory=list)
    errors: list[ReplicaError] = field(default_factory=list)
    bugs: list[BaseException] = field(default_factory=list)
    refusals: dict[str, OmetriaError | None] = field(default_factory=dict)
    is_broken: bool = False
    parts: list[Results] = field(default_factory=list)

    def part(self) -> Results:
        """Make the results of another thread, which belong to these."""
        self.parts.append(Results(self.source_id))
        return self.parts[-1]

    def join_parts(self) -> None:
        """Take over what other threads have done; they have ended."""
        parts, self.parts = self.parts, []
        for part in parts:
            self.add(part)

    def add(self, other: Results) -> None:
        """Add what *other* holds, behind what is here."""
        self.tables += other.tables
        self.warnings += other.warnings
        self.not_read += other.not_read
        self.errors += other.errors
        self.bugs += other.bugs
        self.refusals |= other.refusals
        self.is_broken = self.is_broken or other.is_broken

    @property
    def all_errors(self) -> list[ReplicaError]:
        """The errors, with those of the parts."""
        return joined_results([self]).errors

    def warn_once(self, text: str) -> None:
        """Add a warning, unless it is there."""
        if text not in self.warnings:
            self.warnings.append(text)

    def leave_out(self, table_name: str, reason: str) -> None:
        """Note that a table is not read."""
        self.not_read.append((self.source_id, table_name, reason))

    def add_expired(self, table_name: str, rows: int) -> None:
        """Count rows that were removed for their age, also of a table that was not read."""
        for place, report in enumerate(self.tables):
            if report.table == table_name:
                self.tables[place] = replace(report, expired=report.expired + rows)
                return
        self.tables.append(TableReport(self.source_id or "", table_name, expired=rows))

    @contextmanager
    def naming(self, source_id: str, *, several: bool) -> Iterator[None]:
        """Let log lines of the block name the account, and its errors if there are *several*."""
        before = len(self.errors)
        named = source_id if several else None
        with logging_for(account=source_id):
            try:
                yield
            except ReplicaError as error:
                error.source_id = named
                raise
            finally:
                for failure in self.all_errors[before:]:
                    failure.source_id = named
                    remember_context(failure)

    @contextmanager
    def after_failure(self) -> Iterator[None]:
        """Report why the warehouse failed first, and not that it fails again in the block."""
        try:
            yield
        except WarehouseError as error:
            if not any(isinstance(earlier, WarehouseError) for earlier in self.errors):
                raise
            logger.info("%s", error)

    def left_out(self) -> list[str]:
        """Say which tables were not read, those for one reason together."""
        alike: dict[tuple[str | None, str], list[str]] = {}
        for source_id, table_name, reason in self.not_read:
            alike.setdefault((source_id, reason), []).append(table_name)
        return [
            f"{', '.join(names)} of {source_id}: {reason}"
            for (source_id, reason), names in alike.items()
        ]


def joined_results(results: Iterable[Results]) -> Results:
    """Join results in their order, each with its parts; they may still be written."""
    joined = Results()
    for each in results:
        for part in (each, *each.parts):
            joined.add(part)
    return joined


def in_order(tables: Sequence[TableReport], names: Sequence[str]) -> tuple[TableReport, ...]:
    """Order the tables of each account as in *names*; others stay behind them, in their order."""
    sources = list(dict.fromkeys(table.source_id for table in tables))
    places = {name: place for place, name in enumerate(names)}
    return tuple(
        sorted(
            tables,
            key=lambda each: (sources.index(each.source_id), places.get(each.table, len(places))),
        )
    )
