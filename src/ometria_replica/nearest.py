"""The nearest of the names that are known, for messages about one that is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """
    Return the known name that is most similar to *name*, in any case; None if none is near.

    *cutoff* is how similar it must be, from 0 to 1, as ``difflib`` measures it.
    """
    import difflib  # noqa: PLC0415 -- only for a name that is wrong, and `--help` is fast.

    by_folded = {each.casefold(): each for each in known}
    near = difflib.get_close_matches(name.casefold(), by_folded, 1, cutoff)
    return by_folded[near[0]] if near else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the nearest known name as the end of a message; empty if none is near."""
    near = nearest(name, known)
    return f"; did you mean {near}?" if near else ""
