"""
The text of a query, as DuckDB and PostgreSQL both read it.

Comments are left out, so that a later look at the first word of the text looks at what is run.
"""

from __future__ import annotations

import re

from ometria_replica.errors import ConfigError

# Texts and quoted names pass. A comment may be in a comment, so its end is sought by itself.
_PIECES = re.compile(
    r"""[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$"""
    r"""|(?P<line>--[^\n]*)|(?P<open>/\*)|(?P<end>;)|[^'"$/;eE-]+|.""",
    re.DOTALL,
)
_MARKS = re.compile(r"/\*|\*/")


def one_statement(text: str) -> str:
    """
    Return the one statement of *text*, without comments and semicolon.

    Raises ConfigError if there are several, or none.
    """
    statements = [part.strip() for part in _parts(text) if part.strip()]
    if not statements:
        raise ConfigError("The SQL is empty. Write one SELECT statement.")
    if len(statements) > 1:
        raise ConfigError(
            "The SQL has several statements, and none was run. Write one, and run the others by"
            " themselves."
        )
    return statements[0]


def _parts(text: str) -> list[str]:
    """Split a text at its semicolons."""
    parts, place = [""], 0
    while piece := _PIECES.match(text, place):
        place = piece.end()
        if piece["open"]:
            place = _end_of_comment(text, place)
            parts[-1] += " "
        elif piece["line"]:
            parts[-1] += " "
        elif piece["end"]:
            parts.append("")
        else:
            parts[-1] += piece[0]
    return parts


def _end_of_comment(text: str, start: int) -> int:
    depth = 1
    for mark in _MARKS.finditer(text, start):
        depth += 1 if mark[0] == "/*" else -1
        if not depth:
            return mark.end()
    return len(text)
