"""
Backfill on a Spark cluster: the executors stage the export files, the driver loads the rows.

An executor processes a file as a sync does: it downloads the file and maps it with the same
statement, in a DuckDB of its own. It writes the staged rows as Parquet to the staging folder,
under a name that no other attempt uses, and returns an outcome with that name to the driver.
The driver loads exactly the files of these outcomes, in the order of the feed. A task that is
killed, retried or run twice therefore neither loses a row nor duplicates one. Spark alone
decides which task runs where and when.
"""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from uuid import uuid4

from ometria_replica import errors, scratch_files
from ometria_replica.config import FeedSettings, masked
from ometria_replica.errors import ConfigError, ReplicaError
from ometria_replica.mapping import Staging
from ometria_replica.ometria.account_source import AccountSource
from ometria_replica.ometria.bucket import open_bucket
from ometria_replica.ometria.prefetch import in_order
from ometria_replica.permissions import CLOSED_UMASK, PRIVATE_FOLDER
from ometria_replica.records import StagedFile
from ometria_replica.records import Unreadable as UnreadableFile
from ometria_replica.replication import sync, utc_now
from ometria_replica.schema import Feed
from ometria_replica.tables import TABLES
from ometria_replica.temp_files import temp_folder
from ometria_replica.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import date

    import duckdb
    import pyarrow as pa
    from pyspark.sql import SparkSession

    from ometria_replica.config import AccountSettings, Config, Limits
    from ometria_replica.observer import Observe
    from ometria_replica.ometria.bucket import Bucket
    from ometria_replica.records import FeedFile, FeedObject, FetchedFile
    from ometria_replica.report import RunReport
    from ometria_replica.run_context import Progress
    from ometria_replica.schema import Table

logger = logging.getLogger(__name__)


AT_ONCE = 64
MEMORY = "1GB"  # Of a task, unless the settings or the caller say otherwise.
WAVE_BYTES = 32 * 2**20  # Per concurrent file: seconds of work for a task, not minutes.
WAVE_FILES = 2_000  # Their names are part of the job: about 200 kB.
WAVES_AHEAD = 2  # Staged while the driver loads another wave; bounds the staging folder.
FILES_AHEAD = 4  # Downloaded from the staging folder meanwhile.

FEED_TABLES = tuple(table.name for table in TABLES if isinstance(table.read, Feed))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)  # A placeholder: the driver sets the load time.
FOLDER = "ometria-replica"
SHARED = "Use a staging folder that all machines share, or an s3:// address."


def backfill(
    config: Config,
    spark: SparkSession,
    staging: str | FeedSettings,
    *,
    full: bool = False,
    since: date | None = None,
    until: date | None = None,
    at_once: int = AT_ONCE,
    memory: str | None = None,
    clock: Callable[[], datetime] = utc_now,
    progress: Progress | None = None,
    observe: Observe | None = None,
) -> RunReport:
    """
    Read the feeds of *config* as ``sync`` does, and map their files on the executors of *spark*.

    *staging* is the folder for staged rows until they are loaded: an ``s3://`` address, or a
    folder that the driver and the executors share. Pass FeedSettings if it needs other
    credentials than the AWS credential chain provides. The run removes the files that it
    wrote there. *full*, *since*, *until*, *clock*, *progress* and *observe* are those of ``sync``.
    *at_once* is the number of files that are processed concurrently: at least the number of
    the cluster's cores. *memory* is the memory limit of the DuckDB in one task;
    None means ``memory_limit`` of *config*, or else 1 GB. A task has one thread, and its
    temporary files go to ``temp_directory``.

    Raises the errors of ``sync``, and ReplicaError if a Spark job fails.
    """
    accounts = tuple(
        replace(account, api_key=None, require=(), feed=_from_anywhere(account.feed))
        for account in config.accounts
        if account.feed is not None
    )
    if not accounts:
        raise ConfigError("No account has a feed, and Spark reads nothing else. Set feed.url.")
    if at_once < 1:
        raise ConfigError(f"at_once: {at_once} is too small. Use 1 or more.")
    settings = FeedSettings(url=staging) if isinstance(staging, str) else staging
    folder = _StagingFolder(_from_anywhere(settings), masked(config.warehouse.url))
    of_driver = config.warehouse.limits
    limits = replace(of_driver, memory_limit=memory or of_driver.memory_limit or MEMORY, threads=1)
    with _Cluster(spark, folder, at_once, limits).running() as cluster:
        return sync(
            replace(config, accounts=accounts, parallel_accounts=1),  # The executors are.
            FEED_TABLES,
            full=full,
            since=since,
            until=until,
            clock=clock,
            progress=progress,
            observe=observe,
            fetch=cluster.fetch,
        )


def _from_anywhere(feed: FeedSettings) -> FeedSettings:
    """Make a relative path absolute: an executor has another working directory."""
    if "://" in feed.url:
        return feed
    return replace(feed, url=str(Path(feed.url).expanduser().absolute()))


# --- The driver --------------------------------------------------------------------------------


@dataclass
class _Cluster:
    """The Spark session with the jobs and downloads of this run."""

    spark: SparkSession
    staging: _StagingFolder
    at_once: int
    limits: Limits
    tag: str = field(default_factory=lambda: f"{FOLDER}-{uuid4().hex}")
    _jobs: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(WAVES_AHEAD + 1, thread_name_prefix="spark")
    )
    _downloads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(FILES_AHEAD, thread_name_prefix="staged")
    )

    @contextmanager
    def running(self) -> Iterator[_Cluster]:
        """Stop all jobs at the end, and remove this run's files from the staging folder."""
        try:
            yield self
        finally:
            with suppress(Exception):  # Spark itself may have failed.
                self.spark.interruptTag(self.tag)
            for workers in (self._jobs, self._downloads):
                workers.shutdown(cancel_futures=True)
            self.staging.remove_runs()

    def fetch(
        self, account: AccountSettings, table: Table, files: Sequence[FeedObject], folder: Path
    ) -> Iterator[FetchedFile]:
        """Stage *files* on the executors, wave after wave, and yield them in their order."""
        staging = self.staging
        work = _Work(
            account, table, staging.settings, staging.begin(account), self.limits, _versions()
        )
        works = (replace(work, files=files) for files in _in_waves(files, self.at_once))
        waves = in_order(self._jobs, self._stage, works, WAVES_AHEAD)
        staged = chain.from_iterable(waves)
        yield from in_order(self._downloads, partial(self._download, folder), staged, FILES_AHEAD)

    def _stage(self, work: _Work) -> list[tuple[FeedObject, Staged | Unreadable]]:
        """Run one job and return the outcomes of its tasks."""

        def stage(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            return _run_task(work, batches)

        self.spark.addTag(self.tag)  # A tag belongs to the calling thread.
        tasks = min(len(work.files), self.at_once)
        numbers = self.spark.range(0, len(work.files), 1, tasks)
        try:
            rows = numbers.mapInArrow(stage, "outcome string").collect()
        except Exception as error:  # noqa: BLE001 -- Spark's errors have no common base class.
            logger.debug("Spark job failed: %s", type(error).__name__)
            # Without its text and its cause: both can quote lines of a file.
            raise ReplicaError(
                f"Spark failed to stage files of the feed ({type(error).__name__})."
                " See the executors' logs for the cause. Committed data is safe; run again."
            ) from None
        return _to_wave([outcome_from_json(row.outcome) for row in rows], work.files)

    def _download(
        self, folder: Path, staged: tuple[FeedObject, Staged | Unreadable]
    ) -> FetchedFile:
        """Download the staged rows of one file to this machine."""
        origin, outcome = staged
        if isinstance(outcome, Unreadable):
            return UnreadableFile(origin, outcome.reason, again=outcome.again, later=outcome.later)
        rows = self.staging.download(outcome.rows, folder)
        lines = self.staging.download(outcome.lines, folder)
        return StagedFile(origin, rows, lines, outcome.counts, frozenset(outcome.unknown_fields))


def _in_waves(files: Sequence[FeedObject], at_once: int) -> Iterator[tuple[FeedObject, ...]]:
    """Cut *files* into the waves of one job each, with enough work for *at_once* tasks."""
    wave: list[FeedObject] = []
    size = 0
    for file in files:
        wave.append(file)
        size += file.size
        is_enough = len(wave) >= at_once and size >= at_once * WAVE_BYTES
        if is_enough or len(wave) >= max(WAVE_FILES, at_once):
            yield tuple(wave)
            wave, size = [], 0
    if wave:
        yield tuple(wave)


def _to_wave(
    outcomes: Sequence[Outcome], files: Sequence[FeedObject]
) -> list[tuple[FeedObject, Staged | Unreadable]]:
    """Sort *outcomes* by file. Raises the error of a task that failed."""
    for outcome in outcomes:
        if isinstance(outcome, Failed):
            raise outcome.to_error()
    by_number = {o.number: o for o in outcomes if isinstance(o, Staged | Unreadable)}
    if len(by_number) != len(files):
        raise ReplicaError(
            f"The Spark tasks returned {len(by_number)} files instead of {len(files)}."
            " None of them was loaded; run again."
        )
    return [(file, by_number[number]) for number, file in enumerate(files)]


# --- The staging folder ------------------------------------------------------------------------


@dataclass
class _StagingFolder:
    """
    A bucket or folder for staged rows until they are loaded.

    Each run of a source has a subfolder. The subfolder of a driver that was killed stays;
    the next run that holds the lease of the source removes it. Two warehouses can share a
    staging folder.
    """

    settings: FeedSettings
    warehouse: str
    _runs: list[str] = field(default_factory=list)

    @cached_property
    def bucket(self) -> Bucket:
        """The bucket or folder, opened at first use; a folder is created if needed."""
        if "://" not in self.settings.url:
            Path(self.settings.url).mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        return _open(self.settings)

    def begin(self, account: AccountSettings) -> str:
        """Return the subfolder of this run, and remove those of earlier runs."""
        folder = self.folder_of(account.source_id)
        self._remove(f"{folder}/")
        self._runs.append(run := f"{folder}/{uuid4().hex}/")
        return run

    def folder_of(self, source_id: str) -> str:
        """Return the subfolder of a source in this warehouse."""
        owner = sha256(f"{self.warehouse} {source_id}".encode()).hexdigest()
        return f"{FOLDER}/{owner[:16]}"

    def download(self, name: str | None, folder: Path) -> Path | None:
        """Move one object to the local *folder*; None if there is no object."""
        if name is None:
            return None
        path = scratch_files.create(folder / Path(name).name)
        with _translated_errors(self.bucket, f"reading {name}"), path.open("wb") as file:
            for piece in self.bucket.store.get(name).stream():
                file.write(piece)
            self.bucket.store.delete(name)
        return path

    def remove_runs(self) -> None:
        """Remove all objects of this run, including those of killed tasks without an outcome."""
        for run in self._runs:
            try:
                self._remove(run)
            except ReplicaError as error:  # All rows are loaded, or another error came first.
                logger.warning("%s The next backfill removes the rest.", error)

    def _remove(self, prefix: str) -> None:
        with _translated_errors(self.bucket, "removing staged rows"):
            for chunk in self.bucket.store.list(prefix):
                self.bucket.store.delete([meta["path"] for meta in chunk])


def _open(settings: FeedSettings) -> Bucket:
    if "://" not in settings.url and not Path(settings.url).is_dir():
        raise ConfigError(f"{settings.url}: this folder does not exist. {SHARED}")
    return open_bucket(settings)


@contextmanager
def _translated_errors(bucket: Bucket, doing: str) -> Iterator[None]:
    """Translate the object store's errors into ours."""
    from obstore.exceptions import BaseError  # noqa: PLC0415 -- 30 ms, and only a backfill needs it.

    try:
        yield
    except FileNotFoundError:
        raise ConfigError(
            f"{bucket.place}: the driver cannot find a file that an executor wrote. {SHARED}"
        ) from None
    except (BaseError, OSError) as error:
        refusal = bucket.refusal(error, doing)
        # The settings are of the same kind, and the message names the feed.
        message = str(refusal).replace("the feed's", "the staging folder's")
        raise type(refusal)(
            f"{message} The credentials must allow listing, reading, writing and deleting there."
        ) from None


# --- Outcomes ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Json:
    """An outcome of a task as JSON; its class name goes in beside its fields."""

    def to_json(self) -> str:
        """Write the outcome for :func:`outcome_from_json`."""
        return json.dumps({"kind": type(self).__name__, **asdict(self)})


@dataclass(frozen=True)
class Staged(_Json):
    """
    A file was mapped.

    *number* is its place in the wave. *rows* and *lines* are objects in the staging folder:
    the staged rows, and the lines that could not be parsed; None if there are none. *counts*
    are the numbers of both.
    """

    number: int
    rows: str | None
    lines: str | None
    counts: tuple[int, int]
    unknown_fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unreadable(_Json):
    """A file could not be read; *again* and *later* say which run may succeed."""

    number: int
    reason: str
    again: bool
    later: bool


@dataclass(frozen=True)
class Failed(_Json):
    """A task failed with the *error* of this name in ``errors``, which a retry would not cure."""

    error: str
    message: str

    def to_error(self) -> ReplicaError:
        """Return the error, as one of an executor."""
        kind: type[ReplicaError] = getattr(errors, self.error)
        return kind(f"On an executor: {self.message}")


Outcome: TypeAlias = Staged | Unreadable | Failed
"""The result that a task returns to the driver."""

_OUTCOMES: dict[str, type[Outcome]] = {kind.__name__: kind for kind in (Staged, Unreadable, Failed)}


def outcome_from_json(text: str) -> Outcome:
    """Read an outcome that :meth:`to_json` wrote."""
    fields = json.loads(text)
    for name in {"counts", "unknown_fields"} & fields.keys():
        fields[name] = tuple(fields[name])
    return _OUTCOMES[fields.pop("kind")](**fields)


# --- The executors -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Work:
    """
    The job of one wave, which reaches the executors in the closure of its tasks only.

    The account has no API key. *folder* is the run's subfolder of the staging folder.
    """

    account: AccountSettings
    table: Table
    staging: FeedSettings
    folder: str
    limits: Limits
    versions: str
    files: tuple[FeedObject, ...] = ()


def _versions() -> str:
    """Name the versions here; they must be the same everywhere, to map a text to the same row."""
    import duckdb  # noqa: PLC0415 -- 130 ms, and only a backfill needs it.

    return f"ometria-replica {__version__} with DuckDB {duckdb.__version__}"


def _run_task(work: _Work, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Stage the files with the numbers in *batches*; yield each outcome as soon as it is known."""
    import pyarrow as pa  # noqa: PLC0415 -- 80 ms, and only a backfill needs it.

    numbers: list[int] = []
    for batch in batches:
        numbers += batch.to_pydict()["id"]
    for outcome in _outcomes(work, numbers):
        yield pa.RecordBatch.from_pydict({"outcome": [outcome.to_json()]})


def _outcomes(work: _Work, numbers: Sequence[int]) -> Iterator[Outcome]:
    """Yield the outcome of each file; permanent errors too, as Spark would retry a raised one."""
    try:
        _check_versions(work)
        yield from _staged_files(work, numbers)
    except ReplicaError as error:
        if type(error) is ReplicaError:
            raise  # Perhaps a problem of this machine: Spark retries on another.
        yield Failed(type(error).__name__, str(error))


def _check_versions(work: _Work) -> None:
    if work.versions != _versions():
        raise ConfigError(
            f"The executor has {_versions()}, and the driver has {work.versions}."
            " Install the same versions on both."
        )


def _staged_files(work: _Work, numbers: Sequence[int]) -> Iterator[Staged | Unreadable]:
    bucket = _open(work.staging)
    files = [work.files[number] for number in numbers]
    place = work.staging.url
    with (
        nullcontext() if "://" in place else CLOSED_UMASK.held(Path(place)),
        AccountSource(work.account, utc_now()) as inputs,
        temp_folder(work.limits.temp_directory) as folder,
    ):
        fetched = inputs.export(work.table).fetch(files, folder, work.files)
        for number, file in zip(numbers, fetched, strict=True):
            yield _staged(work, bucket, number, file)


def _staged(
    work: _Work, bucket: Bucket, number: int, file: FeedFile | UnreadableFile
) -> Staged | Unreadable:
    """Map one file, and upload the result to the staging folder."""
    if isinstance(file, UnreadableFile):
        return Unreadable(number, file.reason, file.again, file.later)
    rows, lines = (
        scratch_files.create(file.path.with_suffix(suffix)) for suffix in (".rows", ".lines")
    )
    with _open_duckdb(work, file.path.parent) as connection:
        account = work.account
        staging = Staging(connection, work.table, account.account_id, account.source_id)
        mapped = staging.add_file(file, EPOCH)
        file.discard()
        if isinstance(mapped, UnreadableFile):
            return Unreadable(number, mapped.reason, mapped.again, mapped.later)
        counts, unknown = staging.save(rows, lines)
    name = f"{work.folder}{number:06}-{uuid4().hex}"
    return Staged(
        number,
        _upload(bucket, rows, f"{name}.rows.parquet"),
        _upload(bucket, lines, f"{name}.lines.parquet"),
        counts,
        tuple(sorted(unknown)),
    )


def _open_duckdb(work: _Work, folder: Path) -> duckdb.DuckDBPyConnection:
    from ometria_replica.local_duckdb import open_duckdb  # noqa: PLC0415 -- Imports DuckDB, 130 ms.

    return open_duckdb(folder / "spill", work.limits)


def _upload(bucket: Bucket, path: Path, name: str) -> str | None:
    """Move a file to the staging folder, atomically; None if it is empty."""
    if not path.stat().st_size:
        scratch_files.discard(path)
        return None
    with _translated_errors(bucket, f"writing {name}"):
        bucket.store.put(name, path)
    scratch_files.discard(path)
    return name
