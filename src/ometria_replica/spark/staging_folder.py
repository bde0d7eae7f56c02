"""The folder or bucket that holds staged rows until the driver loads them."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from ometria_replica import scratch_files
from ometria_replica.errors import ConfigError, ReplicaError
from ometria_replica.ometria.bucket import open_bucket
from ometria_replica.permissions import PRIVATE_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ometria_replica.config import AccountSettings, FeedSettings
    from ometria_replica.ometria.bucket import Bucket

logger = logging.getLogger(__name__)

FOLDER: Final = "ometria-replica"
SHARED: Final = "Use a staging folder that all machines share, or an s3:// address."


@dataclass
class StagingFolder:
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
        return open_staging(self.settings)

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
        with translated_errors(self.bucket, f"reading {name}"), path.open("wb") as file:
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
        with translated_errors(self.bucket, "removing staged rows"):
            for chunk in self.bucket.store.list(prefix):
                self.bucket.store.delete([meta["path"] for meta in chunk])


def open_staging(settings: FeedSettings) -> Bucket:
    """Open a staging folder. Raises ConfigError if it does not exist here."""
    if "://" not in settings.url and not Path(settings.url).is_dir():
        raise ConfigError(f"{settings.url}: this folder does not exist. {SHARED}")
    return open_bucket(settings)


@contextmanager
def translated_errors(bucket: Bucket, doing: str) -> Iterator[None]:
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
