"""
The errors, each with its exit code.

    ReplicaError                     exit 1   a bug of the program, or none of the below
    ├── ConfigError                  exit 2   settings need a change; nothing was contacted
    ├── OmetriaError                 exit 3   Ometria, or its export, refused or failed
    │   ├── AccessDenied                      401, 403, a bucket that refuses: never retried
    │   ├── Unavailable              exit 75  failed after all retries: try again later
    │   └── UnexpectedResponse                not what Ometria documents: never retried
    │       └── NotFound                      404: it does not exist, or no longer exists
    ├── RejectedRecords              exit 4   with --strict: records, values or files were rejected
    ├── DifferencesFound             exit 4   ``verify`` found rows that differ
    ├── TestsFailed                  exit 4   a test of the data failed in `models build`
    ├── NotUpToDate                  exit 6   `status --max-age`: too old, or the last run failed
    └── WarehouseError               exit 5   refused; the batch was rolled back, state did not move
        ├── NotEnoughMemory                   DuckDB may use too little: files are loaded one by one
        ├── QueryError                        the SQL of ``query`` failed
        ├── Busy                     exit 75  another run holds the lease, or a lock
        └── Unreachable              exit 75  no connection, or no memory: try again later

A message says what failed, where, and what to do about it.
It never holds a customer's data or a key; of a QueryError, see there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ometria_replica.report import RunReport
    from ometria_replica.verify_report import VerifyReport

TRY_AGAIN_LATER = 75  # EX_TEMPFAIL of sysexits.h: schedulers know it as "not a failure, retry".


class ReplicaError(Exception):
    """
    The base class. Raised directly only if no subclass fits, which is a bug.

    *report* is the report of the failed run, None outside a run; *verified* that of a
    verification. *source_id* is the account
    that the error is of, None outside a run of several accounts.
    """

    exit_code: ClassVar[int] = 1
    report: RunReport | None = None
    verified: VerifyReport | None = None
    source_id: str | None = None

    @property
    def sentence(self) -> str:
        """The message, behind the account that it is of."""
        return f"{self.source_id}: {self}" if self.source_id else f"{self}"


class ConfigError(ReplicaError):
    """
    The settings need a change, and nothing was contacted.

    *problems* holds every problem, so that one edit can fix them all.
    """

    exit_code = 2

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class OmetriaError(ReplicaError):
    """Ometria, or the bucket with its export, refused a request or failed."""

    exit_code = 3


class AccessDenied(OmetriaError):
    """The API key or the credentials are refused. Retrying does not help."""


class Unavailable(OmetriaError):
    """No valid response within the retries: timeouts, resets, 5xx, 429, a closed port."""

    exit_code = TRY_AGAIN_LATER


class UnexpectedResponse(OmetriaError):
    """A response that Ometria does not document. Retrying does not help."""


class NotFound(UnexpectedResponse):
    """It does not exist, or no longer exists. A list may vanish between two requests."""


class OutputError(ReplicaError):
    """Standard output cannot be written. What was loaded before is committed."""


class RejectedRecords(ReplicaError):
    """With ``--strict``: everything was loaded except what the rejects table holds."""

    exit_code = 4


class TestsFailed(ReplicaError):
    """``models build``: tests of the data failed, and what depends on them was not built."""

    exit_code = 4


class NotUpToDate(ReplicaError):
    """
    With ``status --max-age``: the replica is too old, or its last run failed.

    A code of its own: a monitor has to tell it from a status that could not be read.
    """

    exit_code = 6


class DifferencesFound(ReplicaError):
    """
    ``verify`` found rows that are not as Ometria and the export have them.

    The exit code is that of rejects: the command has done its work, and the data needs a look.
    """

    exit_code = 4


class WarehouseError(ReplicaError):
    """The warehouse refused. The batch was rolled back, so state did not move past its rows."""

    exit_code = 5


class NotEnoughMemory(WarehouseError):
    """A batch needs more memory than DuckDB may use. A smaller batch may need less."""


class QueryError(WarehouseError):
    """
    The warehouse refused the SQL of ``query``. Nothing was changed.

    The one message that is the warehouse's own: it may quote the user's SQL, or a value that the
    SQL converts. It is for the user at the command line, and never for a log.
    """


class Busy(WarehouseError):
    """Another run holds the account's lease, or another program holds a lock."""

    exit_code = TRY_AGAIN_LATER


class CommitConflict(Busy):
    """Another writer committed first. Nothing was written; the same can be tried again."""


class Unreachable(WarehouseError):
    """The warehouse does not respond, or has no memory or connection left: that passes."""

    exit_code = TRY_AGAIN_LATER
