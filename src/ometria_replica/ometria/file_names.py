r"""
Names of files as text: the file log holds no other, and stores and folders hold any bytes.

A byte that is no UTF-8 becomes ``\xff``, and a NUL ``\x00``. In a name with one of them, or with
a text that looks like one, each backslash is doubled. So no two names have the same text.
"""

from __future__ import annotations

import re

_ESCAPED = re.compile(r"\\x[0-9a-f]{2}")


def to_text(name: bytes) -> str:
    """Write a name as text; nearly every name is its own."""
    try:
        text = name.decode()
    except UnicodeDecodeError:
        pass
    else:
        if "\0" not in text and not is_escaped(text):
            return text
    doubled = name.replace(b"\\", rb"\\")
    return doubled.decode(errors="backslashreplace").replace("\0", r"\x00")


def is_escaped(text: str) -> bool:
    """Whether the name is other than its text."""
    return _ESCAPED.search(text) is not None


def from_text(text: str) -> bytes:
    """Return the name that :func:`to_text` wrote."""
    name = text.encode()
    if not is_escaped(text):
        return name
    return re.sub(
        rb"\\(?:\\|x([0-9a-f]{2}))",
        lambda found: bytes.fromhex(found[1].decode()) if found[1] else b"\\",
        name,
    )
