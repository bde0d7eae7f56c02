"""Sessions with the database of one warehouse: those that read, and transactions that write."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ometria_replica.errors import WarehouseError
from ometria_replica.warehouse import state_upgrades

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ometria_replica.schema import StateTable
    from ometria_replica.warehouse.engines.base import Engine

_Method = TypeVar("_Method", bound="Callable[..., Any]")


class Sessions:
    """
    Sessions with *engine*; with *dry_run* none that writes.

    Between two sessions other programs may use the database. A session within another is part
    of it. The first one refuses a state that a newer program has upgraded. All are opened by the
    thread that has created this: the connection, and its temporary tables, are for one alone.
    """

    def __init__(self, engine: Engine, *, dry_run: bool = False) -> None:
        self.engine = engine
        self.dry_run = dry_run
        self.layout = state_upgrades.Layout(engine)
        self._is_checked = False
        self._depth = 0
        self._thread = threading.get_ident()

    @contextmanager
    def open(self, doing: str) -> Iterator[None]:
        """Connect for the block, and let other programs in afterwards, however it ends."""
        if threading.get_ident() != self._thread:
            raise RuntimeError(f"another thread uses the warehouse, for {doing}")
        self._depth += 1
        try:
            with self.engine.session(doing):
                if not self._is_checked:
                    state_upgrades.refuse_newer(self.engine)
                    self._is_checked = True
                yield
        except BaseException:
            with suppress(WarehouseError):  # The first error says more.
                self._leave()
            raise
        self._leave()

    @contextmanager
    def writing(self, doing: str, commit: str = "state") -> Iterator[None]:
        """Run the block in one transaction. *commit* names the step of its commit."""
        with self.open(doing), self.engine.transaction(commit):
            yield

    def _leave(self) -> None:
        self._depth -= 1
        if not self._depth:
            self.engine.detach()


@dataclass(frozen=True)
class Part:
    """A part of the warehouse that works in *sessions*."""

    sessions: Sessions

    @property
    def _engine(self) -> Engine:
        return self.sessions.engine

    def _readable(self, table: StateTable) -> str:
        return self.sessions.layout.readable(table)


def reads(doing: str) -> Callable[[_Method], _Method]:
    """Run a method in a session."""

    def decorate(method: _Method) -> _Method:
        @wraps(method)
        def read(self: Any, *arguments: object, **options: object) -> object:
            with self.sessions.open(doing):
                return method(self, *arguments, **options)

        return cast("_Method", read)

    return decorate


def writes(doing: str, commit: str = "state") -> Callable[[_Method], _Method]:
    """Run a method that returns nothing in one transaction; leave it out in a dry run."""

    def decorate(method: _Method) -> _Method:
        @wraps(method)
        def write(self: Any, *arguments: object, **options: object) -> None:
            if not self.sessions.dry_run:
                with self.sessions.writing(doing, commit):
                    method(self, *arguments, **options)

        return cast("_Method", write)

    return decorate
