"""
Named steps of a run, for tests that interrupt the program at one of them.

The program announces each step that reads or writes something: ``before commit``,
``after commit``. Without a listener, which is how users run it, an announcement does nothing.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_listeners: list[Callable[[str], None]] = []


def listen(listener: Callable[[str], None]) -> None:
    """Call *listener* with each step from now on, from the thread that reaches it."""
    _listeners.append(listener)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Announce ``before NAME`` and, unless it fails, ``after NAME``."""
    _announce(f"before {name}")
    yield
    _announce(f"after {name}")


def _announce(step_name: str) -> None:
    for listener in _listeners:
        listener(step_name)
