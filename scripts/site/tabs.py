"""
Tabs, where a page says the same for several warehouses or shells.

A forge shows one part below the other, each with its name in bold on a line of its own:

    <!-- tabs -->
    **DuckDB**

    ...

    **PostgreSQL**

    ...
    <!-- end of tabs -->
"""

from __future__ import annotations

import re
from textwrap import indent

_TABS = re.compile(r"^<!-- tabs -->\n(.*?)^<!-- end of tabs -->$", re.MULTILINE | re.DOTALL)
_LABEL = re.compile(r"^\*\*([^*\n]+)\*\*\n", re.MULTILINE)


def to_tabs(text: str) -> str:
    """Write the tabs of a page as the site's extension of Markdown takes them."""

    def tabs(found: re.Match[str]) -> str:
        before, *parts = _LABEL.split(found[1])
        labels, bodies = parts[::2], parts[1::2]
        if before.strip() or not labels:
            raise ValueError(f"text before the first label of tabs: {found[1][:60]!r}")
        return "".join(
            f'=== "{label}"\n\n{indent(body.strip(chr(10)), "    ")}\n\n'
            for label, body in zip(labels, bodies, strict=True)
        )

    return _TABS.sub(tabs, text)


def without_labels(text: str) -> str:
    """Leave out the names of the tabs, which on the site are no part of the text."""
    return _TABS.sub(lambda found: _LABEL.sub("", found[1]), text)
