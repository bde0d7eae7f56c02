"""Statement text and URLs as PostgreSQL reads them."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode

DEFAULTS = {"application_name": "ometria-replica", "connect_timeout": "15"}
"""Parameters of the connection, where the URL has none of its own."""
ENCODING = {"client_encoding": "UTF8"}
"""The encoding of the driver's texts, whatever the URL, the role or the environment say."""


def numbered(statement: str) -> str:
    """Write placeholders as PostgreSQL does: ``$1`` for the first ``?``."""
    parts, count = [], 0
    for part in re.split(r"""('(?:[^']|'')*'|"(?:[^"]|"")*"|\?)""", statement):
        count += part == "?"
        parts.append(f"${count}" if part == "?" else part)
    return "".join(parts)


def with_defaults(url: str) -> str:
    """Add the defaults to the end of *url*, and change nothing else: libpq has its own rules."""
    rest = url.partition("://")[2]
    place = re.sub(r"^[^@/]*@", "", rest)  # A password may hold a question mark.
    given = dict(parse_qsl(place.partition("?")[2], keep_blank_values=True))
    added = {name: value for name, value in DEFAULTS.items() if name not in given}
    joint = "" if url.endswith(("?", "&")) else "&" if "?" in place else "?"
    return f"{url}{joint}{urlencode(added | ENCODING)}"
