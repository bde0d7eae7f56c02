"""Raw records become typed rows, keys and rejects, in DuckDB."""

from __future__ import annotations

from ometria_replica.mapping.finishing import Staged
from ometria_replica.mapping.quoted_addresses import (
    MASKED,
    SIGNS,
    addresses_sql,
    mask_addresses,
)
from ometria_replica.mapping.quoting import literal, quoted
from ometria_replica.mapping.select import (
    REJECTED,
    SQL_TYPES,
    STAGED,
    conversion,
    staged_ddl,
    stamped,
)
from ometria_replica.mapping.staged_tables import REJECT_COLUMNS, file_reject
from ometria_replica.mapping.staging import SEEN_KEYS, Staging, forget_keys
from ometria_replica.mapping.suppressing import words_sql
from ometria_replica.mapping.treatments import ANONYMISED, is_anonymous, without_addresses

__all__ = [
    "ANONYMISED",
    "MASKED",
    "REJECTED",
    "REJECT_COLUMNS",
    "SEEN_KEYS",
    "SIGNS",
    "SQL_TYPES",
    "STAGED",
    "Staged",
    "Staging",
    "addresses_sql",
    "conversion",
    "file_reject",
    "forget_keys",
    "is_anonymous",
    "literal",
    "mask_addresses",
    "quoted",
    "staged_ddl",
    "stamped",
    "without_addresses",
    "words_sql",
]
