"""Words, numbers and columns of text, for reports and listings."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))

# C0 but the tab and the line feed, C1, marks that turn the direction of text, lone surrogates.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


_WORD = re.compile(r"[^\s'\"<>(),;:/]+")
_PASSWORD = "***@"  # noqa: S105 -- What our messages have in its place, before a host.


def without_addresses(text: str) -> str:
    """
    Mask what could be an email address in a message that leaves the machine, or goes to a log.

    Our messages name no person. But some name a file, and a file may be named after a person.
    Of a URL, the host is kept without the user: it says what could not be reached.
    """
    return _WORD.sub(_masked, text)


def _masked(word: re.Match[str]) -> str:
    is_address = "@" in word[0] or "%40" in word[0]
    if not is_address or word[0].startswith(_PASSWORD):
        return word[0]
    user, _, host = word[0].rpartition("@")
    is_of_url = word.string.endswith("://", 0, word.start())
    return f"***@{host}" if is_of_url and user and "%40" not in host else "[address]"


def names_of(given: str | Iterable[str]) -> tuple[str, ...]:
    """
    Return names as they were given: one by itself, or several.

    A text is also a sequence of texts, its letters, and no type checker tells one from the other.
    Raises TypeError for what is no text.
    """
    names = (given,) if isinstance(given, str) else tuple(given)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"A name is a text, such as 'profiles', and not {type(name).__name__}.")
    return names


def printable(text: str) -> str:
    """Escape the characters that steer a terminal, as JSON does: names of files may hold them."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def encodable(text: str) -> str:
    """Replace lone surrogates, which UTF-8 and so JSON cannot hold, by their escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def aligned(lines: list[list[str]], *, left: int = 1) -> list[str]:
    """Align cells in columns: the first *left* columns to the left, the others to the right."""
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    return [
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def counted(number: int, noun: str, several: str | None = None) -> str:
    """Write a number with its noun: ``1 row``, ``2 rows``."""
    return f"{number:,} {noun if number == 1 else several or noun + 's'}"


def ago(time: timedelta) -> str:
    """Write how long ago something was; a clock that is a little ahead makes it now."""
    return f"{span(time)} ago" if time >= timedelta(seconds=1) else "now"


def span(time: timedelta) -> str:
    """Write a span of time in its largest unit that has at least two, as a person would."""
    seconds = time.total_seconds()
    for unit, length in _UNITS:
        if seconds >= 2 * length:
            return counted(int(seconds // length), unit)
    return "1 second" if seconds >= 1 else "less than a second"


def size(count: int) -> str:
    """Write a number of bytes in the unit in which it is below a thousand."""
    number = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:,.1f} TB"
