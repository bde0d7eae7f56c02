"""
Pseudonyms: the HMAC-SHA256 of a text with a secret of the account, in lower-case hex.

DuckDB computes them, by one expression for every input and every warehouse. What the secret
gives is a parameter of a statement, and never part of its text.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

_BLOCK = 64  # Bytes of a block of SHA-256.
_CHECKED = b"ometria-replica: is this the same secret?"
_SPACE = 32  # The last of the characters that are white space here, or control something.
_WHITE_SPACE = "' ' || chr(9) || chr(10) || chr(11) || chr(12) || chr(13)"


PSEUDONYM = "[0-9a-f]{64}"
"""The form of a pseudonym, as a regular expression."""


class Parameters(Protocol):
    """What has parameters for statements."""

    @property
    def parameters(self) -> Mapping[str, bytes]:
        """The named parameters."""


def parameters_in(statement: str, *known: Parameters | None) -> dict[str, bytes]:
    """Give the parameters that *statement* names: DuckDB refuses any other."""
    return {
        name: value
        for each in known
        if each is not None
        for name, value in each.parameters.items()
        if f"${name}" in statement
    }


def is_pseudonym(text: str) -> str:
    """Write the condition that *text*, an expression, has the form of a pseudonym."""
    return f"regexp_full_match({text}, '{PSEUDONYM}')"


def normalised(text: str) -> str:
    """Write *text*, an expression of an address, without space around it and in lower case."""
    # Few texts have any: to look at the ends costs a fifth of trimming.
    has_space = f"ord({text}) <= {_SPACE} OR ord({text}[-1]) <= {_SPACE}"
    return f"lower(CASE WHEN {has_space} THEN trim({text}, {_WHITE_SPACE}) ELSE {text} END)"


@dataclass(frozen=True)
class Pseudonyms:
    """
    The pseudonyms of one *secret*.

    *normalises* says that addresses are trimmed and in lower case before. *name* tells the
    parameters of two secrets in one statement apart.
    """

    secret: bytes = field(repr=False)
    normalises: bool = True
    name: str = "hash"

    @property
    def parameters(self) -> Mapping[str, bytes]:
        """The named parameters of a statement with :meth:`sql` in it."""
        secret = sha256(self.secret).digest() if len(self.secret) > _BLOCK else self.secret
        padded = secret.ljust(_BLOCK, b"\0")
        return {
            f"{self.name}_inner": bytes(byte ^ 0x36 for byte in padded),
            f"{self.name}_outer": bytes(byte ^ 0x5C for byte in padded),
        }

    @property
    def check(self) -> str:
        """A text that tells whether a secret is the same, and nothing else of it."""
        return hmac.digest(self.secret, _CHECKED, "sha256").hex()[:16]

    def sql(self, text: str, *, is_address: bool = False) -> str:
        """Write the pseudonym of *text*, an expression; null for null and for an empty text."""
        text = normalised(text) if is_address and self.normalises else text
        inner = f"unhex(sha256(${self.name}_inner || encode(nullif({text}, ''))))"
        return f"sha256(${self.name}_outer || {inner})"
