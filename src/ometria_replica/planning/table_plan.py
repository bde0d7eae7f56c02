"""The plan of one table, of an account and of a run, as values."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import ceil
from typing import TYPE_CHECKING, Any, Literal

from ometria_replica.planning.figures import NOTHING, Figure, known, total

if TYPE_CHECKING:
    from datetime import datetime

    from ometria_replica.batch import Lease
    from ometria_replica.errors import ReplicaError
    from ometria_replica.report import Due

Code = Literal[
    "first run",
    "--full",
    "--detect-deletes",
    "interval",
    "nested tables",
    "rewound",
    "rows lost",
    "continued",
    "started over",
    "small collection",
    "weekly round",
    "end not known",
]


@dataclass(frozen=True)
class Why:
    """Why all records of a table are read: a *code* for programs, a *text* for people."""

    code: Code
    text: str


@dataclass(frozen=True)
class TablePlan:
    """
    What a run would do to one table of one source.

    *due* says whether all records, the new ones or those of a period are requested, *why* all are.
    *requests* go to the API. *records* are those that it gives, or that files hold. *rewritten* are
    rows that are there and would be written again, of *rows*. *files* and *bytes* are of the
    export, None for a table of the API. Of a table with *parts*, lists or collections as *unit*
    says, so many are asked for, of *parts_total*. *tried_again* files could not be read before.
    *versions* rows begin the history, and *expired* ones are too old and are removed. A table that
    is read *with* another needs no request. *per_minute* is the rate limit of its endpoint, below
    that of the account. *error* says why its plan failed.
    """

    source_id: str
    table: str
    due: Due
    rows: int
    requests: Figure = NOTHING
    records: Figure = NOTHING
    rewritten: Figure = NOTHING
    files: Figure | None = None
    bytes: Figure | None = None
    parts: Figure | None = None
    parts_total: int | None = None
    unit: str = ""
    tried_again: int = 0
    versions: int = 0
    expired: int = 0
    reads_with: str | None = None
    per_minute: int | None = None
    why: tuple[Why, ...] = ()
    notes: tuple[str, ...] = ()
    error: str | None = None

    def noting(self, *notes: str) -> TablePlan:
        """Add notes."""
        return replace(self, notes=(*self.notes, *notes))

    def because(self, code: Code, text: str) -> TablePlan:
        """Add a reason to read all records."""
        return replace(self, why=(*self.why, Why(code, text)))

    def rate(self, per_second: float) -> float:
        """Return the requests a second: of the account, or of the endpoint if it is slower."""
        return min(per_second, self.per_minute / 60 if self.per_minute else per_second)

    def seconds(self, per_second: float) -> Figure:
        """Return how long the requests take."""
        return _seconds(self.requests, self.rate(per_second))


@dataclass(frozen=True)
class AccountPlan:
    """
    The plan of one account, at so many requests *per_second*. *asked* were sent to plan it.

    *busy* is the run that writes its rows at this moment; None if none does.
    """

    source_id: str
    per_second: float
    tables: tuple[TablePlan, ...]
    asked: int = 0
    busy: Lease | None = None

    @property
    def requests(self) -> Figure:
        """The requests of all tables."""
        return total(table.requests for table in self.tables)

    @property
    def seconds(self) -> Figure:
        """How long they take at the rate limit; its tables are read one after the other."""
        rates = {table.rate(self.per_second) for table in self.tables}
        return total(
            _seconds(
                total(
                    table.requests for table in self.tables if table.rate(self.per_second) == rate
                ),
                rate,
            )
            for rate in rates
        )


@dataclass(frozen=True)
class Plan:
    """
    The plan of a *command*, ``sync`` or ``backfill``, at the time *planned_at*.

    *is_offline* says that nothing was asked of Ometria and the export. *at_once* accounts are read
    at the same time. *not_read* says which tables the settings leave out, and why. *failures* are
    the errors of its tables.
    """

    command: str
    version: str
    warehouse: str
    planned_at: datetime
    is_offline: bool
    at_once: int
    accounts: tuple[AccountPlan, ...]
    warnings: tuple[str, ...] = ()
    not_read: tuple[str, ...] = ()
    failures: tuple[ReplicaError, ...] = field(default=(), repr=False)

    @property
    def tables(self) -> tuple[TablePlan, ...]:
        """The tables of all accounts."""
        return tuple(table for account in self.accounts for table in account.tables)

    @property
    def requests(self) -> Figure:
        """The requests to Ometria."""
        return total(account.requests for account in self.accounts)

    @property
    def asked(self) -> int:
        """The requests that were sent to plan."""
        return sum(account.asked for account in self.accounts)

    @property
    def seconds(self) -> Figure:
        """How long the requests take at least: each account has a rate limit of its own."""
        each = [account.seconds for account in self.accounts]
        one_by_one = total(each)
        if self.at_once == 1 or not each:
            return one_by_one
        return Figure(
            self._at_once([one.value for one in each]),
            one_by_one.basis,
            self._at_once([one.low for one in each]) or 0,
            self._at_once([one.high for one in each]),
        )

    def _at_once(self, seconds: list[int | None]) -> int | None:
        """Return how long several accounts take at once: the longest, or a share of all."""
        told = [each for each in seconds if each is not None]
        if len(told) < len(seconds):
            return None
        return max(*told, sum(told) // self.at_once)

    @property
    def files(self) -> Figure:
        """The files of the export."""
        return total(table.files for table in self.tables if table.files)

    @property
    def bytes(self) -> Figure:
        """Their bytes in the bucket."""
        return total(table.bytes for table in self.tables if table.bytes)

    @property
    def rewritten(self) -> Figure:
        """The rows that would be written again, with those that begin a history."""
        begun = known(sum(table.versions for table in self.tables))
        return total([begun, *(table.rewritten for table in self.tables)])

    def to_dict(self) -> dict[str, Any]:
        """Convert the plan to plain data."""
        names = ("requests", "seconds", "files", "bytes", "rewritten")
        return {
            "version": self.version,
            "command": self.command,
            "planned_at": self.planned_at,
            "warehouse": self.warehouse,
            "offline": self.is_offline,
            "requests_sent": self.asked,
            "total": {name: getattr(self, name).as_data() for name in names},
            "accounts": [_account_as_data(account) for account in self.accounts],
            "not_read": list(self.not_read),
            "warnings": list(self.warnings),
        }


def _seconds(requests: Figure, rate: float) -> Figure:
    each = (requests.value, requests.low, requests.high)
    value, low, high = (None if number is None else ceil(number / rate) for number in each)
    return replace(requests, value=value, low=low or 0, high=high)


def _account_as_data(account: AccountPlan) -> dict[str, Any]:
    return {
        "source_id": account.source_id,
        "requests_per_second": account.per_second,
        "requests": account.requests.as_data(),
        "seconds": account.seconds.as_data(),
        "requests_sent": account.asked,
        "active_run": account.busy.as_data() if account.busy else None,
        "tables": [_table_as_data(table) for table in account.tables],
    }


def _table_as_data(table: TablePlan) -> dict[str, Any]:
    names = (
        "table", "due", "why", "requests", "records", "rewritten", "rows", "files", "bytes",
        "parts", "parts_total", "unit", "tried_again", "versions", "expired", "reads_with", "notes",
        "error",
    )  # fmt: skip
    return {name: _as_data(getattr(table, name)) for name in names}


def _as_data(value: Any) -> Any:
    match value:
        case Figure():
            return value.as_data()
        case Why(code, text):
            return {"code": code, "text": text}
        case tuple():
            return [_as_data(each) for each in value]
    return value
