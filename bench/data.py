"""
Write the input files of all contenders: gzip CSV in a folder, generated once and kept.

    python bench/data.py --events 200000

The name of each folder under bench/data/ has its sizes. ``first`` contains the history, and
``upsert`` a later tenth of it, half of whose events are in the history already.
``expected.json`` beside them has the correct result after each step, computed by a separate
plain statement that no contender uses.
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
"""Modification time of the oldest file; the others have the time of their last event."""


def make(count: int, files: int = 20) -> DataSet:
    """Return the data set of *count* events, and generate it if it does not exist."""
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
    """Return the bounds of a batch after *count* events, of which the last half is new."""
    return count - batch // 2, count + batch - batch // 2


def write(folder: Path, first: int, last: int, files: int, *, revised_below: int = 0) -> None:
    """Write events *first* to *last* - 1 as *files* files into *folder*, oldest first."""
    folder.mkdir(parents=True)
    connection = duckdb.connect()
    for start, end in _parts(first, last, files):
        # The name contains the time, so that names differ between folders.
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
    """Read the raw files, replace older rows by newer ones, and return the checksum."""
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
    """Return the rows, keys and checksum of the checked columns of a relation."""
    rows, keys, checksum = connection.execute(
        "SELECT count(*), count(DISTINCT email_event_id),"
        f" sum((hash({CHECKED}) % 1000000007)::HUGEINT)::BIGINT FROM {relation}"
    ).fetchall()[0]
    return {"rows": rows, "keys": keys, "checksum": checksum}


def main() -> None:
    """Generate a data set and print its folder, or generate one batch in a given folder."""
    parser = argparse.ArgumentParser(description="Make the benchmark's files.")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--into", type=Path, help="a folder for one batch only")
    parser.add_argument("--first", type=int, default=0, help="first event of the batch")
    options = parser.parse_args()
    if options.into:
        write(options.into, options.first, options.first + options.events, options.files)
        return
    made = make(options.events, options.files)
    print(f"{made.folder}: {made.expected('first')}, then {made.expected('upsert')}")


if __name__ == "__main__":
    main()
