"""What a verification reads: all of each table, or parts that are chosen at random."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random
from secrets import randbelow
from typing import TYPE_CHECKING, TypeVar

from ometria_replica.errors import ConfigError
from ometria_replica.ometria.collection import PAGE_SIZE
from ometria_replica.ometria.page_overlap import overlap_of
from ometria_replica.ometria.request_counts import OF_A_WINDOW, of_pages, of_windows
from ometria_replica.ometria.samples import Stretch, stretches_of
from ometria_replica.selection import Selection, Span, Times
from ometria_replica.ways_to_read import Feed, Pages, PerParent, Windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ometria_replica.batch import TableState
    from ometria_replica.catalog import Catalog
    from ometria_replica.records import FeedObject
    from ometria_replica.schema import Table
    from ometria_replica.warehouse.warehouse import Warehouse

Part = TypeVar("Part")

DEFAULT_SHARE = 0.05
_STRIDE = PAGE_SIZE - overlap_of(PAGE_SIZE)
_OF_A_LIST = OF_A_WINDOW  # Requests of most.
_FIRST_YEAR = 2010


def share_to_read(everything: bool, share: float | None, requests: int | None) -> float | None:
    """
    Return the share of each table to read; None for all of it, or as much as *requests* allow.

    Raises ConfigError for a *share* that is none, and for one beside *everything*.
    """
    if everything and share is not None:
        raise ConfigError(
            "All (--all) and a share (--sample) exclude each other. Leave out one of them."
        )
    if share is not None and not 0 < share <= 1:
        raise ConfigError("A share (--sample) is above 0, and at most 1.")
    if everything or (requests and share is None):
        return None
    return share or DEFAULT_SHARE


def random_seed() -> int:
    """Draw a seed, short enough to be typed."""
    return randbelow(1_000_000)


@dataclass
class Budget:
    """Counts the requests of a verification; *most* None: any number."""

    most: int | None
    used: int = 0
    stopped: bool = False

    def allows(self, requests: int = 0) -> bool:
        """Whether another request may be sent, if the current account has sent *requests*."""
        if self.most is None or self.used + requests < self.most:
            return True
        self.stopped = True
        return False


@dataclass(frozen=True)
class Sample:
    """
    Which parts are chosen: a *share* of them, at least one of each table; None for all.

    The same *seed* chooses the same, as long as the account has as many.
    """

    share: float | None
    seed: int

    def choose(self, parts: Sequence[Part], source_id: str, table_name: str) -> list[Part]:
        """Choose from *parts*, in their order."""
        if self.share is None:
            return list(parts)
        random = Random(f"{self.seed} {source_id} {table_name}")  # noqa: S311 -- no secret.
        number = min(len(parts), max(1, round(self.share * len(parts))))
        return [parts[place] for place in sorted(random.sample(range(len(parts)), number))]


@dataclass(frozen=True)
class Plan:
    """
    What is to be read of one table: so many *parts* of *total*, by about so many *requests*.

    *is_whole* says that the table can only be read, or is to be read, as a whole. *offsets* are
    those of chosen pages, *stretches* chosen windows, *files* chosen files. Which lists are chosen
    is known when the lists are read. *state* is the table's before anything was read.
    """

    table: Table
    state: TableState
    unit: str
    total: int
    parts: int
    requests: int = 0
    is_whole: bool = False
    offsets: tuple[int, ...] = ()
    stretches: tuple[Stretch, ...] = ()
    files: tuple[FeedObject, ...] = ()

    @property
    def bytes(self) -> int:
        """The size of the files in the bucket."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class Planner:
    """Plans what is read of the tables of one source. *now* is the time of the start."""

    warehouse: Warehouse
    source_id: str
    sample: Sample
    catalog: Catalog
    now: datetime

    def plan(self, table: Table, state: TableState, files: Sequence[FeedObject] = ()) -> Plan:
        """Plan one table, of whose export *files* were loaded. Nothing is requested."""
        share = self.sample.share
        match table.read:
            case Feed():
                chosen = self._chosen(table, files)
                return Plan(table, state, "file", len(files), len(chosen), files=tuple(chosen))
            case PerParent() as per_parent:
                lists = self._rows_of(per_parent.parent)
                number = lists if share is None else min(lists, max(1, round(share * lists)))
                plan = Plan(table, state, "list", lists, number, _OF_A_LIST * number)
                return replace(plan, is_whole=share is None)
            case Windows() if share is None:
                requests = of_windows(self._rows(table))
                return Plan(table, state, "table", 1, 1, requests, is_whole=True)
            case Windows():
                windows = self._windows(table)
                stretches = tuple(self._chosen(table, windows))
                return Plan(
                    table, state, "window", len(windows), len(stretches),
                    OF_A_WINDOW * len(stretches), stretches=stretches,
                )  # fmt: skip
            case Pages(pages=True) if share is not None:
                offsets = range(0, max(1, self._rows(table)), _STRIDE)
                chosen_offsets = tuple(self._chosen(table, offsets))
                number = len(chosen_offsets)
                return Plan(
                    table, state, "page", len(offsets), number, number, offsets=chosen_offsets
                )
            case _:
                pages = of_pages(max(1, self._rows(table)))
                return Plan(table, state, "table", 1, 1, pages, is_whole=True)

    def _chosen(self, table: Table, parts: Sequence[Part]) -> list[Part]:
        return self.sample.choose(parts, self.source_id, table.name)

    def _rows(self, table: Table) -> int:
        return self.warehouse.count(table, Selection(self.source_id))

    def _rows_of(self, parent: Pages) -> int:
        """Count the parents, as far as they are a table too."""
        found = (table for table in self.catalog if table.read == parent)
        return sum(self._rows(table) for table in found)

    def _windows(self, table: Table) -> list[Stretch]:
        """Part the time since the first year with rows into windows."""
        first = datetime(self._first_year(table), 1, 1, tzinfo=UTC)
        if table.oldest is not None:
            first = max(first, table.oldest)
        return stretches_of(first, max(first, self.now))

    def _first_year(self, table: Table) -> int:
        total = found = 0
        if table.time is None:
            return self.now.year
        total = self._rows(table)
        year = self.now.year + 1
        while found < total and year >= _FIRST_YEAR:
            start = datetime(year, 1, 1, tzinfo=UTC)
            end = datetime(year + 1, 1, 1, tzinfo=UTC) - timedelta(microseconds=1)
            times = Times(table.time, (Span(start, end),))
            found += self.warehouse.count(table, Selection(self.source_id, times=times))
            year -= 1
        return min(year + 1, self.now.year)


def within(requests: int, plans: Sequence[Plan], share: float | None) -> float:
    """
    Find the share of each table, of *plans* for all of it, that takes so many *requests*.

    Small collections are read whole, whatever the share is.
    """
    fixed = sum(plan.requests for plan in plans if plan.is_whole and not _can_be_parted(plan))
    rest = sum(plan.requests for plan in plans) - fixed
    fitting = max(0.0, requests - fixed) / rest if rest else 1.0
    return min(1.0 if share is None else share, fitting)


def _can_be_parted(plan: Plan) -> bool:
    read = plan.table.read
    return not isinstance(read, Pages) or read.pages
