"""
What can go wrong, and the exit code that says so.

    ReplicaError                     exit 1   a bug of ours, or none of the below
    ├── ConfigError                  exit 2   settings need a change; nothing was contacted
    ├── OmetriaError                 exit 3   Ometria, or its feed, said no
    │   ├── AccessDenied                      401, 403, a bucket that refuses: never retried
    │   ├── Unavailable              exit 75  outlasted the retries: try again later
    │   └── UnexpectedResponse                not what Ometria documents: never retried
    │       └── NotFound                      404: what was asked for is not there, or not any more
    ├── RejectedRecords              exit 4   with --strict: records or values were set aside
    └── WarehouseError               exit 5   refused; the batch was rolled back, state did not move
        ├── Busy                     exit 75  another run holds the lease, or a lock
        └── Unreachable              exit 75  no connection, or no room: try again later

A message says what failed, where, and what to do about it.
It never holds a customer's data or a key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ometria_replica.report import RunReport

TRY_AGAIN_LATER = 75  # EX_TEMPFAIL of sysexits.h: schedulers know it as "not a failure, retry".


class ReplicaError(Exception):
    """
    The root. Raised itself only when nothing below fits, which is a bug of ours.

    *report* is what the run did before it failed, None outside a run.
    """

    exit_code: ClassVar[int] = 1
    report: RunReport | None = None


class ConfigError(ReplicaError):
    """
    The settings need a change, and nothing was contacted.

    *problems* holds every problem found, so that one edit can mend them all.
    """

    exit_code = 2

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class OmetriaError(ReplicaError):
    """Ometria, or the bucket with its export, did not give what was asked for."""

    exit_code = 3


class AccessDenied(OmetriaError):
    """The key or the credentials are refused. Retrying would not help."""


class Unavailable(OmetriaError):
    """No good answer within the retries: timeouts, resets, 5xx, 429, a closed port."""

    exit_code = TRY_AGAIN_LATER


class UnexpectedResponse(OmetriaError):
    """An answer arrived that Ometria does not document. Retrying would not help."""


class NotFound(UnexpectedResponse):
    """There is no such thing, or not any more. A list may vanish between two requests."""


class RejectedRecords(ReplicaError):
    """Everything was loaded but what the rejects table holds, and ``--strict`` was asked for."""

    exit_code = 4


class WarehouseError(ReplicaError):
    """The warehouse refused. The batch was rolled back, so state did not move past its rows."""

    exit_code = 5


class Busy(WarehouseError):
    """Another run holds the account's lease, or another program a lock."""

    exit_code = TRY_AGAIN_LATER


class CommitConflict(Busy):
    """Another writer committed first. Nothing was written; the same can be tried again."""


class Unreachable(WarehouseError):
    """The warehouse does not answer, or has no room for more: a connection, a disk that is full."""

    exit_code = TRY_AGAIN_LATER
