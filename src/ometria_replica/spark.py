"""
A backfill that outgrows one machine: Spark's executors stage the feed's files, the driver loads.

An executor does to a file what a sync does: brings it here, and maps it by the same statement,
in a DuckDB of its own. What comes out goes to the staging place as Parquet, under a name that
no other attempt has, and the driver is told the name. It loads what it was told of and nothing
else, in the order of the feed, so that a task which is killed, tried again or run twice neither
loses a row nor doubles one. Which task runs where and when is Spark's affair alone.
"""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from ometria_replica import __version__, errors
from ometria_replica.errors import AccessDenied, ConfigError, ReplicaError
from ometria_replica.mapping import Staging
from ometria_replica.ometria.account_source import AccountSource
from ometria_replica.ometria.bucket import open_bucket
from ometria_replica.ometria.prefetch import in_order
from ometria_replica.records import StagedFile, Unreadable
from ometria_replica.replication import sync, utc_now
from ometria_replica.schema import Feed
from ometria_replica.settings import FeedSettings, masked
from ometria_replica.tables import TABLES
from ometria_replica.temp_files import temp_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import date

    import pyarrow as pa
    from pyspark.sql import SparkSession

    from ometria_replica.ometria.bucket import Bucket
    from ometria_replica.records import Brought, FeedFile, FeedObject
    from ometria_replica.replication import Progress
    from ometria_replica.report import RunReport
    from ometria_replica.schema import Table
    from ometria_replica.settings import AccountSettings, Config

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Done = TypeVar("Done")

AT_ONCE = 64
MEMORY = "1GB"
WAVE_BYTES = 32 * 2**20  # Of the feed, for each file at once: seconds of work, and not minutes.
WAVE_FILES = 2_000  # Their names travel with the work: some 200 kB.
WAVES_AHEAD = 2  # Staged while the driver loads another; bounds the staging place.
FILES_AHEAD = 4  # Brought from the staging place meanwhile.

FEED_TABLES = tuple(table.name for table in TABLES if isinstance(table.read, Feed))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)  # Until the driver says when a file was loaded.
FOLDER = "ometria-replica"
SHARED = "As staging place use a folder that all machines share, or an s3:// address."


def backfill(
    config: Config,
    spark: SparkSession,
    staging: str | FeedSettings,
    *,
    full: bool = False,
    since: date | None = None,
    until: date | None = None,
    at_once: int = AT_ONCE,
    memory: str = MEMORY,
    clock: Callable[[], datetime] = utc_now,
    progress: Progress | None = None,
) -> RunReport:
    """
    Read the feeds of *config* as ``sync`` does, with the work of mapping handed to *spark*.

    *staging* is where staged rows lie until they are loaded: an ``s3://`` address or a folder
    that driver and executors share; settings of a feed say how to get in, where the AWS
    chain does not. What is written there is removed again. *full*, *since*, *until*, *clock*
    and *progress* mean what they mean to ``sync``. *at_once* files are under way together, as
    many as the cluster has cores or more, and a task's DuckDB takes *memory* at most.

    Raises what ``sync`` raises; ReplicaError for a job that Spark gave up.
    """
    accounts = tuple(
        replace(account, api_key=None, feed=_from_anywhere(account.feed))
        for account in config.accounts
        if account.feed is not None
    )
    if not accounts:
        raise ConfigError("No account has a feed, and nothing else is read by Spark. Set feed.url.")
    if at_once < 1:
        raise ConfigError(f"at_once: {at_once} files at once read nothing. Use 1 or more.")
    settings = FeedSettings(url=staging) if isinstance(staging, str) else staging
    place = _Place(_from_anywhere(settings), masked(config.warehouse.url))
    with _Cluster(spark, place, at_once, memory).running() as cluster:
        return sync(
            replace(config, accounts=accounts),
            FEED_TABLES,
            full=full,
            since=since,
            until=until,
            clock=clock,
            progress=progress,
            fetch=cluster.fetch,
        )


def _from_anywhere(feed: FeedSettings) -> FeedSettings:
    """Make a relative path whole: an executor works in a folder of its own."""
    if "://" in feed.url:
        return feed
    return replace(feed, url=str(Path(feed.url).expanduser().absolute()))


# --- The driver --------------------------------------------------------------------------------


@dataclass
class _Cluster:
    """Spark, and what this run has of it under way."""

    spark: SparkSession
    place: _Place
    at_once: int
    memory: str
    tag: str = field(default_factory=lambda: f"{FOLDER}-{uuid4().hex}")
    _jobs: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(WAVES_AHEAD + 1, thread_name_prefix="spark")
    )
    _bringers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(FILES_AHEAD, thread_name_prefix="staged")
    )

    @contextmanager
    def running(self) -> Iterator[_Cluster]:
        """Leave nothing behind: no job, and nothing in the staging place."""
        try:
            yield self
        finally:
            with suppress(Exception):  # Spark itself may be what failed.
                self.spark.interruptTag(self.tag)
            for workers in (self._jobs, self._bringers):
                workers.shutdown(cancel_futures=True)
            self.place.remove_runs()

    def fetch(
        self, account: AccountSettings, table: Table, files: Sequence[FeedObject], folder: Path
    ) -> Iterator[Brought]:
        """Have *files* staged by executors, a wave after another, and bring them in order."""
        work = _Work(
            account, table, self.place.settings, self.place.begin(account), self.memory, _made_by()
        )
        waves = (replace(work, files=wave) for wave in _in_waves(files, self.at_once))
        outcomes = chain.from_iterable(in_order(self._jobs, self._stage, waves, WAVES_AHEAD))
        denials = _Denials(len(files))
        told = (outcome for outcome in outcomes if not denials.hears(outcome))
        bring = partial(self._bring, folder)
        yield from in_order(self._bringers, bring, told, FILES_AHEAD)
        denials.raise_if_all()

    def _stage(self, work: _Work) -> list[dict[str, Any]]:
        """Run one job, and give what its tasks tell, in the order of the files."""

        def stage(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            return _staged_by_this_task(work, batches)

        self.spark.addTag(self.tag)  # Of this thread.
        tasks = min(len(work.files), self.at_once)
        numbers = self.spark.range(0, len(work.files), 1, tasks)
        try:
            rows = numbers.mapInArrow(stage, "outcome string").collect()
        except Exception as error:  # noqa: BLE001 -- What Spark raises has no common root.
            logger.debug("Spark gave up a job: %s", type(error).__name__)
            # Without its text and without the cause: both can hold lines of a file.
            raise ReplicaError(
                f"Spark gave up staging files of the feed ({type(error).__name__})."
                " The executors' logs say why. What was loaded so far stays; run again."
            ) from None
        return _in_order([json.loads(row.outcome) for row in rows], work)

    def _bring(self, folder: Path, outcome: dict[str, Any]) -> Brought:
        """Bring what was staged of one file to this machine."""
        origin = outcome["origin"]
        if "reason" in outcome:
            return Unreadable(origin, outcome["reason"], again=outcome["again"])
        rows = self.place.take(outcome["rows"], folder)
        lines = self.place.take(outcome["lines"], folder)
        return StagedFile(origin, rows, lines, frozenset(outcome["unknown"]))


def _in_waves(files: Sequence[FeedObject], at_once: int) -> Iterator[tuple[FeedObject, ...]]:
    """Cut *files* into what one job does: enough for *at_once* tasks, and not all of it."""
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


def _in_order(outcomes: list[dict[str, Any]], work: _Work) -> list[dict[str, Any]]:
    """Raise what a task could not do, and sort the rest as the feed is."""
    for outcome in outcomes:
        if "failed" in outcome:
            raise getattr(errors, outcome["failed"])(f"On an executor: {outcome['message']}")
    denials = [outcome for outcome in outcomes if "denied" in outcome]
    files = {outcome["number"]: outcome for outcome in outcomes if "number" in outcome}
    if len(files) != len(work.files):
        raise ReplicaError(
            f"Spark's tasks told of {len(files)} files, not of {len(work.files)}."
            " Nothing of them was loaded; run again."
        )
    return [*({**files[n], "origin": file} for n, file in enumerate(work.files)), *denials]


@dataclass
class _Denials:
    """Files that the store denies. Where it denies all, that is what to say, as in a sync."""

    files: int
    denied: int = 0
    message: str = ""

    def hears(self, outcome: dict[str, Any]) -> bool:
        """Take note of a task that was denied every file."""
        if "denied" not in outcome:
            return False
        self.denied += outcome["files"]
        self.message = self.message or outcome["denied"]
        return True

    def raise_if_all(self) -> None:
        """Raise AccessDenied if nothing could be read."""
        if self.message and self.denied == self.files:
            raise AccessDenied(self.message)


# --- The staging place -------------------------------------------------------------------------


@dataclass
class _Place:
    """
    Where staged rows lie until they are loaded, in a folder of each source, of each run.

    A driver that was killed leaves its own. The next run that holds the source's lease
    removes it, so two warehouses may share a place.
    """

    settings: FeedSettings
    warehouse: str
    _runs: list[str] = field(default_factory=list)

    @cached_property
    def bucket(self) -> Bucket:
        """The bucket or folder, opened when first needed; the folder is made."""
        if "://" not in self.settings.url:
            Path(self.settings.url).mkdir(parents=True, exist_ok=True)
        return _open(self.settings)

    def begin(self, account: AccountSettings) -> str:
        """Name this run's folder, and remove what earlier runs left beside it."""
        folder = self.folder_of(account.source_id)
        self._remove(f"{folder}/")
        self._runs.append(run := f"{folder}/{uuid4().hex}/")
        return run

    def folder_of(self, source_id: str) -> str:
        """Name the folder of a source of this warehouse."""
        owner = sha256(f"{self.warehouse} {source_id}".encode()).hexdigest()
        return f"{FOLDER}/{owner[:16]}"

    def take(self, name: str | None, folder: Path) -> Path | None:
        """Move one object to *folder*; None stands for nothing."""
        if name is None:
            return None
        path = folder / Path(name).name
        with _said_clearly(self.bucket, f"reading {name}"), path.open("wb") as file:
            for piece in self.bucket.store.get(name).stream():
                file.write(piece)
            self.bucket.store.delete(name)
        return path

    def remove_runs(self) -> None:
        """Remove what this run wrote: also what killed tasks left, which nobody was told of."""
        for run in self._runs:
            try:
                self._remove(run)
            except ReplicaError as error:  # All is loaded, or something else failed first.
                logger.warning("%s The next backfill tries again.", error)

    def _remove(self, prefix: str) -> None:
        with _said_clearly(self.bucket, "removing staged rows"):
            for chunk in self.bucket.store.list(prefix):
                self.bucket.store.delete([meta["path"] for meta in chunk])


def _open(settings: FeedSettings) -> Bucket:
    if "://" not in settings.url and not Path(settings.url).is_dir():
        raise ConfigError(f"{settings.url}: there is no such folder. {SHARED}")
    return open_bucket(settings)


@contextmanager
def _said_clearly(bucket: Bucket, doing: str) -> Iterator[None]:
    """Turn the driver's errors into ours."""
    from obstore.exceptions import BaseError  # noqa: PLC0415 -- 30 ms, and only a backfill needs it.

    try:
        yield
    except FileNotFoundError:
        raise ConfigError(
            f"{bucket.place}: what an executor put there is not there for the driver. {SHARED}"
        ) from None
    except (BaseError, OSError) as error:
        refusal = bucket.refusal(error, doing)
        told = str(refusal).replace(
            "the feed's", "the staging place's"
        )  # The same kind of settings.
        raise type(refusal)(
            f"{told} There, listing, getting, putting and deleting objects must be allowed."
        ) from None


# --- The executors -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Work:
    """
    What travels to the executors, in the closure of a task and nowhere else.

    The account comes without its API key. *folder* is this run's, in the staging place.
    """

    account: AccountSettings
    table: Table
    staging: FeedSettings
    folder: str
    memory: str
    made_by: str
    files: tuple[FeedObject, ...] = ()


def _made_by() -> str:
    """Tell what maps here: the same text of a file must become the same row everywhere."""
    import duckdb  # noqa: PLC0415 -- 130 ms, and only a backfill needs it.

    return f"ometria-replica {__version__} with DuckDB {duckdb.__version__}"


def _staged_by_this_task(
    work: _Work, batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Stage the files with these numbers, and tell of each in a row as soon as it is done."""
    import pyarrow as pa  # noqa: PLC0415 -- 80 ms, and only a backfill needs it.

    numbers: list[int] = []
    for batch in batches:
        numbers += batch.to_pydict()["id"]
    for outcome in _outcomes(work, numbers):
        yield pa.RecordBatch.from_pydict({"outcome": [json.dumps(outcome)]})


def _outcomes(work: _Work, numbers: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Tell what became of each file. Refusals are told, not raised: Spark would ask again."""
    told = 0
    try:
        _refuse_another_version(work)
        for outcome in _staged_files(work, numbers):
            yield outcome
            told += 1
    except AccessDenied as denied:
        if told == len(numbers):
            yield {"denied": str(denied), "files": told}
        else:
            yield _failure(denied)
    except ReplicaError as error:
        if type(error) is ReplicaError:
            raise  # Of this machine, perhaps: Spark tries another.
        yield _failure(error)


def _failure(error: ReplicaError) -> dict[str, Any]:
    return {"failed": type(error).__name__, "message": str(error)}


def _refuse_another_version(work: _Work) -> None:
    if work.made_by != _made_by():
        raise ConfigError(
            f"{_made_by()} is installed there, and the driver has {work.made_by}."
            " Install the same on both."
        )


def _staged_files(work: _Work, numbers: Sequence[int]) -> Iterator[dict[str, Any]]:
    place = _open(work.staging)
    files = [work.files[number] for number in numbers]
    with AccountSource(work.account, utc_now()) as inputs, temp_folder() as folder:
        brought = inputs.export(work.table).fetch(files, folder)
        for number, file in zip(numbers, brought, strict=True):
            yield {"number": number, **_staged(work, place, file, f"{work.folder}{number:06}")}


def _staged(work: _Work, place: Bucket, file: FeedFile | Unreadable, name: str) -> dict[str, Any]:
    """Map one file and put what came out where the driver finds it."""
    if isinstance(file, Unreadable):
        return {"reason": file.reason, "again": file.again}
    rows, lines = file.path.with_suffix(".rows"), file.path.with_suffix(".lines")
    with _duckdb(work, file.path.parent) as connection:
        account = work.account
        staging = Staging(connection, work.table, account.account_id, account.source_id)
        records = staging.add_file(file, EPOCH)
        file.discard()
        if isinstance(records, Unreadable):
            return {"reason": records.reason, "again": records.again}
        unknown = staging.save(rows, lines)
    unique = f"{name}-{uuid4().hex}"
    return {
        "rows": _put(place, rows, f"{unique}.rows.parquet"),
        "lines": _put(place, lines, f"{unique}.lines.parquet"),
        "unknown": sorted(unknown),
    }


@contextmanager
def _duckdb(work: _Work, folder: Path) -> Iterator[Any]:
    """Open a DuckDB that takes one core and no more memory than a task may."""
    import duckdb  # noqa: PLC0415 -- 130 ms, and only a backfill needs it.

    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "memory_limit": work.memory,
        "temp_directory": str(folder / "spill"),
        "autoinstall_known_extensions": "false",
    }
    with duckdb.connect(config=config) as connection:
        yield connection


def _put(place: Bucket, path: Path, name: str) -> str | None:
    """Put a file into the staging place, whole or not at all; None if there is no such file."""
    if not path.exists():
        return None
    with _said_clearly(place, f"writing {name}"):
        place.store.put(name, path)
    path.unlink()
    return name
