"""What each DuckDB that the program opens may use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Limits:
    """
    The memory, as DuckDB writes it (``512MB``), the threads, and the folder for temporary files.

    None means the default: for memory and threads that of this machine or its container, for
    the folder ``TMPDIR``.
    """

    memory_limit: str | None = None
    threads: int | None = None
    temp_directory: str | None = None


NO_LIMITS: Final = Limits()
