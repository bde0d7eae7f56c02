"""What runs on the driver: jobs of Spark, and the downloads of what they staged."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING
from uuid import uuid4

from ometria_replica.errors import ReplicaError
from ometria_replica.ometria.prefetch import in_order
from ometria_replica.records import StagedFile
from ometria_replica.records import Unreadable as UnreadableFile
from ometria_replica.spark.executors import Work, run_task, versions
from ometria_replica.spark.outcomes import Failed, Outcome, Staged, Unreadable, outcome_from_json
from ometria_replica.spark.staging_folder import FOLDER, StagingFolder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa
    from pyspark.sql import SparkSession

    from ometria_replica.config import AccountSettings, Limits
    from ometria_replica.records import FeedObject, FetchedFile
    from ometria_replica.schema import Table

logger = logging.getLogger(__name__)

WAVE_BYTES = 32 * 2**20  # Per concurrent file: seconds of work for a task, not minutes.
WAVE_FILES = 2_000  # Their names are part of the job: about 200 kB.
WAVES_AHEAD = 2  # Staged while the driver loads another wave; bounds the staging folder.
FILES_AHEAD = 4  # Downloaded from the staging folder meanwhile.


@dataclass
class Cluster:
    """The Spark session with the jobs and downloads of this run."""

    spark: SparkSession
    staging: StagingFolder
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
    def running(self) -> Iterator[Cluster]:
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
        work = Work(
            account, table, staging.settings, staging.begin(account), self.limits, versions()
        )
        works = (replace(work, files=files) for files in _in_waves(files, self.at_once))
        waves = in_order(self._jobs, self._stage, works, WAVES_AHEAD)
        staged = chain.from_iterable(waves)
        yield from in_order(self._downloads, partial(self._download, folder), staged, FILES_AHEAD)

    def _stage(self, work: Work) -> list[tuple[FeedObject, Staged | Unreadable]]:
        """Run one job and return the outcomes of its tasks."""

        def stage(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            return run_task(work, batches)

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
        return to_wave([outcome_from_json(row.outcome) for row in rows], work.files)

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


def to_wave(
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
