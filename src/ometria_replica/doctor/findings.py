"""What a test found: the value that all tests give, and how an error becomes one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from ometria_replica.errors import TRY_AGAIN_LATER, ReplicaError, WarehouseError
from ometria_replica.stopping import is_of_a_library

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Level = Literal["pass", "warn", "fail"]

Code = Literal[
    "program.versions",
    "program.extra",
    "program.observers",
    "settings.valid",
    "settings.problem",
    "settings.not_read",
    "settings.unused",
    "settings.unusual",
    "settings.permissions",
    "api.right",
    "api.clock",
    "feed.address",
    "feed.files",
    "feed.dialect",
    "warehouse.file_name",
    "warehouse.open",
    "warehouse.privileges",
    "warehouse.state",
    "warehouse.rows",
    "warehouse.unreadable",
    "warehouse.maintenance",
    "machine.memory",
    "machine.disk",
    "check.unfinished",
    "check.failed",
]
"""The tests, in the order of the page. Scripts rely on them: none is renamed."""

STRICT_EXIT_CODE = 4
"""Of warnings with ``--strict``: the code of work that is done and needs a look."""


@dataclass(frozen=True)
class Finding:
    """
    The result of one test.

    *code* names the test for programs. *text* says what is so,
    and *mend* what to do about it; None if it passed. *source_id* is the account that it is of,
    None if it is of none. *error* is what a sync would raise; None unless it failed.
    """

    code: Code
    level: Level
    text: str
    mend: str | None = None
    source_id: str | None = None
    error: ReplicaError | None = None


def passed(code: Code, text: str) -> Finding:
    """Say that all is well."""
    return Finding(code, "pass", text)


def warned(code: Code, text: str, mend: str) -> Finding:
    """Say what a sync can do with, and should not have to."""
    return Finding(code, "warn", text, mend)


def failed(code: Code, text: str, error: ReplicaError, mend: str | None = None) -> Finding:
    """Say what a sync would fail of; *error* tells what to do, unless *mend* does."""
    return Finding(code, "fail", text, mend or str(error), error=error)


def tested(code: Code, text: str, test: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Give what *test* finds; an error that ends it becomes a finding with *code* and *text*."""
    try:
        yield from test()
    except ReplicaError as error:
        yield failed(code, text, error)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        yield failed(code, text, WarehouseError(f"The system refused: {reason}."))
    except BaseException as error:
        if not is_of_a_library(error):  # A panic of Rust is no Exception.
            raise
        # Without its message, which may quote personal data.
        kind = type(error).__name__
        yield failed(code, text, ReplicaError(f"Bug in ometria-replica: {kind}. Please report it."))


def of_account(findings: Iterable[Finding], source_id: str) -> Iterator[Finding]:
    """Say of which account *findings* are."""
    for finding in findings:
        yield replace(finding, source_id=source_id)


def exit_code(findings: Iterable[Finding], *, strict: bool = False) -> int:
    """
    Return the code of the first failure, one that passes by itself after all others.

    Without a failure 0, or with *strict* STRICT_EXIT_CODE if there is a warning.
    """
    findings = tuple(findings)
    codes = [each.error.exit_code if each.error else 1 for each in findings if each.level == "fail"]
    if codes:
        return next((code for code in codes if code != TRY_AGAIN_LATER), codes[0])
    has_warned = any(each.level == "warn" for each in findings)
    return STRICT_EXIT_CODE if strict and has_warned else 0
