"""Why all records of a table are due, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ometria_replica.ometria.start_times import FULL_ROUND, Refreshed
from ometria_replica.planning.table_plan import Why
from ometria_replica.text import counted
from ometria_replica.ways_to_read import Growing, Pages, PerParent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ometria_replica.due import ApiDue, WhyWhole
    from ometria_replica.planning.last_runs import LastRuns
    from ometria_replica.table_reads import TableRead


def reasons(read: TableRead, due: ApiDue, runs: LastRuns) -> Iterator[Why]:
    """Say why all records of a table of the API are due; nothing if only the new ones are."""
    if read.window.is_partial:
        return
    for why in due.whole:
        if why != "deletes due" or read.state.full_read_at or "no watermark" not in due.whole:
            yield _decided(why, read, due, runs)
    if due.known.interrupted is not None:
        records = counted(due.known.interrupted.position.offset, "record")
        yield Why("continued", f"an interrupted read is continued after {records}")
    if due.starts_over:
        yield Why("started over", "an interrupted read cannot be continued, and starts over")
    if not due.whole:
        yield from _by_kind(read, due)


def _decided(why: WhyWhole, read: TableRead, due: ApiDue, runs: LastRuns) -> Why:
    match why:
        case "full":
            return Why("--full", "--full asks for it")
        case "deletes asked":
            return Why("--detect-deletes", "--detect-deletes asks for it")
        case "deletes due":
            return Why("interval", _interval(read))
        case "inside":
            names = ", ".join(due.inside)
            return Why("nested tables", f"records were not read for {names} before")
        case "no watermark":
            return _without_watermark(read, runs)


def _interval(read: TableRead) -> str:
    grows = isinstance(read.table.read, Growing)
    name = "full_read_every_days" if grows else "detect_deletes_every_days"
    last = read.state.full_read_at
    when = f"the last was on {last:%Y-%m-%d}" if last else "there was none without an interruption"
    return f"a full read is due every {getattr(read.account, name)} days ({name}); {when}"


def _without_watermark(read: TableRead, runs: LastRuns) -> Why:
    name = read.table.name
    if name in read.lost:
        return Why("rows lost", "rows that were loaded are gone from the warehouse")
    if runs.has_read(read.account.source_id, name):
        return Why("rewound", "the state was rewound, or is gone")
    return Why("first run", "not read to the end by any run yet")


def _by_kind(read: TableRead, due: ApiDue) -> Iterator[Why]:
    """Say what the way to read a table brings with it."""
    match read.table.read:
        case Pages(since=None):
            yield Why("small collection", "each run reads all of this small collection")
        case PerParent() if Refreshed(due.known, read.run.started_at).is_full_round:
            days = FULL_ROUND.days
            yield Why("weekly round", f"the changes of every list are read every {days} days")
        case Growing() if not due.known.ends:
            yield Why(
                "end not known", "where the last read has ended is not known, or not credible"
            )
