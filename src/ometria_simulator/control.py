"""The control plane outside ``/v2``, by which another process changes time, faults and data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from ometria_simulator import moments
from ometria_simulator.faults import Fault
from ometria_simulator.moments import TimestampForm
from ometria_simulator.paging import HttpError
from ometria_simulator.quirks import Quirks
from ometria_simulator.records import ABSENT
from ometria_simulator.shapes import MoneyForm
from ometria_simulator.shop_records import Order

if TYPE_CHECKING:
    from ometria_simulator.account import Account
    from ometria_simulator.records import Json
    from ometria_simulator.server import Server

MUTATIONS = frozenset(
    {
        "add_profile",
        "update_profile",
        "delete_profile",
        "merge_profiles",
        "anonymise_profile",
        "request_deletion",
        "add_list",
        "archive_list",
        "delete_list",
        "refresh_list",
        "add_change",
        "add_unsubscribe",
        "add_event",
        "set_time",
    }
)
"""Methods of :class:`Account` that ``POST /_simulator/mutate`` can call."""

SHOP_MUTATIONS = frozenset(
    {
        "add_order",
        "update_order",
        "cancel_order",
        "refund_order",
        "delete_order",
        "add_product",
        "update_product",
        "delete_product",
        "add_collection",
        "delete_collection",
        "add_contact",
        "update_contact",
        "delete_contact",
        "add_custom_event",
        "delete_custom_event",
        "add_push_error",
    }
)
"""Methods of :class:`Shop` that it can call."""

_TIMES = frozenset(
    {"at", "now", "created_at", "refreshed_at", "stats_updated_at", "occurred_at", "available_at"}
)
_TYPES = {"Mapping": Mapping, "TimestampForm": TimestampForm, "MoneyForm": MoneyForm}
_SPANS = frozenset({"refresh_every", "completed_after"})


def command(server: Server, method: str, path: str, arguments: dict[str, Any]) -> Json:
    """Run one command and return its response. Raises HttpError 404 for an unknown one."""
    match method, path:
        case "GET", "/_simulator/state":
            return _state(server)
        case "POST", "/_simulator/advance":
            server.account.advance(timedelta(**arguments))
            return _state(server)
        case "POST", "/_simulator/feed":
            if server.feed is None:
                raise HttpError(409, "This simulator has no feed")
            return {"files": list(server.feed.export())}
        case "POST", "/_simulator/faults":
            return _faults(server, **arguments)
        case "POST", "/_simulator/quirks":
            return _quirks(server, arguments)
        case "POST", "/_simulator/mutate":
            return _mutate(server.account, arguments)
    raise HttpError(404, "Not Found")


def _state(server: Server) -> Json:
    return {
        "now": moments.iso(server.account.now),
        **server.account.counts(),
        **server.account.shop.counts(),
        "requests": len(server.requests),
    }


def _faults(
    server: Server,
    path_prefix: str = "/v2",
    times: int = 1,
    probability: float | None = None,
    *,
    clear: bool = False,
    **fault: Any,
) -> Json:
    """Add a fault with the fields of :class:`Fault`, for ``times`` requests or at random."""
    _refuse_unknown(Fault, fault)
    if clear:
        server.faults.clear()
    elif probability is not None:
        server.faults.sometimes(path_prefix, Fault(**fault), probability)
    else:
        server.faults.next(path_prefix, Fault(**fault), times)
    return {}


def _quirks(server: Server, changed: dict[str, Any]) -> Json:
    """Change the given quirks, with the names of :class:`Quirks`, and keep the others."""
    _refuse_unknown(Quirks, changed)
    sets: dict[str, Any] = {
        name: frozenset(v) if isinstance(v, list) else v for name, v in changed.items()
    }
    server.quirks = replace(server.quirks, **sets)
    return {}


def _refuse_unknown(kind: type, values: Mapping[str, Any]) -> None:
    """Raise ValueError for a name or a value that *kind*, a dataclass, does not have."""
    hints = get_type_hints(kind, localns=_TYPES)
    for name, value in values.items():
        if name not in hints:
            message = f"unknown name {name!r}; known: {', '.join(sorted(hints))}"
            raise ValueError(message)
        several = get_origin(hints[name]) in {frozenset, Mapping}
        hint = get_args(hints[name])[0] if several else hints[name]
        known = get_args(hint) if get_origin(hint) is Literal else None
        for each in value if several else [value]:
            if known and each not in known:
                message = f"{name}: unknown {each!r}; known: {', '.join(map(str, known))}"
                raise ValueError(message)
            if known is None and not isinstance(each, (float, int) if hint is float else hint):
                message = f"{name}: {each!r} is not of the type {hint}"
                raise TypeError(message)


def _mutate(account: Account, command: dict[str, Any]) -> Json:
    """
    Call ``{"method": name, "id": …, "arguments": {…}}`` on the account.

    ``id`` is the first argument, times are ISO 8601, and ``{"$absent": true}`` is ABSENT.
    """
    name = command["method"]
    if name not in MUTATIONS | SHOP_MUTATIONS:
        known = ", ".join(sorted(MUTATIONS | SHOP_MUTATIONS))
        message = f"unknown method {name!r}; known: {known}"
        raise ValueError(message)
    arguments = {key: _argument(key, v) for key, v in command.get("arguments", {}).items()}
    first = (
        [_argument("now" if name == "set_time" else "id", command["id"])] if "id" in command else []
    )
    if "collection" in command:  # The first argument of the methods of contacts.
        first = [command["collection"], *first]
    result = getattr(account.shop if name in SHOP_MUTATIONS else account, name)(*first, **arguments)
    return account.shop.order_record(result) if isinstance(result, Order) else _shown(result)


def _argument(name: str, value: Any) -> Any:
    if value == {"$absent": True}:
        return ABSENT
    if name in _TIMES and isinstance(value, str):
        return moments.read(value)
    if name in _SPANS and value is not None:
        return timedelta(seconds=value)
    if name == "user" and value is not None:
        return tuple(value)
    return value


def _shown(result: Any) -> Json:
    if isinstance(result, list):
        return [_shown(item) for item in result]
    if hasattr(result, "record"):
        record: Json = result.record()
        return record
    if result is None:
        return None
    return {name: str(value) for name, value in asdict(result).items()}
