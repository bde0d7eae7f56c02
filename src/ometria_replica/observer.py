"""
What a run tells its observers: events, as values, in the thread in which they happen.

Traces and lineage are made of them. An event holds no secret and no data of people: a request is
known by the template of its path, and a file by its size. Times are seconds since 1970 by the
machine's clock; durations are by a clock that does not jump.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from ometria_replica.errors import ReplicaError
from ometria_replica.log_context import log_context
from ometria_replica.stopping import is_of_a_library

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ometria_replica.catalog import Catalog
    from ometria_replica.config import Config
    from ometria_replica.report import RunReport, TableReport

logger = logging.getLogger(__name__)

Ended = Literal["succeeded", "failed", "stopped"]


class Ending(NamedTuple):
    """How something *ended*; if it did not succeed, the *reason*, and the *kind* of the error."""

    ended: Ended
    reason: str | None = None
    kind: str | None = None


class Place(NamedTuple):
    """A table of a source."""

    source_id: str
    table: str


@dataclass(frozen=True)
class RunStarted:
    """A run begins, before its warehouse is opened. *catalog* are the tables that it may read."""

    began_at: float
    run_id: str
    config: Config
    catalog: Catalog
    dry_run: bool


@dataclass(frozen=True)
class RunEnded:
    """
    A run ended.

    *report* is None if it ended before it had one, or if a signal stopped it.
    """

    began_at: float
    seconds: float
    ending: Ending
    report: RunReport | None


@dataclass(frozen=True)
class TableStarted:
    """A table of a source is about to be read."""

    began_at: float
    place: Place


@dataclass(frozen=True)
class TableEnded:
    """A table was read, to its end if the *ending* is a success."""

    began_at: float
    seconds: float
    place: Place
    ending: Ending
    report: TableReport


@dataclass(frozen=True)
class RequestSent:
    """
    A request to Ometria was answered, or failed.

    *template* is the path with ``{id}`` in place of ids, and *address* that of the API. *attempt*
    counts from 1, and *waited_seconds* is how long it waited for its turn before *began_at*.
    *status* is None without an answer. *error* names the kind of a failure, None if there is none.
    *place* is None if no table was being read.
    """

    began_at: float
    seconds: float
    place: Place | None
    method: str
    template: str
    address: str
    attempt: int
    waited_seconds: float
    status: int | None
    error: str | None


@dataclass(frozen=True)
class FeedListed:
    """The files of the export were listed: so many *files*, of which some may be known."""

    began_at: float
    seconds: float
    place: Place | None
    files: int


@dataclass(frozen=True)
class FileFetched:
    """
    A file of the export, of *size* bytes in the bucket, was downloaded and prepared for reading.

    *error* names the kind of a failure, None if there is none.
    """

    began_at: float
    seconds: float
    place: Place | None
    size: int
    error: str | None


@dataclass(frozen=True)
class BatchLoaded:
    """
    A batch was mapped and loaded; or was not, because of an *error* of that kind.

    *mapping_seconds* of the *seconds* were needed to map it. The counts are those of the table's
    report.
    """

    began_at: float
    seconds: float
    place: Place
    mapping_seconds: float = 0.0
    files: int = 0
    records: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    records_rejected: int = 0
    values_rejected: int = 0
    error: str | None = None


Event = (
    RunStarted
    | RunEnded
    | TableStarted
    | TableEnded
    | RequestSent
    | FeedListed
    | FileFetched
    | BatchLoaded
)
Observe = Callable[[Event], object]


def ignore(_: Event) -> None:
    """Observe nothing."""


def safely(observe: Observe | None) -> Observe:
    """Let no failure of an observer fail the run; None observes nothing."""
    if observe is None:
        return ignore
    failed = False

    def tell(event: Event) -> None:
        nonlocal failed
        try:
            observe(event)
        except Exception as error:  # noqa: BLE001 -- Whatever it is, the run has nothing to do with it.
            level = logging.DEBUG if failed else logging.WARNING
            failed = True
            logger.log(
                level,
                "An observer of the run failed with %s. The run itself goes on.",
                type(error).__name__,
            )

    return tell


@dataclass(frozen=True)
class Watch:
    """A stopwatch: when it was started, and how many seconds ago."""

    began_at: float = field(default_factory=time.time)
    _mark: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """The time since then."""
        return time.monotonic() - self._mark


def current_place() -> Place | None:
    """Return the table that is being read in this context; None if there is none."""
    context = log_context()
    return Place(context.account, context.table) if context.account and context.table else None


def ending(error: BaseException | None) -> Ending:
    """Say how something ended: what a library says is left out, as it may quote personal data."""
    if error is None:
        return Ending("succeeded")
    kind = type(error).__name__
    if isinstance(error, ReplicaError):
        return Ending("failed", str(error), kind)
    if is_of_a_library(error):
        return Ending("failed", f"bug in ometria-replica: {kind}", kind)
    return Ending("stopped", "the run was stopped", kind)


@dataclass
class ObservedRun:
    """A run that is observed; its *report*, once it has one."""

    report: RunReport | None = None


@contextmanager
def observed(
    observe: Observe, run_id: str, config: Config, catalog: Catalog, *, dry_run: bool
) -> Iterator[ObservedRun]:
    """Tell of the run in the block, however it ends."""
    watch, run = Watch(), ObservedRun()
    error: BaseException | None = None
    observe(RunStarted(watch.began_at, run_id, config, catalog, dry_run))
    try:
        yield run
    except BaseException as raised:
        error = raised
        raise
    finally:
        report = error.report if isinstance(error, ReplicaError) else run.report
        observe(RunEnded(watch.began_at, watch.seconds, ending(error), report))
