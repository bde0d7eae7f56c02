"""What runs on an executor: fetch a file, map it, and upload the staged rows."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from ometria_replica import scratch_files
from ometria_replica.clock import utc_now
from ometria_replica.errors import ConfigError, ReplicaError
from ometria_replica.mapping import Staging
from ometria_replica.ometria.account_source import AccountSource
from ometria_replica.permissions import CLOSED_UMASK
from ometria_replica.records import Unreadable as UnreadableFile
from ometria_replica.spark.outcomes import Failed, Outcome, Staged, Unreadable
from ometria_replica.spark.staging_folder import open_staging, translated_errors
from ometria_replica.temp_files import temp_folder
from ometria_replica.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import duckdb
    import pyarrow as pa

    from ometria_replica.config import AccountSettings, FeedSettings, Limits
    from ometria_replica.ometria.bucket import Bucket
    from ometria_replica.records import FeedFile, FeedObject
    from ometria_replica.schema import Table

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)  # A placeholder: the driver sets the load time.


@dataclass(frozen=True)
class Work:
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


def versions() -> str:
    """Name the versions here; they must be the same everywhere, to map a text to the same row."""
    import duckdb  # noqa: PLC0415 -- 130 ms, and only a backfill needs it.

    return f"ometria-replica {__version__} with DuckDB {duckdb.__version__}"


def run_task(work: Work, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Stage the files with the numbers in *batches*; yield each outcome as soon as it is known."""
    import pyarrow as pa  # noqa: PLC0415 -- 80 ms, and only a backfill needs it.

    numbers: list[int] = []
    for batch in batches:
        numbers += batch.to_pydict()["id"]
    for outcome in outcomes_of(work, numbers):
        yield pa.RecordBatch.from_pydict({"outcome": [outcome.to_json()]})


def outcomes_of(work: Work, numbers: Sequence[int]) -> Iterator[Outcome]:
    """Yield the outcome of each file; permanent errors too, as Spark would retry a raised one."""
    try:
        _check_versions(work)
        yield from _staged_files(work, numbers)
    except ReplicaError as error:
        if type(error) is ReplicaError:
            raise  # Perhaps a problem of this machine: Spark retries on another.
        yield Failed(type(error).__name__, str(error))


def _check_versions(work: Work) -> None:
    if work.versions != versions():
        raise ConfigError(
            f"The executor has {versions()}, and the driver has {work.versions}."
            " Install the same versions on both."
        )


def _staged_files(work: Work, numbers: Sequence[int]) -> Iterator[Staged | Unreadable]:
    bucket = open_staging(work.staging)
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
    work: Work, bucket: Bucket, number: int, file: FeedFile | UnreadableFile
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


def _open_duckdb(work: Work, folder: Path) -> duckdb.DuckDBPyConnection:
    from ometria_replica.local_duckdb import open_duckdb  # noqa: PLC0415 -- Imports DuckDB, 130 ms.

    return open_duckdb(folder / "spill", work.limits)


def _upload(bucket: Bucket, path: Path, name: str) -> str | None:
    """Move a file to the staging folder, atomically; None if it is empty."""
    if not path.stat().st_size:
        scratch_files.discard(path)
        return None
    with translated_errors(bucket, f"writing {name}"):
        bucket.store.put(name, path)
    scratch_files.discard(path)
    return name
