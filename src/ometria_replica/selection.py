"""Which rows of a table: a value, written as SQL, an Arrow filter or an Iceberg expression."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import pairwise
from operator import and_, or_
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    import pyarrow.compute as pc
    from pyiceberg.expressions import BooleanExpression


_T = TypeVar("_T")
_NEEDS_NO_ESCAPE = re.compile(r"[0-9A-Za-z_.:@+-]*")  # In any dialect of SQL.


@dataclass(frozen=True)
class Span:
    """The time from *first* to *last*, both included."""

    first: datetime
    last: datetime


@dataclass(frozen=True)
class Times:
    """
    Rows whose time in *column* lies in one of *spans*.

    *untimed* adds the rows without a time. Without spans and without *untimed* no row fits.
    """

    column: str
    spans: tuple[Span, ...] = ()
    untimed: bool = False


@dataclass(frozen=True)
class Values:
    """Rows with one of *texts* in the text column *column*."""

    column: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Selection:
    """
    The rows of a table for which every given condition holds; None leaves a condition out.

    *source_id* is the source of the rows. Without any condition all rows of the table fit.
    """

    source_id: str | None = None
    values: Values | None = None
    times: Times | None = None

    def without_values(self) -> Selection:
        """Return the rows that fit whatever value they have: a superset that needs no values."""
        return replace(self, values=None)


ALL = Selection()


def joined(selection: Selection, most: int) -> Selection:
    """
    Join the spans of a selection until at most *most* are left, the closest first.

    Spans are given in order and apart. The result holds all rows of the selection, and maybe more.
    """
    if selection.times is None:
        return selection
    spans = join_spans(selection.times.spans, most)
    return replace(selection, times=replace(selection.times, spans=spans))


def join_spans(spans: Sequence[Span], most: int) -> tuple[Span, ...]:
    """Join spans, given in order and apart, until at most *most* are left: the closest first."""
    gaps = sorted(
        range(1, len(spans)), key=lambda after: spans[after].first - spans[after - 1].last
    )
    kept = sorted(gaps[max(0, len(spans) - most) :])
    edges = [0, *kept, len(spans)] if spans else []
    return tuple(Span(spans[first].first, spans[end - 1].last) for first, end in pairwise(edges))


def chunks(selection: Selection, most_texts: int, most_parameters: int) -> Iterator[Selection]:
    """
    Part a selection by its values, so that each part is a statement of bounded length.

    A part has *most_texts* values, or *most_parameters* if any of them must be a parameter.
    """
    if selection.values is None:
        yield selection
        return
    texts = tuple(dict.fromkeys(selection.values.texts))  # No row may fit two parts.
    size = most_texts if all(map(_NEEDS_NO_ESCAPE.fullmatch, texts)) else most_parameters
    for part in in_parts(texts, size):
        yield replace(selection, values=replace(selection.values, texts=tuple(part)))


def in_parts(items: Sequence[_T], most: int) -> Iterator[Sequence[_T]]:
    """Part *items*, in order, so that a part has *most* of them, and the last one the rest."""
    for start in range(0, len(items), most):
        yield items[start : start + most]


@dataclass(frozen=True)
class Condition:
    """A condition of SQL, with the *parameters* for its placeholders, in order."""

    text: str
    parameters: tuple[object, ...] = ()


@dataclass(frozen=True)
class Dialect:
    """
    How a database writes a *name*, a *text* and a *moment* in SQL.

    Without *text* a text that could need escaping becomes a parameter, for which
    *placeholder* stands.
    """

    name: Callable[[str], str]
    moment: Callable[[datetime], str]
    text: Callable[[str], str] | None = None
    placeholder: str = "?"


def to_sql(selection: Selection, dialect: Dialect) -> Condition:
    """Write the condition that a row fits; ``1 = 1`` for all rows."""
    return _Writer(dialect).condition(selection)


@dataclass
class _Writer:
    dialect: Dialect
    parameters: list[object] = field(default_factory=list)

    def condition(self, selection: Selection) -> Condition:
        parts = ["1 = 1"]
        if selection.source_id is not None:
            parts.append(f"{self._name('__source_id')} = {self._text(selection.source_id)}")
        if selection.values is not None:
            parts.append(self._values(selection.values))
        if selection.times is not None:
            parts.append(self._times(selection.times))
        return Condition(" AND ".join(parts[1:] or parts), tuple(self.parameters))

    def _values(self, values: Values) -> str:
        if not values.texts:
            return "1 = 0"
        return f"{self._name(values.column)} IN ({', '.join(map(self._text, values.texts))})"

    def _times(self, times: Times) -> str:
        column, moment = self._name(times.column), self.dialect.moment
        parts = [
            f"({column} >= {moment(span.first)} AND {column} <= {moment(span.last)})"
            for span in times.spans
        ]
        parts += [f"{column} IS NULL"] if times.untimed else []
        return f"({' OR '.join(parts or ['1 = 0'])})"

    def _name(self, name: str) -> str:
        return self.dialect.name(name)

    def _text(self, text: str) -> str:
        if self.dialect.text:
            return self.dialect.text(text)
        if _NEEDS_NO_ESCAPE.fullmatch(text):
            return f"'{text}'"
        self.parameters.append(text)
        return self.dialect.placeholder


def to_arrow(selection: Selection) -> pc.Expression | None:
    """Write the filter of pyarrow's datasets; None for all rows."""
    import pyarrow as pa  # noqa: PLC0415 -- 80 ms, and only lakes need it.
    import pyarrow.compute as pc  # noqa: PLC0415

    def moment(at: datetime) -> pa.Scalar[Any]:
        return pa.scalar(at, pa.timestamp("us", "UTC"))

    def in_times(times: Times) -> pc.Expression:
        column = pc.field(times.column)
        parts = [
            (column >= moment(span.first)) & (column <= moment(span.last)) for span in times.spans
        ]
        return _any([*parts, *([column.is_null()] if times.untimed else [])], pc.scalar(False))

    parts = []
    if selection.source_id is not None:
        parts.append(pc.field("__source_id") == selection.source_id)
    if selection.values is not None:
        texts = pa.array(selection.values.texts, pa.string())
        parts.append(pc.field(selection.values.column).isin(texts))
    if selection.times is not None:
        parts.append(in_times(selection.times))
    return reduce(and_, parts) if parts else None


def to_iceberg(selection: Selection) -> BooleanExpression:
    """Write the row filter of pyiceberg."""
    from pyiceberg import expressions  # noqa: PLC0415 -- 300 ms, and only Iceberg needs it.

    use: Any = expressions  # Its classes take arguments by place, which their types do not tell.

    def in_times(times: Times) -> Any:
        parts = [
            use.And(
                use.GreaterThanOrEqual(times.column, span.first.isoformat()),
                use.LessThanOrEqual(times.column, span.last.isoformat()),
            )
            for span in times.spans
        ]
        nulls = [use.IsNull(times.column)] if times.untimed else []
        return reduce(use.Or, [*parts, *nulls], use.AlwaysFalse())

    parts = [use.AlwaysTrue()]
    if selection.source_id is not None:
        parts.append(use.EqualTo("__source_id", selection.source_id))
    if selection.values is not None:
        parts.append(use.In(selection.values.column, selection.values.texts))
    if selection.times is not None:
        parts.append(in_times(selection.times))
    whole: BooleanExpression = reduce(use.And, parts)
    return whole


def _any(parts: Iterable[pc.Expression], none: pc.Expression) -> pc.Expression:
    found = list(parts)
    return reduce(or_, found) if found else none
