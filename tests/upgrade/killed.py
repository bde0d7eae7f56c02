"""The program, killed at one of the statements that it writes to the warehouse with."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING, Any, Literal

from tests import forked
from tests.faults import child

if TYPE_CHECKING:
    from pathlib import Path

    from tests.upgrade.life import Shop

Killed = Literal["before", "after"]

_WRITES = re.compile(
    r"\s*(BEGIN|COMMIT|(ALTER|CREATE|DROP|INSERT|UPDATE|DELETE|MERGE|TRUNCATE)\b.*ometria_replica)",
    re.IGNORECASE | re.DOTALL,
)


def run_killed(shop: Shop, arguments: tuple[str, ...], nth: int, when: Killed) -> int:
    """
    Run the program, and kill it just before or after its *nth* statement that writes to the state.

    Return the exit code: -9 for one that was killed, 0 where there are not so many statements.
    """
    plan = child.Plan(at=shop.account.now, env=shop.environ())
    process = forked.forkserver().Process(
        target=_run, args=(plan, nth, when, arguments, shop.folder), daemon=True
    )
    process.start()
    process.join(50)
    code: int | None = process.exitcode
    assert code is not None, "it hangs"
    return code


def _run(
    plan: child.Plan, nth: int, when: Killed, arguments: tuple[str, ...], folder: Path
) -> None:
    """Be the command line, in the child."""
    from adbc_driver_manager.dbapi import Cursor  # noqa: PLC0415 -- only the child.
    from duckdb import DuckDBPyConnection  # noqa: PLC0415

    count = 0

    def around(owner: Any) -> None:
        original = owner.execute

        def execute(self: Any, statement: Any, *args: Any, **options: Any) -> Any:
            nonlocal count
            writes = bool(_WRITES.match(str(statement)))
            count += writes
            if writes and count == nth and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = original(self, statement, *args, **options)
            if writes and count == nth:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        owner.execute = execute

    for owner in (DuckDBPyConnection, Cursor):
        around(owner)
    child.run(plan, arguments, folder, "killed")
