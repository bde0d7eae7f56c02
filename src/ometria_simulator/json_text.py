"""JSON in which a number can keep its zeros at the end."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ometria_simulator.records import Json


def written(value: Json) -> bytes:
    """Write *value*; a Decimal in it, which ``json`` does not know, is a number as it stands."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except TypeError:
        return _text(value).encode()


def _text(value: object) -> str:
    if isinstance(value, dict):
        members = (f"{json.dumps(name)}:{_text(below)}" for name, below in value.items())
        return f"{{{','.join(members)}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    return str(value) if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False)
