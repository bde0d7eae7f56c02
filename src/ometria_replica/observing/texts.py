"""Reasons of failures that leave the machine, without anything like an email address."""

from __future__ import annotations

import re

MOST_CHARACTERS = 1_000
_WORD = re.compile(r"[^\s'\"<>(),;:/]+")
_PASSWORD = "***@"  # noqa: S105 -- What our messages have in its place, before a host.


def shown(reason: str) -> str:
    """
    Mask what could be an address in the *reason* of a failure, and cut a long one.

    Our messages name no person. But some name a file, and a file may be named after a person.
    """
    start = reason[: 4 * MOST_CHARACTERS]
    if len(start) < len(reason):  # Half an address does not look like one.
        start = start[: max(start.rfind(" "), 0)]
    return _WORD.sub(_masked, start)[:MOST_CHARACTERS]


def _masked(word: re.Match[str]) -> str:
    text = word[0]
    is_address = "@" in text or "%40" in text
    return "…" if is_address and not text.startswith(_PASSWORD) else text
