"""Retries after commit conflicts."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, TypeVar

from ometria_replica.errors import CommitConflict

if TYPE_CHECKING:
    from collections.abc import Callable

WAITS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)  # Seconds. Commits of other accounts take less than one.

_T = TypeVar("_T")


def retried(attempt: Callable[[], _T]) -> _T:
    """Retry after a commit conflict, with a random delay so that two writers part."""
    for seconds in WAITS:
        try:
            return attempt()
        except CommitConflict:
            time.sleep(seconds * random.uniform(0.5, 1.5))  # noqa: S311 -- no secret.
    return attempt()
