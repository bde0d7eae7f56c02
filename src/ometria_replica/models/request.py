"""What the process of dbt is asked to do, and what it answers about each model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Request:
    """
    The *arguments* of dbt, which writes its files into the folder *target*.

    *postgres* is the URL to connect by, and *lake* that of the *tables* to read, which are named
    with their schemas; both URLs stay in memory, since they may hold secrets.
    """

    arguments: Sequence[str]
    target: str
    postgres: str | None = None
    lake: str | None = None
    tables: Sequence[str] = ()


@dataclass(frozen=True)
class ModelResult:
    """
    What became of a model, a test or a hook, which *kind* says, in dbt's words.

    *relation* is its name in the warehouse; None if it has none. *failures* counts the rows that
    a test found. *message* says what failed, without values of a row. *about* is the model of a
    test.
    """

    kind: str
    name: str
    relation: str | None
    materialized: str
    status: str
    seconds: float
    failures: int | None
    message: str | None
    about: str | None


@dataclass(frozen=True)
class Answer:
    """
    What dbt did. *problem* says why it did nothing; None if it ran.

    *switched_off* names the models that the package leaves out, since they need other tables.
    """

    is_success: bool
    problem: str | None
    results: tuple[ModelResult, ...]
    switched_off: tuple[str, ...]

    @classmethod
    def of(cls, data: dict[str, Any]) -> Answer:
        """Read what the process wrote."""
        results = tuple(ModelResult(**each) for each in data["results"])
        return cls(data["is_success"], data["problem"], results, tuple(data["switched_off"]))
