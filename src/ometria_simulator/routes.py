"""The reads of ``/v2`` without HTTP: from a path and its parameters to the records."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, time, timedelta, timezone
from operator import attrgetter
from typing import TYPE_CHECKING, Final, TypeVar, cast

from ometria_simulator import moments

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ometria_simulator.account import Account
    from ometria_simulator.quirks import Endpoint, Quirks
    from ometria_simulator.records import Json, ListChange, Profile, Record, Segment, Unsubscribe

Query = dict[str, str]
Item = TypeVar("Item")

DEFAULT_LIMIT: Final = 10  # Articles "Profiles API" and the reference of products.
MAX_LIMIT: Final = 250

# Profiles have the same text, which is a mistake in Ometria's documentation.
NOT_FOUND = "List with specified ID was not found"
NO_RIGHTS = "API key is not authorised to access this resource"


class HttpError(Exception):
    """An error response with the ``status`` and ``message`` that the client receives."""

    def __init__(self, status: int, message: str) -> None:
        """Store both for the server."""
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Route:
    """An endpoint, with the id in the path if there is one."""

    endpoint: Endpoint
    id: str | None = None


def find_route(path: str) -> Route:  # noqa: PLR0911 -- one for each path
    """
    Return the route of *path* without ``/v2``. Raises HttpError 404.

    The path of profiles works with and without a slash at the end, as in the sources.
    """
    match path.split("/")[1:]:
        case ["profiles"] | ["profiles", ""]:
            return Route("profiles")
        case ["profiles", profile_id]:
            return Route("profiles", profile_id)
        case ["lists"]:
            return Route("lists")
        case ["lists", list_id] if list_id:
            return Route("lists", list_id)
        case ["lists", list_id, "changes"]:
            return Route("changes", list_id)
        case ["unsubscribes"]:
            return Route("unsubscribes")
        case ["data-deletion-requests"]:
            return Route("data-deletion-requests")
        case ["data-deletion-requests", request_id] if request_id:
            return Route("data-deletion-requests", request_id)
    raise HttpError(404, "Not Found")


class Api:
    """Responds to the reads of one account."""

    def __init__(self, account: Account, quirks: Quirks) -> None:
        """Respond for *account*, with the behaviour of *quirks*."""
        self._account = account
        self._quirks = quirks
        self._sorted: dict[tuple[str, ...], tuple[int, Sequence[Profile]]] = {}
        self._first_answers: dict[str, bytes] = {}

    def answer(self, route: Route, query: Query) -> bytes:
        """Return the JSON body. Raises HttpError."""
        if route.endpoint not in self._quirks.frozen_first_page:
            return _json(self._find(route, query))
        key = json.dumps([route.endpoint, route.id, sorted(_without_page(query).items())])
        if key not in self._first_answers:
            self._first_answers[key] = _json(self._find(route, query))
        return self._first_answers[key]

    def _find(self, route: Route, query: Query) -> Json:  # noqa: PLR0911 -- one for each path
        with self._account.lock:  # A page is consistent; the account can change between pages.
            match route.endpoint:
                case "profiles" if route.id is not None:
                    return self._profile(route.id)
                case "profiles":
                    return self._profiles(query)
                case "lists" if route.id is not None:
                    return self._shown(self._segment(route.id).record())
                case "lists":
                    return self._lists(query)
                case "changes":
                    return self._changes(route.id or "", query)
                case "unsubscribes":
                    return self._unsubscribes(query)
                case _ if route.id is not None:
                    return self._deletion_request(route.id)
                case _:
                    return self._deletion_requests(query)

    # Profiles

    def _profile(self, profile_id: str) -> Record:
        try:
            profile = self._account.profile(profile_id)
        except KeyError:
            raise HttpError(404, NOT_FOUND) from None
        return self._single(profile)

    def _single(self, profile: Profile) -> Record:
        lists: Record = {"lists": self._account.lists_of(profile.id)}
        return self._without_missing({**profile.record(), **lists})

    def _profiles(self, query: Query) -> Json:
        if "email" in query:
            return self._profiles_by_email(query)
        page = self._page("profiles", self._profiles_in_order(query), query)
        hidden = self._quirks.only_on_single_profile
        records = (profile.record() for profile in page)
        return [
            self._without_missing({name: r[name] for name in r if name not in hidden})
            for r in records
        ]

    def _profiles_by_email(self, query: Query) -> Json:
        wanted = query["email"].lower()
        found = [
            profile
            for profile in self._account.profiles
            if profile.email and profile.email.lower() == wanted
        ]
        if not found:
            raise HttpError(404, NOT_FOUND)
        if self._quirks.email_lookup == "object":
            return self._single(found[0])
        return [self._single(profile) for profile in self._page("profiles", found, query)]

    def _profiles_in_order(self, query: Query) -> Sequence[Profile]:
        since = None if self._quirks.ignore_update_since else query.get("updateSince")
        by_update = self._by_update(query, "profiles")
        key = (str(by_update), since or "")
        version, profiles = self._sorted.get(key, (-1, ()))
        if version != self._account.state.version:
            profiles = self._account.profiles
            if since is not None:
                start = self._start_of_day(since)
                profiles = [profile for profile in profiles if profile.updated_at >= start]
            if by_update:
                profiles.sort(key=attrgetter("updated_at", "update_sequence"))
            if "profiles" in self._quirks.reversed_order:
                profiles.reverse()
            self._sorted = {key: (self._account.state.version, profiles)}
        return profiles

    def _start_of_day(self, text: str) -> datetime:
        quirks = self._quirks
        zone = timezone(timedelta(hours=quirks.update_since_utc_offset_hours))
        try:
            day = moments.read_date(text)
        except ValueError:
            raise HttpError(400, f"Invalid date: {text}") from None
        first = day if quirks.update_since_inclusive else day + timedelta(days=1)
        return datetime.combine(first, time(), zone)

    def _by_update(self, query: Query, endpoint: Endpoint) -> bool:
        order = query.get("orderby")
        if order not in {None, "", "timestamp_update"}:
            raise HttpError(400, f"Invalid orderby: {order}")
        return bool(order) and endpoint not in self._quirks.ignore_orderby

    def _without_missing(self, record: Record) -> Record:
        kept = {name: v for name, v in record.items() if name not in self._quirks.missing_fields}
        return self._shown(kept)

    def _shown(self, record: Record) -> Record:
        return _with_text_numbers(record) if self._quirks.numbers_as_strings else record

    # Lists

    def _segment(self, list_id: str) -> Segment:
        try:
            return self._account.state.segments[list_id]
        except KeyError:
            raise HttpError(404, NOT_FOUND) from None

    def _lists(self, query: Query) -> Json:
        mode = query.get("mode", "active")
        if mode not in {"active", "archived", "all"}:
            raise HttpError(400, f"Invalid mode: {mode}")
        segments = [
            segment
            for segment in self._account.lists
            if mode == "all" or segment.archived == (mode == "archived")
        ]
        if self._by_update(query, "lists"):
            segments.sort(key=attrgetter("stats_updated_at"))
        segments = self._ordered("lists", segments)
        return [self._shown(segment.record()) for segment in self._page("lists", segments, query)]

    def _changes(self, list_id: str, query: Query) -> Json:
        quirks = self._quirks
        changes: Sequence[ListChange] = self._account.state.changes.get(list_id, [])
        if self._segment(list_id).archived:
            if quirks.archived_changes == "not_found":
                raise HttpError(404, NOT_FOUND)
            changes = changes if quirks.archived_changes == "all" else []
        if quirks.changes_kept_days is not None:
            oldest = self._account.now - timedelta(days=quirks.changes_kept_days)
            changes = [change for change in changes if change.at >= oldest]
        bounds = (
            {"since": query[quirks.changes_since_param]}
            if quirks.changes_since_param in query
            else {}
        )
        kept = self._ordered("changes", self._within(changes, bounds))
        return [
            change.record(quirks.changes_timestamp_form, with_list_id=quirks.changes_carry_list_id)
            for change in self._page("changes", kept, query)
        ]

    # Unsubscribes

    def _unsubscribes(self, query: Query) -> Json:
        bounds: Query = {name: query[name] for name in ("since", "before") if name in query}
        days = self._quirks.unsubscribes_default_days
        if days is not None and "since" not in bounds:
            bounds["since"] = moments.iso(self._account.now - timedelta(days=days))
        wanted = query.get("type")
        found: list[Unsubscribe] = [
            unsubscribe
            for unsubscribe in self._within(self._account.unsubscribes_visible(), bounds)
            if wanted in {None, unsubscribe.type}
        ]
        if self._by_update(query, "unsubscribes"):
            found.sort(key=attrgetter("at"))
        found = self._ordered("unsubscribes", found)
        return [unsubscribe.record() for unsubscribe in self._page("unsubscribes", found, query)]

    # Deletion requests

    def _deletion_request(self, request_id: str) -> Record:
        try:
            request = self._account.state.deletion_requests[request_id]
        except KeyError:
            raise HttpError(404, "Not Found") from None
        return request.record(self._quirks.deletion_timestamp_form)

    def _deletion_requests(self, query: Query) -> Json:
        requests = self._account.deletion_requests
        if self._by_update(query, "data-deletion-requests"):
            requests.sort(key=lambda request: request.completed_at or request.created_at)
        requests = self._ordered("data-deletion-requests", requests)
        page = self._page("data-deletion-requests", requests, query)
        return [request.record(self._quirks.deletion_timestamp_form) for request in page]

    # Windows and pages

    def _within(self, items: Iterable[Item], bounds: Mapping[str, str]) -> list[Item]:
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

    def _ordered(self, endpoint: Endpoint, items: list[Item]) -> list[Item]:
        return items[::-1] if endpoint in self._quirks.reversed_order else items

    def _page(self, endpoint: Endpoint, items: Sequence[Item], query: Query) -> Sequence[Item]:
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


def _json(value: Json) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _without_page(query: Query) -> Query:
    return {name: value for name, value in query.items() if name not in {"limit", "offset"}}


def _with_text_numbers(record: Record) -> Record:
    def shown(value: Json) -> Json:
        if isinstance(value, dict):
            return {name: shown(below) for name, below in value.items()}
        if isinstance(value, list):
            return [shown(below) for below in value]
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return str(value) if is_number else value

    return cast("Record", shown(record))


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
