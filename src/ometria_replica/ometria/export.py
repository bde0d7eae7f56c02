"""
The export files in their bucket or folder: lists them, downloads them, prepares them for reading.

``s3://`` and ``file://`` use the same code. A file's name is relative to the feed's url, so
that the file log stays valid if the bucket moves.
"""

from __future__ import annotations

import fnmatch
import logging
import shutil
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from ometria_replica import scratch_files
from ometria_replica.catalog import CATALOG
from ometria_replica.errors import AccessDenied, ReplicaError, Unavailable
from ometria_replica.failpoints import step
from ometria_replica.observer import FileFetched, Watch, current_place, ignore
from ometria_replica.ometria.bucket import existing_folder, naming_a_folder, open_bucket
from ometria_replica.ometria.bucket_files import BucketFiles
from ometria_replica.ometria.decompress import CHUNK, PARQUET, UnfitError, decompress, head
from ometria_replica.ometria.dialect import choose_dialect
from ometria_replica.ometria.file_limits import check_cells, check_lines, check_parquet
from ometria_replica.ometria.folder import FolderFiles
from ometria_replica.ometria.one_per_line import normalise
from ometria_replica.ometria.prefetch import in_order
from ometria_replica.ometria.refusals import MovedOn, NoRoom, NotGiven
from ometria_replica.records import FeedFile, FeedObject, Unreadable
from ometria_replica.temp_files import is_full, temp_files_full
from ometria_replica.text import counted
from ometria_replica.ways_to_read import Feed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from ometria_replica.catalog import Catalog
    from ometria_replica.config import FeedSettings
    from ometria_replica.observer import Observe
    from ometria_replica.records import Dialect, Packing
    from ometria_replica.schema import Table

logger = logging.getLogger(__name__)

FILES_AHEAD = 4  # Files downloaded while the caller works on another; bounds the disk in use.
TRIES = 3  # Of a download that breaks off. The driver also retries each request in it.
SHOWN = 3  # Names of files that do not match the pattern.
SETTLE_SECONDS = 60.0  # Of files in a folder. In a bucket an object appears complete or not at all.
NO_ROOM_FOR_IT = (
    "it does not fit into the folder for temporary files; set warehouse.temp_directory"
    " (OMETRIA_TEMP_DIRECTORY) to one on a larger disk"
)
UNEXPECTED = "it cannot be read ({}); if other programs can read it, please report this"
DISK_IS_FULL = 1 << 20  # Bytes: with less room than that, no file fits, and none is to blame.


class ExportFiles:
    """
    The export files of one account. A context manager; leaving it cancels all downloads.

    It holds the files of one *table*; *catalog* are all tables, which divide the files by name.
    *settle_seconds* replaces the setting. *ahead* is the number of files that are downloaded while
    the caller works on another. *observe* is told of each.
    """

    def __init__(
        self,
        options: FeedSettings,
        table: Table,
        catalog: Catalog = CATALOG,
        *,
        max_bytes: int | None = None,
        settle_seconds: float | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        ahead: int = FILES_AHEAD,
        observe: Observe = ignore,
    ) -> None:
        self.options = options = naming_a_folder(options)
        self.columns = table.fields
        self.required = _key_fields(table)
        self.max_bytes = max_bytes or options.max_file_bytes
        self.settle_seconds = _settle_seconds(options) if settle_seconds is None else settle_seconds
        self.waiting = 0
        self._clock = clock
        self._pattern, self._others = _patterns(options, table, catalog)
        self._files: FolderFiles | BucketFiles | None = None
        self._others_seen: list[str] = []
        self._listed: list[FeedObject] = []
        self._stop = threading.Event()
        self._ahead = ahead
        self._observe = observe
        self._workers = ThreadPoolExecutor(ahead, thread_name_prefix="feed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._workers.shutdown(cancel_futures=True)

    def cancel(self) -> None:
        """Cancel the downloads under way, from another thread."""
        self._stop.set()

    @property
    def files(self) -> FolderFiles | BucketFiles:
        """The files of the bucket, which is opened at first use: it needs credentials."""
        if self._files is None:
            self._files = _open(self.options)
        return self._files

    @property
    def warning(self) -> str | None:
        """What is unsafe about the way to the files; None if nothing is."""
        return self.files.warning

    def list(self, start_after: str | None = None) -> Iterator[FeedObject]:
        """
        Yield the files below the url as they are listed, in no guaranteed order.

        *start_after* excludes the names up to it, in the order of their characters.
        Empty files are excluded, and with them the markers of folders: they hold no rows,
        and a file that is filled later has another version. Files younger than *settle_seconds*
        are excluded too, and counted in *waiting*: another program may still be writing them.
        """
        self._others_seen, self._listed, self.waiting = [], [], 0
        for found in self.files.list(start_after):
            if not self._is_wanted(found):
                if len(self._others_seen) < SHOWN:
                    self._others_seen.append(found.name)
            elif self._is_young(found):
                self.waiting += 1
            else:
                self._listed.append(found)
                yield found

    def nothing_found(self, read_before: int = 0) -> str:
        """
        Say where and for what the last listing looked, and what it saw instead.

        *read_before* is the number of files that earlier runs have read.
        """
        seen = ", ".join(self._others_seen)
        instead = f"There are other files, such as {seen}." if seen else "It holds no file at all."
        nothing = f"{self.files.place}: no file has a name that matches '{self._pattern}'"
        check = "Check the feed's url and pattern"
        if not read_before:
            return f"{nothing}. {instead} {check}."
        return (
            f"{nothing}, although earlier runs have read {counted(read_before, 'file')}. {instead}"
            f" {check}, whether the files were moved or deleted, and whether their owner still lets"
            " you list them."
        )

    def _is_wanted(self, found: FeedObject) -> bool:
        if found.size == 0:
            return False
        if found.name.endswith("/"):  # A folder that cannot be read may hold any file.
            return True
        if any(fnmatch.fnmatchcase(found.name, other) for other in self._others):
            return False
        return fnmatch.fnmatchcase(found.name, self._pattern)

    def _is_young(self, found: FeedObject) -> bool:
        """
        Whether it may still grow.

        The clock of a file server may be ahead, and its files are of the future then. A time that
        is further in the future is a wrong one, and no reason.
        """
        age = (self._clock() - found.modified_at).total_seconds()
        return abs(age) < self.settle_seconds

    def fetch(
        self, objects: Sequence[FeedObject], folder: Path, others: Sequence[FeedObject] = ()
    ) -> Iterator[FeedFile | Unreadable]:
        """
        Download *objects* into *folder*, as plain text with their dialect, in the order given.

        The next few are downloaded while the caller works on one. The caller deletes the files
        that it takes; the others are deleted here. A file that the store does not give, or that
        does not fit on the disk, is Unreadable. If the store gives no other file either, of those
        that were listed and of *others*, its error is raised.
        """
        folder.mkdir(parents=True, exist_ok=True)
        _ = self.files  # Opened here, once, before several threads use it.
        self._stop = threading.Event()
        given: list[str] = []

        def bring(origin: FeedObject) -> FeedFile | Unreadable | NotGiven | NoRoom:
            try:
                file = self._bring(origin, folder)
            except (NotGiven, NoRoom) as reason:
                return reason
            given.append(origin.name)
            return file

        refused: set[str] = set()
        found = in_order(
            self._workers, bring, objects, self._ahead, stop=self._stop.set, discard=_discard
        )
        with closing(found):
            for origin, outcome in zip(objects, found, strict=True):
                match outcome:
                    case NotGiven():
                        refused.add(origin.name)
                        if outcome.refusal and not given:
                            self._find_another([*objects, *others], refused, outcome.refusal)
                            given.append("another")
                        yield Unreadable(origin, str(outcome), later=True)
                    case NoRoom():
                        yield self._bring_alone(origin, folder)
                    case _:
                        yield outcome

    def _find_another(
        self, objects: Sequence[FeedObject], refused: set[str], refusal: ReplicaError
    ) -> None:
        """
        Raise *refusal* unless the store gives another file: then it concerns those *refused*.

        Where there is no other file, an error of the store is the file's if the store still
        lists, and a denial is that of our credentials.
        """
        others = sorted(file for file in {*self._listed, *objects} if file.name not in refused)
        if not others and isinstance(refusal, Unavailable):
            next(self.files.list(), None)
            return
        for other in dict.fromkeys(others[at] for at in (-1, 0, len(others) // 2) if others):
            try:
                next(self.files.pieces(other), None)
            except (NotGiven, MovedOn, Unavailable, AccessDenied):
                continue
            return
        raise refusal from None

    def _bring(self, origin: FeedObject, folder: Path) -> FeedFile | Unreadable:
        watch = Watch()
        failure: str | None = None
        try:
            brought = self._brought(origin, folder)
            failure = "Unreadable" if isinstance(brought, Unreadable) else None
            return brought  # noqa: TRY300 -- The event needs it in any case.
        except BaseException as error:
            failure = type(error).__name__
            raise
        finally:
            place = current_place()
            self._observe(FileFetched(watch.began_at, watch.seconds, place, origin.size, failure))

    def _brought(self, origin: FeedObject, folder: Path) -> FeedFile | Unreadable:
        path: Path | None = None
        is_written = False
        try:
            with step("fetch"):
                path = scratch_files.create_in(folder, "feed-")
                self._download(origin, path)
                is_written = True
                dialect, lines, packing = self._prepare(path)
                return FeedFile(origin, path, dialect, lines=lines, packing=packing)
        except BaseException as error:
            if path is not None:
                scratch_files.discard(path)
            match error:
                case UnfitError():
                    return Unreadable(origin, str(error))
                case MovedOn():
                    return Unreadable(origin, str(error), again=True)
                case OSError() if is_full(error):
                    raise NoRoom from None
                case OSError():
                    raise _disk_error(folder, error) from None
                case Exception() if is_written and not isinstance(error, ReplicaError):
                    places = "".join(traceback.format_tb(error.__traceback__))
                    logger.debug("cannot read %s:\n%s", origin.name, places)  # No text: see errors.
                    return Unreadable(origin, UNEXPECTED.format(type(error).__name__))
            raise

    def _bring_alone(self, origin: FeedObject, folder: Path) -> FeedFile | Unreadable:
        """Bring a file once more that did not fit beside those under way."""
        try:
            return self._bring(origin, folder)
        except NotGiven as reason:
            return Unreadable(origin, str(reason), later=True)
        except NoRoom as full:
            if shutil.disk_usage(folder).free < DISK_IS_FULL:
                raise temp_files_full() from full
            return Unreadable(origin, NO_ROOM_FOR_IT, later=True)

    def _download(self, origin: FeedObject, path: Path) -> None:
        """Download the version that was listed; never parts of two versions."""
        for tries_left in reversed(range(TRIES)):
            try:
                _write(self._pieces(origin), path)
            except NotGiven as missed:
                if not (tries_left and isinstance(missed.refusal, Unavailable)):
                    raise
            except Unavailable:
                if not tries_left:
                    raise
            else:
                return

    def _pieces(self, origin: FeedObject) -> Iterator[bytes]:
        """Yield the file in pieces, until the download is cancelled."""
        stop = self._stop
        for piece in self.files.pieces(origin):
            if stop.is_set():
                raise _CancelledError
            yield piece

    def _prepare(self, path: Path) -> tuple[Dialect, int | None, Packing]:
        """Return the dialect of *path*, the lines of a CSV file, and how it was written."""
        options = self.options
        packing = decompress(
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
        lines = None
        match dialect.format:
            case "csv" if dialect.columns:
                lines = check_cells(path, dialect)
            case "json" if is_array:
                check_lines(path, options.max_record_bytes)
            case "parquet":
                check_parquet(path, self.max_bytes, options.max_record_bytes)
        return dialect, lines, packing


class _CancelledError(Exception):
    """The caller needs no more files."""


def _open(options: FeedSettings) -> FolderFiles | BucketFiles:
    if options.url.startswith("s3://"):
        return BucketFiles(open_bucket(options))
    return FolderFiles(existing_folder(options.url), follow_symlinks=options.follow_symlinks)


def _disk_error(folder: Path, error: OSError) -> ReplicaError:
    return ReplicaError(
        f"{folder}: writing a file of the feed failed ({error.strerror})."
        " Check the free disk space and the folder's permissions."
    )


def _settle_seconds(options: FeedSettings) -> float:
    if options.settle_seconds is not None:
        return options.settle_seconds
    return 0.0 if options.url.startswith("s3://") else SETTLE_SECONDS


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


def _write(pieces: Iterable[bytes], path: Path) -> None:
    with path.open("wb", buffering=CHUNK) as file:
        for piece in pieces:
            file.write(piece)


def _discard(file: FeedFile | Unreadable | NotGiven | NoRoom) -> None:
    if isinstance(file, FeedFile):
        file.discard()
