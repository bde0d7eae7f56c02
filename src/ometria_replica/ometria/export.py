"""
The export files in their bucket or folder: lists them, downloads them, prepares them for reading.

``s3://`` and ``file://`` use the same code. A file's name is relative to the feed's url, so
that the file log stays valid if the bucket moves.
"""

from __future__ import annotations

import fnmatch
import os
import re
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ometria_replica.catalog import CATALOG
from ometria_replica.errors import OmetriaError, ReplicaError, Unavailable
from ometria_replica.failpoints import step
from ometria_replica.ometria.bucket import naming_a_folder, open_bucket
from ometria_replica.ometria.decompress import CHUNK, PARQUET, UnfitError, decompress, head
from ometria_replica.ometria.dialect import choose_dialect
from ometria_replica.ometria.file_limits import check_cells, check_lines, check_parquet
from ometria_replica.ometria.one_per_line import normalise
from ometria_replica.ometria.prefetch import in_order
from ometria_replica.records import FeedFile, FeedObject, Unreadable
from ometria_replica.schema import Feed
from ometria_replica.temp_files import is_full, temp_files_full

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from obstore import GetOptions, GetResult, ObjectMeta

    from ometria_replica.catalog import Catalog
    from ometria_replica.config import FeedSettings
    from ometria_replica.ometria.bucket import Bucket
    from ometria_replica.records import Dialect
    from ometria_replica.schema import Table

AHEAD = 4  # Files downloaded while the caller works on another; bounds the disk in use.
TRIES = 3  # Of a download that breaks off. The driver also retries each request in it.
PART = 64 << 20  # Bytes per request, so that a request can have a time limit.
PIECE = 16 << 10  # Bytes after which a download checks whether it was cancelled.
SHOWN = 3  # Names of files that do not match the pattern.
LISTED_AT_ONCE = 1000  # S3's own page.
# Names of files that another program is still writing.
_UNFINISHED = re.compile(
    r"(^|/)\.|(\.(part|partial|tmp|temp|filepart|crdownload)|~)$", re.IGNORECASE
)


class ExportFiles:
    """
    The export files of one account. A context manager; leaving it cancels all downloads.

    It holds the files of one *table*; *catalog* are all tables, which divide the files by name.
    A file in a folder may still be incomplete, so a download waits until the file is
    *settle_seconds* old. In S3 an object appears complete or not at all.
    """

    def __init__(
        self,
        options: FeedSettings,
        table: Table,
        catalog: Catalog = CATALOG,
        *,
        max_bytes: int | None = None,
        settle_seconds: float = 1.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.options = options = naming_a_folder(options)
        self.columns = table.fields
        self.required = _key_fields(table)
        self.max_bytes = max_bytes or options.max_file_bytes
        self.settle_seconds = settle_seconds
        self._clock = clock
        self._sleep = sleep
        self._pattern, self._others = _patterns(options, table, catalog)
        self._bucket: Bucket | None = None
        self._others_seen: list[str] = []
        self._stop = threading.Event()
        self._workers = ThreadPoolExecutor(AHEAD, thread_name_prefix="feed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._workers.shutdown(cancel_futures=True)

    @property
    def bucket(self) -> Bucket:
        """The bucket. It is opened at first use, because it needs credentials."""
        if self._bucket is None:
            self._bucket = open_bucket(self.options)
        return self._bucket

    def list(self, start_after: str | None = None) -> Iterator[FeedObject]:
        """
        Yield the files below the url as they are listed, in no guaranteed order.

        *start_after* excludes the names up to it, in the order of their characters.
        Empty files are excluded, and with them the markers of folders: they hold no rows,
        and a file that is filled later has another version.
        """
        from obstore.exceptions import BaseError, InvalidPathError  # noqa: PLC0415 -- 30 ms.

        self._others_seen = []
        try:
            stream = self.bucket.store.list(offset=start_after, chunk_size=LISTED_AT_ONCE)
            for chunk in stream:
                yield from (_object(meta) for meta in chunk if self._wanted(meta))
        except InvalidPathError as error:
            # The driver drops the whole page of the listing for it, so it cannot be skipped.
            found = re.search(r'Path "([^"\n]*)"', str(error))
            raise OmetriaError(
                f"{self.bucket.place}: a file below it"
                + (f" ({found.group(1)!r})" if found else "")
                + " has a name that cannot be requested: with an empty part, '.', '..'"
                " or a control character."
                " Rename it, or narrow the feed's url."
            ) from None
        except (BaseError, OSError) as error:
            raise self.bucket.refusal(error, "listing its files") from None

    def nothing_found(self) -> str:
        """Say where and for what the last listing looked, and what it saw instead."""
        seen = ", ".join(self._others_seen)
        instead = f"There are other files, such as {seen}." if seen else "It holds no file at all."
        return (
            f"{self.bucket.place}: no file has a name that matches '{self._pattern}'. {instead}"
            " Check the feed's url and pattern."
        )

    def _wanted(self, meta: ObjectMeta) -> bool:
        is_wanted = self._is_wanted(meta)
        if not is_wanted and len(self._others_seen) < SHOWN:
            self._others_seen.append(meta["path"])
        return is_wanted

    def _is_wanted(self, meta: ObjectMeta) -> bool:
        name = meta["path"]
        if meta["size"] == 0 or (self.bucket.local and _UNFINISHED.search(name)):
            return False
        if any(fnmatch.fnmatchcase(name, other) for other in self._others):
            return False
        return fnmatch.fnmatchcase(name, self._pattern)

    def fetch(self, objects: Sequence[FeedObject], folder: Path) -> Iterator[FeedFile | Unreadable]:
        """
        Download *objects* into *folder*, as plain text with their dialect, in the order given.

        The next few are downloaded while the caller works on one. The caller deletes the files
        that it takes; the others are deleted here. An object that the store does not give, as it
        gives others, is Unreadable, and the next run tries again. If it gives none, the error is
        raised after the last, or after the first few if the store is in trouble.
        """
        folder.mkdir(parents=True, exist_ok=True)
        _ = self.bucket  # Opened here, once, before several threads use it.
        self._stop = threading.Event()
        refusals: dict[str, ReplicaError] = {}  # By name: downloads end in any order.
        given: list[str] = []

        def bring(origin: FeedObject) -> FeedFile | Unreadable:
            try:
                file = self._bring(origin, folder)
            except _NotGivenError as missed:
                refusals[origin.name] = missed.refusal
                if isinstance(missed.refusal, Unavailable) and len(refusals) > AHEAD and not given:
                    raise missed.refusal from None
                return Unreadable(origin, str(missed), again=True)
            given.append(origin.name)
            return file

        yield from in_order(
            self._workers, bring, objects, AHEAD, stop=self._stop.set, discard=_discard
        )
        if refusals and not given:
            raise refusals[objects[0].name]

    def _bring(self, origin: FeedObject, folder: Path) -> FeedFile | Unreadable:
        handle, name = tempfile.mkstemp(prefix="feed-", dir=folder)
        os.close(handle)
        path = Path(name)
        try:
            with step("fetch"):
                self._let_settle(origin)
                self._download(origin, path)
                return FeedFile(origin, path, self._prepare(path))
        except BaseException as error:
            path.unlink(missing_ok=True)
            match error:
                case UnfitError():
                    return Unreadable(origin, str(error))
                case _MovedOnError():
                    return Unreadable(origin, str(error), again=True)
                case OSError() if is_full(error):
                    raise temp_files_full() from None
                case OSError():
                    raise ReplicaError(
                        f"{folder}: writing a file of the feed failed ({error.strerror})."
                        " Check the free disk space and the folder's permissions."
                    ) from None
            raise

    def _let_settle(self, origin: FeedObject) -> None:
        """Wait at most *settle_seconds*, in case another program is still writing the file."""
        age = (self._clock() - origin.modified_at).total_seconds()
        if self.bucket.local and 0 <= age < self.settle_seconds:
            self._sleep(self.settle_seconds - age)

    def _download(self, origin: FeedObject, path: Path) -> None:
        """Download the version that was listed; never parts of two versions."""
        from obstore.exceptions import BaseError  # noqa: PLC0415 -- 30 ms, and only a sync needs it.

        for tries_left in reversed(range(TRIES)):
            try:
                size = _write(self._pieces(origin), path)
                if self.bucket.local:
                    self._get(origin)  # Another program may have written to it during the read.
            except BaseError as error:
                refusal = self.bucket.refusal(error, f"reading {origin.name}")
                if tries_left and isinstance(refusal, Unavailable):
                    continue
                if (trouble := self.bucket.trouble_with_one(error)) is not None:
                    raise _NotGivenError(trouble, refusal) from None
                raise refusal from None
            if size != origin.size:
                raise _MovedOnError(CHANGED)
            return

    def _pieces(self, origin: FeedObject) -> Iterator[bytes]:
        """Yield the object in pieces, until the download is cancelled."""
        stop = self._stop
        for start in range(0, origin.size, PART):
            part = (start, min(start + PART, origin.size))
            found = self._get(origin) if origin.size <= PART else self._get(origin, part)
            for piece in found.stream(min_chunk_size=PIECE):
                if stop.is_set():
                    raise _CancelledError
                yield piece

    def _get(self, origin: FeedObject, part: tuple[int, int] | None = None) -> GetResult:
        from obstore.exceptions import PreconditionError  # noqa: PLC0415 -- As above.

        options: GetOptions = {"if_match": origin.etag or None}
        if part is not None:
            options["range"] = part
        try:
            found = self.bucket.store.get(origin.name, options=options)
        except FileNotFoundError:
            raise _MovedOnError(GONE) from None
        except PreconditionError:
            raise _MovedOnError(CHANGED) from None
        # Not every store supports If-Match; without ETags, the size is compared.
        if ((found.meta["e_tag"] or ""), found.meta["size"]) != (origin.etag, origin.size):
            raise _MovedOnError(CHANGED)
        return found

    def _prepare(self, path: Path) -> Dialect:
        options = self.options
        decompress(
            path,
            compression=options.compression,
            encoding=options.encoding,
            max_bytes=self.max_bytes,
        )
        start = head(path).lstrip()
        is_array = start.startswith(b"[")  # Its records are limited where they are parted.
        if not start.startswith(PARQUET) and not is_array:
            check_lines(path, options.max_record_bytes)
        dialect = choose_dialect(path, options, self.columns, self.required)
        normalise(path, dialect)
        match dialect.format:
            case "csv" if dialect.columns:
                check_cells(path, dialect)
            case "json" if is_array:
                check_lines(path, options.max_record_bytes)
            case "parquet":
                check_parquet(path, self.max_bytes, options.max_record_bytes)
        return dialect


class _MovedOnError(Exception):
    """The bucket no longer holds the version that was listed. The next run lists it again."""


class _CancelledError(Exception):
    """The caller needs no more files."""


class _NotGivenError(Exception):
    """The store does not give one object. *refusal* is the error if it gives none."""

    def __init__(self, trouble: str, refusal: ReplicaError) -> None:
        super().__init__(f"{trouble}; the next run tries again")
        self.refusal = refusal


GONE = "deleted since it was listed"
CHANGED = "changed since it was listed; the next run reads the new version"


def _patterns(options: FeedSettings, table: Table, catalog: Catalog) -> tuple[str, tuple[str, ...]]:
    """
    Give the pattern of the table's files, and those of other tables, whose files it leaves alone.

    A table with a pattern of its own reads all files that match it.
    """
    feeds = {each.name: each.read for each in catalog if isinstance(each.read, Feed)}
    own = table.read.pattern if isinstance(table.read, Feed) else None
    if own is not None:
        return own, ()
    others = (read.pattern for name, read in feeds.items() if name != table.name)
    return options.pattern or "*", tuple(pattern for pattern in others if pattern is not None)


def _key_fields(table: Table) -> tuple[str, ...]:
    """Return the fields without which a row has no key. Those of wide keys may be absent."""
    optional = {"source_id", *table.wide_parts}
    return tuple(part for part in table.sync_key.parts if part not in optional)


def _object(meta: ObjectMeta) -> FeedObject:
    return FeedObject(meta["path"], meta["e_tag"] or "", meta["size"], meta["last_modified"])


def _write(pieces: Iterable[bytes], path: Path) -> int:
    with path.open("wb", buffering=CHUNK) as file:
        return sum(file.write(piece) for piece in pieces)


def _discard(file: FeedFile | Unreadable) -> None:
    if isinstance(file, FeedFile):
        file.discard()
