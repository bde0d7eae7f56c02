"""The reads of ``/v2`` without HTTP: from a path and its parameters to the records."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from operator import attrgetter
from typing import TYPE_CHECKING, cast

from ometria_simulator import json_text, moments
from ometria_simulator.paging import HttpError, Paging
from ometria_simulator.shop_reads import ShopReads

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ometria_simulator.account import Account
    from ometria_simulator.paging import Query
    from ometria_simulator.quirks import Endpoint, Quirks
    from ometria_simulator.records import Json, ListChange, Profile, Record, Segment, Unsubscribe

# Profiles have the same text, which is a mistake in Ometria's documentation.
NOT_FOUND = "List with specified ID was not found"
NO_RIGHTS = "API key is not authorised to access this resource"


@dataclass(frozen=True, slots=True)
class Route:
    """An endpoint, with the id in the path if there is one, and the collection of a contact."""

    endpoint: Endpoint
    id: str | None = None
    collection: str = ""


def find_route(path: str) -> Route:  # noqa: C901, PLR0911, PLR0912 -- one for each path
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
        case ["orders" | "products" as endpoint]:
            return Route(cast("Endpoint", endpoint))
        case ["orders" | "products" as endpoint, record_id] if record_id:
            return Route(cast("Endpoint", endpoint), record_id)
        case ["contacts"]:
            return Route("collections")
        case ["contacts", collection] if collection:
            return Route("contacts", collection=collection)
        case ["contacts", collection, contact_id] if contact_id:
            return Route("contacts", contact_id, collection)
        case ["custom-events"]:
            return Route("custom-events")
        case ["push", "_errors"]:
            return Route("push-errors")
    raise HttpError(404, "Not Found")


class Api:
    """Responds to the reads of one account."""

    def __init__(self, account: Account, quirks: Quirks) -> None:
        """Respond for *account*, with the behaviour of *quirks*."""
        self._account = account
        self._quirks = quirks
        self._paging = Paging(quirks)
        self._shop = ShopReads(account, quirks, self._paging)
        self._sorted: dict[tuple[str, ...], tuple[int, Sequence[Profile]]] = {}
        self._first_answers: dict[str, bytes] = {}

    def answer(self, route: Route, query: Query) -> bytes:
        """Return the JSON body. Raises HttpError."""
        if route.endpoint not in self._quirks.frozen_first_page:
            return json_text.written(self._answer(route, query))
        key = json.dumps(
            [route.endpoint, route.id, route.collection, sorted(_without_page(query).items())]
        )
        if key not in self._first_answers:
            self._first_answers[key] = json_text.written(self._answer(route, query))
        return self._first_answers[key]

    def _answer(self, route: Route, query: Query) -> Json:
        """Return the response with the fields that the quirks leave."""
        quirks, endpoint = self._quirks, route.endpoint
        absent = quirks.absent_fields.get(endpoint, ())
        null = quirks.null_fields.get(endpoint, ())
        found = self._find(route, query)
        if absent or null:
            found = _with_fields(found, absent, null)
        as_text = quirks.numbers_as_strings and endpoint not in {"changes", "unsubscribes"}
        return _with_text_numbers(found) if as_text else found

    def _find(self, route: Route, query: Query) -> Json:  # noqa: C901, PLR0911, PLR0912 -- one for each path
        with self._account.lock:  # A page is consistent; the account can change between pages.
            match route.endpoint:
                case "profiles" if route.id is not None:
                    return self._profile(route.id)
                case "profiles":
                    return self._profiles(query)
                case "lists" if route.id is not None:
                    return self._segment(route.id).record()
                case "lists":
                    return self._lists(query)
                case "changes":
                    return self._changes(route.id or "", query)
                case "unsubscribes":
                    return self._unsubscribes(query)
                case "data-deletion-requests" if route.id is not None:
                    return self._deletion_request(route.id)
                case "data-deletion-requests":
                    return self._deletion_requests(query)
                case "orders":
                    return self._shop.order(route.id) if route.id else self._shop.orders(query)
                case "products":
                    return self._shop.product(route.id) if route.id else self._shop.products(query)
                case "collections":
                    return self._shop.collections(query)
                case "contacts" if route.id is not None:
                    return self._shop.contact(route.collection, route.id)
                case "contacts":
                    return self._shop.contacts(route.collection, query)
                case "custom-events":
                    return self._shop.custom_events(query)
                case "push-errors":
                    return self._shop.push_errors(query)

    # Profiles

    def _profile(self, profile_id: str) -> Record:
        try:
            profile = self._account.profile(profile_id)
        except KeyError:
            raise HttpError(404, NOT_FOUND) from None
        return self._single(profile)

    def _single(self, profile: Profile) -> Record:
        return self._without_missing(self._with_lists(profile))

    def _with_lists(self, profile: Profile) -> Record:
        return {**profile.record(), "lists": cast("Json", self._account.lists_of(profile.id))}

    def _profiles(self, query: Query) -> Json:
        if "email" in query:
            return self._profiles_by_email(query)
        page = self._paging.page("profiles", self._profiles_in_order(query), query)
        hidden = self._quirks.only_on_single_profile
        with_lists = "lists" not in hidden
        records = (self._with_lists(p) if with_lists else p.record() for p in page)
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
        return [self._single(profile) for profile in self._paging.page("profiles", found, query)]

    def _profiles_in_order(self, query: Query) -> Sequence[Profile]:
        start = self._paging.updated_since(query, "profiles")
        by_update = self._paging.by_update(query, "profiles")
        key = (str(by_update), str(start))
        version, profiles = self._sorted.get(key, (-1, ()))
        if version != self._account.state.version:
            profiles = self._account.profiles
            if start is not None:
                profiles = [profile for profile in profiles if profile.updated_at >= start]
            if by_update:
                profiles.sort(key=attrgetter("updated_at", "update_sequence"))
            if "profiles" in self._quirks.reversed_order:
                profiles.reverse()
            self._sorted = {key: (self._account.state.version, profiles)}
        return profiles

    def _without_missing(self, record: Record) -> Record:
        return {name: v for name, v in record.items() if name not in self._quirks.missing_fields}

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
        if self._paging.by_update(query, "lists"):
            segments.sort(key=attrgetter("stats_updated_at"))
        segments = self._paging.ordered("lists", segments)
        return [segment.record() for segment in self._paging.page("lists", segments, query)]

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
        kept = self._paging.ordered("changes", self._paging.within(changes, bounds))
        return [
            change.record(quirks.changes_timestamp_form, with_list_id=quirks.changes_carry_list_id)
            for change in self._paging.page("changes", kept, query)
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
            for unsubscribe in self._paging.within(self._account.unsubscribes_visible(), bounds)
            if wanted in {None, unsubscribe.type}
        ]
        if self._paging.by_update(query, "unsubscribes"):
            found.sort(key=attrgetter("at"))
        found = self._paging.ordered("unsubscribes", found)
        return [
            unsubscribe.record() for unsubscribe in self._paging.page("unsubscribes", found, query)
        ]

    # Deletion requests

    def _deletion_request(self, request_id: str) -> Record:
        try:
            request = self._account.state.deletion_requests[request_id]
        except KeyError:
            raise HttpError(404, "Not Found") from None
        return request.record(self._quirks.deletion_timestamp_form)

    def _deletion_requests(self, query: Query) -> Json:
        requests = self._account.deletion_requests
        if self._paging.by_update(query, "data-deletion-requests"):
            requests.sort(key=lambda request: request.completed_at or request.created_at)
        requests = self._paging.ordered("data-deletion-requests", requests)
        page = self._paging.page("data-deletion-requests", requests, query)
        return [request.record(self._quirks.deletion_timestamp_form) for request in page]


def _without_page(query: Query) -> Query:
    return {name: value for name, value in query.items() if name not in {"limit", "offset"}}


def _with_fields(found: Json, absent: Collection[str], null: Collection[str]) -> Json:
    """Return the records without the fields *absent*, and with null in the fields *null*."""
    if isinstance(found, list):
        return [_with_fields(record, absent, null) for record in found]
    if not isinstance(found, dict):
        return found
    return {
        name: None if name in null else value for name, value in found.items() if name not in absent
    }


def _with_text_numbers(value: Json) -> Json:
    if isinstance(value, dict):
        return {name: _with_text_numbers(below) for name, below in value.items()}
    if isinstance(value, list):
        return [_with_text_numbers(below) for below in value]
    is_number = isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)
    return str(value) if is_number else value
