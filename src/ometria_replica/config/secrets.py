"""Values that must not be shown: secrets, and passwords inside URLs."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit


class Secret:
    """
    A value whose repr shows its origin; only :meth:`reveal` returns the value.

    Not a dataclass, because ``dataclasses.asdict`` would copy the value.
    """

    __slots__ = ("_value", "origin")

    def __init__(self, value: str, origin: str) -> None:
        self._value = value
        self.origin = origin

    def reveal(self) -> str:
        """Return the value, to send it."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({self.origin})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)


def masked(url: str) -> str:
    """Replace the password in a URL, and each parameter with a name like ``token``, by ``***``."""
    # Greedy up to the last @: a password may hold / or @ without being encoded.
    url = re.sub(r"(://[^:/@]*):.+@", r"\1:***@", url, flags=re.DOTALL)
    return _REVEALING.sub(r"\1***", url)


def holds_token(url: str) -> bool:
    """Whether a URL looks as if it must not be shared: a query, or a long part with digits."""
    parts = urlsplit(url)
    return bool(parts.query) or any(
        len(part) >= _TOKEN_CHARACTERS and any(map(str.isdigit, part))
        for part in (*parts.path.split("/"), *parts.netloc.split("."))
    )


_TOKEN_CHARACTERS: Final = 16  # A UUID has 36, the last part of a webhook of Slack 24.
_REVEALING: Final = re.compile(
    r"([?&;][^=&]*(?:pass|pwd|token|secret|key|credential|signature|authorization"
    r"|connection.string)[^=&]*=)[^&#]+",
    re.IGNORECASE,
)
