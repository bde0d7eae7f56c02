"""The plan of one table and of an account, as values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Any, Literal

from ometria_replica.planning.figures import NOTHING, Figure, total

if TYPE_CHECKING:
    from ometria_replica.batch import Lease
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

    def as_data(self) -> dict[str, Any]:
        """Return plain data; of the source, its account has the name."""
        names = (
            "table", "due", "why", "requests", "records", "rewritten", "rows", "files", "bytes",
            "parts", "parts_total", "unit", "tried_again", "versions", "expired", "reads_with",
            "notes", "error",
        )  # fmt: skip
        return {name: _as_data(getattr(self, name)) for name in names}


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

    def as_data(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "source_id": self.source_id,
            "requests_per_second": self.per_second,
            "requests": self.requests.as_data(),
            "seconds": self.seconds.as_data(),
            "requests_sent": self.asked,
            "active_run": self.busy.as_data() if self.busy else None,
            "tables": [table.as_data() for table in self.tables],
        }


def _seconds(requests: Figure, rate: float) -> Figure:
    each = (requests.value, requests.low, requests.high)
    value, low, high = (None if number is None else ceil(number / rate) for number in each)
    return replace(requests, value=value, low=low or 0, high=high)


def _as_data(value: Any) -> Any:
    match value:
        case Figure():
            return value.as_data()
        case Why(code, text):
            return {"code": code, "text": text}
        case tuple():
            return [_as_data(each) for each in value]
    return value
