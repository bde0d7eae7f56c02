"""The answer of a warehouse to a user's query: columns, and rows that are read as they come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

ROWS_AT_ONCE = 10_000


@dataclass(frozen=True)
class Answer:
    """
    The *names* of the columns, of which two may be equal, and the rows in *batches*.

    To read a batch raises QueryError if the warehouse fails on a row.
    """

    names: tuple[str, ...]
    batches: Iterator[pa.RecordBatch]


def not_a_query(kind: str) -> ConfigError:
    """Say that a statement of this *kind*, such as INSERT, is not run."""
    return ConfigError(
        f"{kind} is not run: this command only reads. Nothing was changed."
        " Write one SELECT, WITH, VALUES or EXPLAIN statement."
    )
