"""What became of the models and of their tests, as data, text and JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from ometria_replica.json_documents import document
from ometria_replica.text import aligned, counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from ometria_replica.models.request import Answer, ModelResult

Status = Literal["built", "failed", "skipped"]

_MOST_NAMED = 10
_PREPARING = ("stg_", "int_")
"""Beginnings of the names of models that only prepare others."""


@dataclass(frozen=True)
class Model:
    """
    A model: what became of it, its *rows* and the seconds that it took.

    *kind* is dbt's word for how it is kept, such as ``view``. *rows* are None for a view, and for
    a model that was not built. *reason* says why it failed.
    """

    name: str
    kind: str
    status: Status
    rows: int | None
    seconds: float
    reason: str | None = None


@dataclass(frozen=True)
class ModelTest:
    """A test of the data that found something: *failures* rows, or None if it did not run."""

    name: str
    model: str | None
    failures: int | None
    is_warning: bool


@dataclass(frozen=True)
class Tests:
    """How many tests of the data ran, and those that found something."""

    run: int
    found: tuple[ModelTest, ...]

    @property
    def failed(self) -> list[ModelTest]:
        """Those that are no mere warnings."""
        return [test for test in self.found if not test.is_warning]


@dataclass(frozen=True)
class Built:
    """
    What one call of ``models build`` did in *warehouse*, which is named without a password.

    *skipped* are the models that need tables which the warehouse lacks: it has *tables*.
    """

    warehouse: str
    started_at: datetime
    seconds: float
    models: tuple[Model, ...]
    tests: Tests
    skipped: tuple[str, ...]
    tables: tuple[str, ...]

    @property
    def failed(self) -> list[Model]:
        """The models that the warehouse refused, or that the package writes wrongly."""
        return [model for model in self.models if model.status == "failed"]

    @property
    def is_success(self) -> bool:
        """Whether all models were built, and no test failed."""
        return not self.tests.failed and all(each.status == "built" for each in self.models)


def models_in(answer: Answer, rows: Mapping[str, int]) -> tuple[Model, ...]:
    """List the models, in the order in which they ended; *rows* are by the name of the model."""
    return tuple(
        Model(
            each.name,
            each.materialized,
            status := _status(each),
            rows.get(each.name) if status == "built" else None,
            round(each.seconds, 3),
            each.message,
        )
        for each in answer.results
        if each.kind in {"model", "seed", "snapshot"}
    )


def data_tests_in(answer: Answer) -> Tests:
    """Collect the tests. One that errs could not run: it counts as failed."""
    ran = [each for each in answer.results if each.kind == "test" and each.status != "skipped"]
    found = tuple(
        ModelTest(each.name, each.about, each.failures, each.status == "warn")
        for each in ran
        if each.status in {"fail", "error", "warn"}
    )
    return Tests(len(ran), found)


def _status(result: ModelResult) -> Status:
    match result.status:
        case "success":
            return "built"
        case "skipped":
            return "skipped"
    return "failed"


def built_as_text(built: Built) -> str:
    """Write a table of the models, and what a reader has to know."""
    lines = [["model", "kind", "rows", "seconds", "status"]]
    lines += [
        [
            each.name,
            each.kind,
            "-" if each.rows is None else f"{each.rows:,}",
            f"{each.seconds:.1f}",
            each.status,
        ]
        for each in built.models
    ]
    text = [f"Models in {built.warehouse}, in {built.seconds:.1f} s.", "", *aligned(lines, left=2)]
    text += ["", _tests(built.tests)]
    if built.skipped:
        text.append(_left_out(built.skipped))
    return "\n".join(text)


def _left_out(skipped: Sequence[str]) -> str:
    """Name the marts that were left out, and count what only prepares these."""
    marts = [name for name in skipped if not name.startswith(_PREPARING)]
    others = len(skipped) - len(marts)
    named = [*marts, *([counted(others, "staging model")] if others else [])]
    return (
        f"Left out, since their tables are not replicated: {', '.join(named)}."
        " The setting tables adds tables."
    )


def _tests(tests: Tests) -> str:
    if not tests.run:
        return "The data was not tested."
    if not tests.found:
        return f"{counted(tests.run, 'test')} of the data passed."
    named = [
        f"  {each.name}: "
        + ("could not run" if each.failures is None else counted(each.failures, "row"))
        + (" (warning)" if each.is_warning else "")
        for each in tests.found[:_MOST_NAMED]
    ]
    if others := tests.found[_MOST_NAMED:]:
        named.append(f"  and {counted(len(others), 'other')}")
    passed = tests.run - len(tests.found)
    return "\n".join(
        [f"{passed:,} of {counted(tests.run, 'test')} of the data passed. Not these:", *named]
    )


def built_as_json(built: Built) -> str:
    """Write what was built as a JSON object."""
    return document("models-build", {**asdict(built), "is_success": built.is_success})


def failures_of(models: Sequence[Model]) -> str:
    """Name models that failed, each with its reason."""
    named = [f"{each.name} ({each.reason or 'unknown'})" for each in models[:_MOST_NAMED]]
    if others := models[_MOST_NAMED:]:
        named.append(f"{len(others):,} others")
    return ", ".join(named)
