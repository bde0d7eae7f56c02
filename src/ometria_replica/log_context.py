"""
The run, the account and the table that log lines belong to.

Several accounts are read at the same time, each by threads of its own: so this is a variable of
the context, which a thread passes on to those that it starts, and with what it lets another thread
do. An error takes along where it was raised, because the line that tells of it comes at the end.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_OF_ERRORS: Final = "ometria_replica_log_context"


@dataclass(frozen=True)
class LogContext:
    """The id of a *run*, the ``source_id`` of an *account*, a *table*; each None if unknown."""

    run: str | None = None
    account: str | None = None
    table: str | None = None


_NOWHERE: Final = LogContext()
_current: ContextVar[LogContext] = ContextVar("log context", default=_NOWHERE)


@contextmanager
def logging_for(
    *, run: str | None = None, account: str | None = None, table: str | None = None
) -> Iterator[None]:
    """Let log lines of the block name what is given, besides what they name already."""
    given = {"run": run, "account": account, "table": table}
    context = replace(_current.get(), **{name: text for name, text in given.items() if text})
    before = _current.set(context)
    try:
        yield
    except BaseException as error:
        remember_context(error)
        raise
    finally:
        _current.reset(before)


def log_context() -> LogContext:
    """Return what a log line belongs to that is written here and now."""
    return _current.get()


def remember_context(error: BaseException) -> None:
    """Let *error* take along what a line here and now would name, unless it has that already."""
    with suppress(AttributeError, TypeError):  # An exception of C may have no attributes.
        error.__dict__.setdefault(_OF_ERRORS, _current.get())


def context_of(error: BaseException) -> LogContext:
    """Return where *error* was raised, as far as it is known."""
    context: LogContext = getattr(error, _OF_ERRORS, _NOWHERE)
    return context
