"""
The account that log lines belong to, in a run of several accounts.

A run reads one account after the other, but threads that prefetch its pages log too: the name is
one of the process and not of the thread.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_names: list[str] = []


@contextmanager
def logging_for(source_id: str) -> Iterator[None]:
    """Let log lines of the block name an account."""
    _names.append(source_id)
    try:
        yield
    finally:
        _names.remove(source_id)


def named(message: str) -> str:
    """Put the account's name in front of a log line, if there is one."""
    return f"{_names[-1]}: {message}" if _names else message
