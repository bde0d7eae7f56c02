"""Access to the database of one warehouse: sessions that read, and transactions that write."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ometria_replica.warehouse import upgrades

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ometria_replica.schema import StateTable
    from ometria_replica.warehouse.engines.base import Engine

_Method = TypeVar("_Method", bound="Callable[..., Any]")


class Access:
    """
    Sessions of *engine*; with *dry_run* none that writes.

    Between two sessions other programs may use the database. The first one refuses a state that
    a newer program has upgraded.
    """

    def __init__(self, engine: Engine, *, dry_run: bool = False) -> None:
        self.engine = engine
        self.dry_run = dry_run
        self.layout = upgrades.Layout(engine)
        self._is_checked = False

    @contextmanager
    def session(self, doing: str) -> Iterator[None]:
        """Connect for the block, and let other programs in afterwards."""
        with self.engine.session(doing):
            if not self._is_checked:
                upgrades.refuse_newer(self.engine)
                self._is_checked = True
            yield
        self.engine.detach()

    @contextmanager
    def writing(self, doing: str, commit: str = "state") -> Iterator[None]:
        """Run the block in one transaction. *commit* names the step of its commit."""
        with self.session(doing), self.engine.transaction(commit):
            yield


@dataclass(frozen=True)
class Part:
    """A part of the warehouse that works through *access*."""

    access: Access

    @property
    def _engine(self) -> Engine:
        return self.access.engine

    def _readable(self, table: StateTable) -> str:
        return self.access.layout.readable(table)


def reads(doing: str) -> Callable[[_Method], _Method]:
    """Run a method in a session of its ``access``."""

    def decorate(method: _Method) -> _Method:
        @wraps(method)
        def read(self: Any, *arguments: object, **options: object) -> object:
            with self.access.session(doing):
                return method(self, *arguments, **options)

        return cast("_Method", read)

    return decorate


def writes(doing: str, commit: str = "state") -> Callable[[_Method], _Method]:
    """Run a method that returns nothing in one transaction; leave it out in a dry run."""

    def decorate(method: _Method) -> _Method:
        @wraps(method)
        def write(self: Any, *arguments: object, **options: object) -> None:
            if not self.access.dry_run:
                with self.access.writing(doing, commit):
                    method(self, *arguments, **options)

        return cast("_Method", write)

    return decorate
