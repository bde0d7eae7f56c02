"""Everything that writes, and nothing else does: the Warehouse protocol and who speaks it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from ometria_replica.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime
    from types import TracebackType

    from duckdb import DuckDBPyConnection

    from ometria_replica.records import FeedObject
    from ometria_replica.warehouse.state import (
        Batch,
        BatchSize,
        Lease,
        Loaded,
        Memory,
        Owner,
        Reject,
        Run,
    )

__all__ = ["SCHEMES", "Warehouse", "open_warehouse"]


class Warehouse(Protocol):
    """
    Where the five tables live.

    *staging* is the DuckDB in which records are mapped, whatever the warehouse.
    Errors of the driver leave as :class:`~ometria_replica.errors.WarehouseError`,
    with the batch rolled back.
    """

    staging: DuckDBPyConnection
    batch_size: BatchSize
    """How much it takes at once: what suits it, within bounds of memory."""

    def prepare(self, owner: Owner, now: datetime) -> None:
        """
        Make what is missing, and note how the owner's keys are made.

        Raises ConfigError when its rows were loaded with other keys, and
        WarehouseError when a table is there with other columns than ours.
        """

    def try_access(self) -> None:
        """Raise WarehouseError if this user could not write here. Changes nothing."""

    def owners(self) -> list[Owner]:
        """List whose rows are here."""

    def take_lease(self, lease: Lease, now: datetime) -> None:
        """
        Let one run write, and no other; take over what a dead or silent run left.

        Raises Busy, with who holds it, while another run is at work.
        """

    def give_back(self, lease: Lease) -> None:
        """End a lease; nothing happens if it is no longer ours."""

    def recall(self, source_id: str, table_name: str) -> Memory:
        """Tell what is known of a table of a source."""

    def count_rows(self, source_id: str, table_name: str) -> int:
        """Count a source's rows of a table."""

    def unseen(
        self, source_id: str, table_name: str, files: Sequence[FeedObject]
    ) -> list[FeedObject]:
        """Keep the files of which the ledger lacks this version, or is to read it again."""

    def list_from(self, source_id: str, table_name: str) -> str | None:
        """
        Tell after which name the feed's new files are; None where they can be anywhere.

        None unless each known name sorted after all that were older by a week, and while
        the ledger asks for a file to be read again.
        """

    def note_listed(
        self, source_id: str, table_name: str, feed: str, at: datetime, run_id: str
    ) -> None:
        """Note that all files of *feed* were listed, and that none of them is left to read."""

    def load(self, batch: Batch) -> Loaded:
        """
        Merge a batch and move its state, in one transaction.

        Raises Busy, with nothing written, when the batch's lease is no longer ours.
        """

    def record_run(self, run: Run) -> None:
        """Add a run to the history, or replace it."""

    def runs(self, limit: int) -> list[Run]:
        """Read the newest runs, newest first."""

    def holder(self, source_id: str) -> Lease | None:
        """Tell which run holds a source's lease; None if no run is at work."""

    def rewind(self, source_id: str, table_name: str, to: datetime | None) -> None:
        """
        Make the next run read again what came after *to*; None means everything.

        The watermark moves back, never on, and files of the feed are to be read again.
        """

    def rejects(self, limit: int) -> list[Reject]:
        """Read what was set aside, newest first."""

    def replay(self, source_id: str) -> int:
        """
        Convert again what would not convert, and return how many values now did.

        Files that could not be read, in whole or in part, are read by the next run.
        """

    def guarded(self, doing: str) -> AbstractContextManager[None]:
        """Turn errors of *staging* into ours, with nothing left half done."""

    def release(self) -> None:
        """Let other programs in until the next call of ours, where one at a time may write."""

    def close(self) -> None:
        """Let go of connections and locks. Safe to call twice."""

    def __enter__(self) -> Self:
        """Use as a context manager."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""


def open_warehouse(url: str, *, dry_run: bool = False) -> Warehouse:
    """
    Open the warehouse at *url*; with *dry_run*, one that counts but never writes.

    Raises ConfigError for an address that no warehouse of ours answers to, and for one
    whose packages are not installed, or do not load.
    """
    scheme = scheme_of(url)
    if scheme not in SCHEMES:
        raise ConfigError(
            f"warehouse.url: no warehouse speaks '{scheme}://'."
            f" There are {', '.join(SCHEMES)}, or the path of a .duckdb file."
        )
    module = _imported(scheme, SCHEMES[scheme])
    opened: Warehouse = module.open_url(url, dry_run=dry_run)
    return opened


def _imported(scheme: str, known: Scheme) -> Any:
    try:
        return import_module(f"ometria_replica.warehouse.{known.module}")
    except ImportError as error:
        if not known.extra or str(error.name).startswith("ometria_replica"):
            raise
        raise ConfigError(_lacking(scheme, known.extra, error)) from error


def _lacking(scheme: str, extra: str, error: ImportError) -> str:
    """Say what to install: packages, or what one that is there asks of the machine."""
    if isinstance(error, ModuleNotFoundError):
        needs, install = "needs more packages:", "pip install"
    else:
        needs = f"needs what is installed, but does not load: {error}."
        install = "Install the library that it lacks, or newer packages: pip install --upgrade"
    return f"warehouse.url: {scheme}:// {needs} {install} 'ometria-replica[{extra}]'."


@dataclass(frozen=True)
class Scheme:
    """Where a kind of URL leads: a *module* of this folder, and the *extra* that it needs."""

    module: str
    extra: str = ""


def _bridged(*ours: str) -> dict[str, Scheme]:
    """
    Find what dlt takes rows to: what there are files for in ``destinations``.

    Each file's name is a scheme, and with ``dlt+`` before it another; the warehouses that
    are *ours* to write to without dlt have the longer one alone.
    """
    found: dict[str, Scheme] = {}
    for name in sorted(path.stem for path in (Path(__file__).parent / "destinations").glob("*.py")):
        if name in ours:
            found[f"dlt+{name}"] = Scheme(f"destinations.{name}", f"dlt-{name}")
        elif name != "__init__":
            found[name] = found[f"dlt+{name}"] = Scheme(f"destinations.{name}", name)
    return found


SCHEMES: Mapping[str, Scheme] = {
    "duckdb": Scheme("duckdb"),
    "md": Scheme("motherduck"),
    "postgresql": Scheme("postgres", "postgres"),
    "postgres": Scheme("postgres", "postgres"),
    "delta": Scheme("delta", "delta"),
    "delta+s3": Scheme("delta", "delta"),
    "iceberg": Scheme("iceberg", "iceberg"),
    "iceberg+sqlite": Scheme("iceberg", "iceberg"),
    "iceberg+postgresql": Scheme("iceberg", "iceberg"),
    "iceberg+http": Scheme("iceberg", "iceberg"),
    "iceberg+https": Scheme("iceberg", "iceberg"),
    **_bridged("duckdb", "postgresql"),
}
"""The warehouses, by the scheme of their URL. Each module has a function ``open_url``."""


def scheme_of(url: str) -> str:
    """Read the scheme; a bare path is that of a DuckDB file, and MotherDuck has no slashes."""
    scheme, separator, _ = url.partition(":" if url.startswith("md:") else "://")
    return scheme if separator else "duckdb"


def duckdb_path(url: str) -> str | None:
    """Read the file out of ``duckdb:///ometria.duckdb`` or a bare path; None if it is neither."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    if scheme != "duckdb":
        return None
    return rest.removeprefix("/")
