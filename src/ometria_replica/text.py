"""Words, numbers and columns of text, for reports and listings."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))

# C0 but the tab and the line feed, C1, marks that turn the direction of text, lone surrogates.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Escape the characters that steer a terminal, as JSON does: names of files may hold them."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


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
