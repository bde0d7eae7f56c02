"""Words and columns of text, for reports and listings."""

from __future__ import annotations


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
