"""Tell the observers of a run of each request to the API, by a template of its path."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica.observer import RequestSent, Watch, current_place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ometria_replica.observer import Observe

_WORD = re.compile(r"[a-z][a-z_-]*")
_FIXED = ("push/_errors",)
"""Paths of several parts in which none is an id."""


def template_of(path: str) -> str:
    """Write ``{id}`` in place of each part of *path* that could be an id or a person's address."""
    path = path.strip("/")
    if path in _FIXED:
        return f"/{path}"
    first, *others = path.split("/")
    # lists/17/changes: what follows an id is a word of Ometria's.
    shown = [part if at % 2 and _WORD.fullmatch(part) else "{id}" for at, part in enumerate(others)]
    return "/" + "/".join([first, *shown])


@dataclass
class Exchange:
    """A request that is under way: the *status* of its answer, once there is one."""

    status: int | None = None


@contextmanager
def told(
    observe: Observe, path: str, address: str, attempt: int, waited_seconds: float
) -> Iterator[Exchange]:
    """Tell of the request that the block sends, at its end."""
    watch, exchange = Watch(), Exchange()
    error: str | None = None
    try:
        yield exchange
    except BaseException as raised:
        error = _kind(raised, exchange.status)
        raise
    finally:
        observe(
            RequestSent(
                began_at=watch.began_at,
                seconds=watch.seconds,
                place=current_place(),
                method="GET",
                template=template_of(path),
                address=address,
                attempt=attempt,
                waited_seconds=waited_seconds,
                status=exchange.status,
                error=error,
            )
        )


def _kind(error: BaseException, status: int | None) -> str:
    """Name the kind of a failure: its status, or the class of what the library has raised."""
    if status is not None and status >= 400:
        return str(status)
    return type(error.__cause__ or error).__name__
