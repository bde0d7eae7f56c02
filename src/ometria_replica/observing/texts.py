"""Reasons of failures, as they may leave the machine."""

from __future__ import annotations

from ometria_replica.text import without_addresses

MOST_CHARACTERS = 1_000


def shown(reason: str) -> str:
    """Mask what could be an address in the *reason* of a failure, and cut a long one."""
    start = reason[: 4 * MOST_CHARACTERS]
    if len(start) < len(reason):  # Half an address does not look like one.
        start = start[: max(start.rfind(" "), 0)]
    return without_addresses(start)[:MOST_CHARACTERS]
