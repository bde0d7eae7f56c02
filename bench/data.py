"""
Write the files that all contenders read: gzip CSV in a folder, made once and kept.

    python bench/data.py --events 200000

Each folder under bench/data/ is named after its sizes. ``first`` holds the history,
``upsert`` a tenth of it that comes later: half its events are there already. Beside
them lies ``expected.json``: what a right warehouse holds after the one and the other,
worked out by one plain statement that no contender uses.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import events
from contenders.columns import CHECKED, MAPPED, READ
from sets import DataSet

if TYPE_CHECKING:
    from collections.abc import Iterator

WRITTEN = datetime(2020, 1, 2, tzinfo=UTC)
"""When the oldest file was last changed; the others as their last events happened."""


def make(count: int, files: int = 20) -> DataSet:
    """Make the data set of *count* events, or find it as it was made before."""
    made = DataSet.named(count, files)
    if made.folder.exists():
        return made
    unfinished = made.folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    fresh = DataSet(unfinished, count, files)
    write(fresh.first, 0, count, files)
    write(fresh.upsert, *overlapping(count, fresh.batch), max(1, files // 10), revised_below=count)
    expected = {"first": _expected(fresh, "first"), "upsert": _expected(fresh, "upsert")}
    (unfinished / "expected.json").write_text(json.dumps(expected))
    unfinished.rename(made.folder)
    return made


def overlapping(count: int, batch: int) -> tuple[int, int]:
    """Bound a batch that follows *count* events and brings the last half of itself anew."""
    return count - batch // 2, count + batch - batch // 2


def write(folder: Path, first: int, last: int, files: int, *, revised_below: int = 0) -> None:
    """Write events *first* to *last* - 1 as *files* files into *folder*, oldest first."""
    folder.mkdir(parents=True)
    connection = duckdb.connect()
    for start, end in _parts(first, last, files):
        # The time goes into the name: no two folders hold files of one name.
        path = folder / f"email_events-{start:012d}-{end:012d}.csv.gz"
        rows = events.select(start, end, oldest=first, revised_below=revised_below)
        connection.execute(f"COPY ({rows}) TO '{path}' (FORMAT csv, HEADER, COMPRESSION gzip)")
        at = (WRITTEN + timedelta(microseconds=end * 630_000)).timestamp()
        os.utime(path, (at, at))
    connection.close()


def _parts(first: int, last: int, files: int) -> Iterator[tuple[int, int]]:
    size = (last - first) // files
    for number in range(files):
        yield first + number * size, last if number == files - 1 else first + (number + 1) * size


def _expected(made: DataSet, step: str) -> dict[str, int]:
    """Read the raw files plainly, the newer over the older, and sum up what is left."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"CREATE VIEW raw AS SELECT {MAPPED} FROM {READ.format(made.first)}")
        if step == "upsert":
            connection.execute(
                f"CREATE OR REPLACE VIEW raw AS WITH newer AS (SELECT {MAPPED}"
                f" FROM {READ.format(made.upsert)}) SELECT * FROM newer UNION ALL SELECT {MAPPED}"
                f" FROM {READ.format(made.first)} older WHERE md5(concat('bench', to_address,"
                " event_type, dt_occurred)) NOT IN (SELECT email_event_id FROM newer)"
            )
        return summary(connection, "(SELECT DISTINCT * FROM raw)")


def summary(connection: duckdb.DuckDBPyConnection, relation: str) -> dict[str, int]:
    """Sum up a relation of the columns that are checked: rows, keys, and all contents."""
    rows, keys, checksum = connection.execute(
        "SELECT count(*), count(DISTINCT email_event_id),"
        f" sum((hash({CHECKED}) % 1000000007)::HUGEINT)::BIGINT FROM {relation}"
    ).fetchall()[0]
    return {"rows": rows, "keys": keys, "checksum": checksum}


def main() -> None:
    """Make a data set, and say where; or one batch in a folder of its own."""
    parser = argparse.ArgumentParser(description="Make the benchmark's files.")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--into", type=Path, help="a folder, for one batch and nothing more")
    parser.add_argument("--first", type=int, default=0, help="the batch's first event")
    options = parser.parse_args()
    if options.into:
        write(options.into, options.first, options.first + options.events, options.files)
        return
    made = make(options.events, options.files)
    print(f"{made.folder}: {made.expected('first')}, then {made.expected('upsert')}")


if __name__ == "__main__":
    main()
