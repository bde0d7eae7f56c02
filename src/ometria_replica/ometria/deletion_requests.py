"""Ometria's own erasures: the requests to anonymise people that it has received."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from ometria_replica.batch import DeletionRequest
from ometria_replica.ometria.times import time_of
from ometria_replica.records import field_text

if TYPE_CHECKING:
    from ometria_replica.records import Record

_WORD = re.compile("[A-Za-z_-]{1,40}")
_ID = re.compile("[0-9A-Za-z_.:-]{1,100}")
_HASHED = re.compile(r"(?i)[0-9a-f]{32}@anonymous\.ometria")
_TIME = re.compile(r"[0-9T :.+Z-]{1,40}")


def deletion_request(record: Record) -> DeletionRequest | None:
    """
    Read a request; None if it has no id.

    Nothing else of it is taken: its comment, its summary and its user are personal. So is an
    address that is not hashed, which counts as an identity only.
    """
    request_id = _matching(_ID, field_text(record, "id"))
    if request_id is None:
        return None
    identities = record.get("identities")
    identities = identities if isinstance(identities, list) else []
    hashed = [_hashed_email(identity) for identity in identities]
    return DeletionRequest(
        request_id,
        action=_matching(_WORD, field_text(record, "action")),
        created_at=time_of(record, "timestamp_created"),
        created_text=_matching(_TIME, field_text(record, "timestamp_created")),
        completed_at=time_of(record, "timestamp_completed"),
        completed_text=_matching(_TIME, field_text(record, "timestamp_completed")),
        identities=len(identities),
        hashed_emails=json.dumps([address for address in hashed if address is not None]),
    )


def _hashed_email(identity: object) -> str | None:
    text = identity.get("hashed_email") if isinstance(identity, dict) else None
    return _matching(_HASHED, text) if isinstance(text, str) else None


def _matching(pattern: re.Pattern[str], text: str | None) -> str | None:
    """Keep a text of the expected form, and no other, which could hold anything."""
    return text if text is not None and pattern.fullmatch(text) else None
