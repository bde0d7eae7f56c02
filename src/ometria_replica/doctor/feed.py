"""Tests the feed of an account: its listing, and the dialect of one of its files."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ometria_replica.doctor.findings import Finding, failed, passed, tested, warned
from ometria_replica.errors import OmetriaError
from ometria_replica.field_paths import is_shown
from ometria_replica.ometria.account_source import AccountSource
from ometria_replica.ometria.one_per_line import first_records
from ometria_replica.records import FeedFile, Unreadable
from ometria_replica.temp_files import temp_folder
from ometria_replica.text import counted, size, span
from ometria_replica.ways_to_read import Feed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ometria_replica.catalog import Catalog
    from ometria_replica.config import AccountSettings, Limits
    from ometria_replica.ometria.export import ExportFiles
    from ometria_replica.records import FeedObject
    from ometria_replica.schema import Table

LIST_WITHIN = 30.0  # Seconds: a bucket lists some 5,000 files a second.
STALE = timedelta(days=7)
"""Ometria documents no cadence of the export; other programs read it daily."""

MOST_BYTES = 64_000_000  # Of a file that is read for its dialect.
SEEN_RECORDS = 100  # Of a JSON file, for the names of its fields.
SHOWN = 8  # Names of columns.

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_QUOTES = {'"': "double quotes", "'": "single quotes", "": "no quotes"}


Look = Callable[[FeedFile, "Table"], "Iterator[Finding]"]
"""What else is found in the file of a table that was read for its dialect."""


@dataclass(frozen=True)
class FeedFacts:
    """
    What was seen of the files of *table*: all that were listed, and how one of them expands.

    *expansion* is its size once it is plain text, by its own size; None if none was read.
    """

    source_id: str
    table: Table
    files: tuple[FeedObject, ...]
    expansion: float | None


def check_feed(
    account: AccountSettings,
    tables: Catalog,
    limits: Limits,
    clock: Callable[[], datetime],
    *,
    look: Look | None = None,
) -> Iterator[Finding | FeedFacts]:
    """List the files of each table that the feed has, and read one of them; *look* into it too."""
    with AccountSource(account, clock(), tables) as source:
        for table in tables:
            if isinstance(table.read, Feed):
                yield from _check_table(account, source, table, limits, clock, look=look)


def _check_table(
    account: AccountSettings,
    source: AccountSource,
    table: Table,
    limits: Limits,
    clock: Callable[[], datetime],
    *,
    look: Look | None,
) -> Iterator[Finding | FeedFacts]:
    files: list[FeedObject] = []
    expansions: list[float] = []
    url, _, pattern = source.feed_name(table).rpartition(" ")
    where = f"The feed {url}" + (f" ({pattern})" if pattern != "*" else "")
    yield from tested(
        "feed.files", f"{where} cannot be listed.",
        lambda: _list(source.export(table), where, files, clock()),
    )  # fmt: skip
    if files:
        yield from tested(
            "feed.dialect", f"{where}: no file could be read.",
            lambda: _read_one(source.export(table), table, files, limits, expansions, look=look),
        )  # fmt: skip
    yield FeedFacts(account.source_id, table, tuple(files), next(iter(expansions), None))


def _list(
    export: ExportFiles, where: str, files: list[FeedObject], now: datetime
) -> Iterator[Finding]:
    """List the files into *files*, until they are all listed or the time is over."""
    if export.warning:
        yield warned("feed.address", f"{export.warning.partition('. ')[0]}.",
                     "Use https in endpoint_url.")  # fmt: skip
    ends_at, is_whole = time.monotonic() + LIST_WITHIN, True
    for file in export.list():
        files.append(file)
        if time.monotonic() > ends_at:
            is_whole = False
            break
    waiting = f"; {counted(export.waiting, 'file')} changed a moment ago and will be read later"
    waiting = waiting if export.waiting else ""
    if not files and export.waiting:
        yield passed("feed.files", f"{where} holds no file yet that is at rest{waiting}.")
    elif not files:
        nothing, _, instead = export.nothing_found().partition(". ")
        mend = f"{instead} If the export has not begun yet, wait for it."
        yield warned("feed.files", f"{nothing}.", mend)
    else:
        newest = max(file.modified_at for file in files)
        age = f"the newest of {newest:%Y-%m-%d %H:%M} UTC, {span(now - newest)} ago"
        age = age if newest <= now else f"the newest of {newest:%Y-%m-%d %H:%M} UTC"
        more = "" if is_whole else f" or more, as listed in {LIST_WITHIN:.0f} seconds"
        total = size(sum(file.size for file in files))
        found = f"{counted(len(files), 'file')}{more} ({total}), {age}"
        if now - newest < STALE or not is_whole:
            yield passed("feed.files", f"{where} holds {found}{waiting}.")
        else:
            yield warned(
                "feed.files",
                f"{where} holds {found}{waiting}: has the export stopped?",
                "Look in Ometria whether the self-serve export is still on, and goes there.",
            )


def _read_one(
    export: ExportFiles,
    table: Table,
    files: list[FeedObject],
    limits: Limits,
    expansions: list[float],
    *,
    look: Look | None,
) -> Iterator[Finding]:
    """Read the newest file that is not large, or the smallest one."""
    small = [file for file in files if file.size <= MOST_BYTES and not file.name.endswith("/")]
    if not small:
        yield warned(
            "feed.dialect",
            f"No file was looked into: each is larger than {size(MOST_BYTES)}.",
            "A sync detects the dialect of each file. To see it before, put a small file there.",
        )
        return
    with temp_folder(limits.temp_directory) as folder:
        (found,) = export.fetch([max(small)], folder)
        if isinstance(found, FeedFile):
            with_size = max(1, found.origin.size)
            expansions.append(found.path.stat().st_size / with_size)
            yield from _described(found, table)
            if look is not None:
                yield from look(found, table)
            found.discard()
        elif isinstance(found, Unreadable):
            text = f"The newest file, {found.origin.name}, cannot be read: {found.reason}."
            mend = (
                "A sync sets such a file aside and loads the others. If all files are like it, the"
                " feed's settings for the format (docs: Read your bucket) can say how to read them."
            )
            yield warned("feed.dialect", text, mend)


def _described(file: FeedFile, table: Table) -> Iterator[Finding]:
    """Say how a file is written, and which of its columns are known; never a value of it."""
    names = _names(file)
    known = [name for name in table.fields if name in names]
    unknown = [name for name in names if name not in {*table.fields, *table.unmapped}]
    told = f"The newest file, {file.origin.name}, is {_format(file)}: {_columns(known, unknown)}"
    others = _shown(unknown, table)
    lost = [name for name in table.sync_key.sources if name not in {*known, *table.wide_parts}]
    if names and (len(known) < 2 or lost):
        yield failed(
            "feed.dialect", f"{told}.",
            OmetriaError(f"{file.origin.name} has no column {', '.join(lost)}."),
            f"Without {', '.join(lost)} a row has no key. Check that it is the export of"
            f" {table.name}, or name its columns in the feed's setting columns.",
        )  # fmt: skip
    elif unknown:
        yield passed("feed.dialect", f"{told}{others}; these are not loaded.")
    else:
        yield passed("feed.dialect", f"{told}.")


def _columns(known: list[str], unknown: list[str]) -> str:
    text = counted(len(known), "known column")
    return f"{text} and {counted(len(unknown), 'unknown one')}" if unknown else text


def _shown(names: list[str], table: Table) -> str:
    """Name unknown columns that are plain words; where columns are treated, none."""
    shown = [] if table.is_treated else [name for name in names if is_shown(name)][:SHOWN]
    more = len(names) - len(shown)
    return f" ({', '.join(shown)}{f' and {more} more' if more else ''})" if shown else ""


def _format(file: FeedFile) -> str:
    dialect, packing = file.dialect, file.packing
    kind = {"csv": "CSV", "json": "JSON", "parquet": "Parquet"}[dialect.format]
    parts = [kind]
    if dialect.format == "csv":
        delimiter = _DELIMITERS.get(dialect.delimiter, repr(dialect.delimiter))
        quote = _QUOTES.get(dialect.quote, repr(dialect.quote))
        parts += [f"with {delimiter} and {quote}"]
        parts += ["with a header" if dialect.header else "without a header"]
    if packing is not None:
        encoding = {None: "", "western": "Windows-1252", "utf-8": "UTF-8"}
        parts += [encoding.get(packing.encoding, packing.encoding or "")]
        parts += [" in ".join(packing.compressions) or "not compressed"]
    return ", ".join(part for part in parts if part)


def _names(file: FeedFile) -> list[str]:
    if file.dialect.format != "json":
        return list(file.dialect.columns)
    records = first_records(Path(file.path), SEEN_RECORDS)
    found = [name for record in records if isinstance(record, dict) for name in record]
    return list(dict.fromkeys(found))
