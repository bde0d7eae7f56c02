"""Pages, windows and orders of a response, with what the quirks make of them."""

from __future__ import annotations

from datetime import datetime, time, timedelta, timezone
from typing import TYPE_CHECKING, Final, TypeVar

from ometria_simulator import moments

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ometria_simulator.quirks import Endpoint, Quirks

Query = dict[str, str]
Item = TypeVar("Item")

DEFAULT_LIMIT: Final = 10  # Articles "Profiles API" and the reference of products.
MAX_LIMIT: Final = 250


class HttpError(Exception):
    """An error response with the ``status`` and ``message`` that the client receives."""

    def __init__(self, status: int, message: str) -> None:
        """Store both for the server."""
        super().__init__(message)
        self.status = status
        self.message = message


class Paging:
    """Selects the records of a response by its parameters. Raises HttpError 400 for wrong ones."""

    def __init__(self, quirks: Quirks) -> None:
        """Behave as *quirks* say."""
        self._quirks = quirks

    def page(self, endpoint: Endpoint, items: Sequence[Item], query: Query) -> Sequence[Item]:
        """Return the page that ``limit`` and ``offset`` name, or all if there are no pages."""
        quirks = self._quirks
        if endpoint in quirks.paged:
            limit = _whole_number(query, "limit", DEFAULT_LIMIT, least=1)
            offset = _whole_number(query, "offset", 0, least=0)
            if limit > MAX_LIMIT and quirks.above_max_limit == "reject":
                raise HttpError(400, f"limit must not be greater than {MAX_LIMIT}")
            limit = DEFAULT_LIMIT if endpoint in quirks.ignore_limit else min(limit, MAX_LIMIT)
            offset = 0 if endpoint in quirks.ignore_offset else offset
            beyond = quirks.max_offset is not None and offset > quirks.max_offset
            items = [] if beyond else items[offset : offset + limit]
        return items[: quirks.silent_caps.get(endpoint, len(items))]

    def ordered(self, endpoint: Endpoint, items: list[Item]) -> list[Item]:
        """Return the records in the internal order, or in its reverse."""
        return items[::-1] if endpoint in self._quirks.reversed_order else items

    def by_update(self, query: Query, endpoint: Endpoint) -> bool:
        """Whether the records are in the order of their updates."""
        order = query.get("orderby")
        if order not in {None, "", "timestamp_update"}:
            raise HttpError(400, f"Invalid orderby: {order}")
        return bool(order) and endpoint not in self._quirks.ignore_orderby

    def updated_since(self, query: Query, endpoint: Endpoint) -> datetime | None:
        """Return the start of the day of ``updateSince``; None without it, or if it is ignored."""
        quirks, text = self._quirks, query.get("updateSince")
        honoured = endpoint in quirks.update_since_on and not quirks.ignore_update_since
        if text is None or not honoured:
            return None
        zone = timezone(timedelta(hours=quirks.update_since_utc_offset_hours))
        try:
            day = moments.read_date(text)
        except ValueError:
            raise HttpError(400, f"Invalid date: {text}") from None
        first = day if quirks.update_since_inclusive else day + timedelta(days=1)
        return datetime.combine(first, time(), zone)

    def within(self, items: Iterable[Item], bounds: Mapping[str, str]) -> list[Item]:
        """Return the objects within the bounds, compared by whole seconds as the API shows them."""
        since = _moment(bounds["since"]) if bounds.get("since") else None
        before = _moment(bounds["before"]) if bounds.get("before") else None
        kept = []
        for item in items:
            at: datetime = item.at.replace(microsecond=0)  # type: ignore[attr-defined]
            early = since and (at < since or (at == since and not self._quirks.since_inclusive))
            late = before and (at > before or (at == before and not self._quirks.before_inclusive))
            if not early and not late:
                kept.append(item)
        return kept


def _moment(text: str) -> datetime:
    try:
        return moments.read(text)
    except ValueError:
        raise HttpError(400, f"Invalid date: {text}") from None


def _whole_number(query: Query, name: str, default: int, *, least: int) -> int:
    try:
        number = int(query.get(name) or default)
    except ValueError:
        raise HttpError(400, f"Invalid {name}: {query[name]}") from None
    if number < least:
        raise HttpError(400, f"Invalid {name}: {number}")
    return number
