"""
The account that log lines belong to, in a run of several accounts.

Several are read at the same time, each by threads of its own: the name is one of the context, which
a thread passes on to those that it starts, and with what it lets another thread do.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_name: ContextVar[str | None] = ContextVar("account", default=None)


@contextmanager
def logging_for(source_id: str) -> Iterator[None]:
    """Let log lines of the block name an account."""
    before = _name.set(source_id)
    try:
        yield
    finally:
        _name.reset(before)


def named(message: str) -> str:
    """Put the account's name in front of a log line, if there is one."""
    name = _name.get()
    return f"{name}: {message}" if name else message
