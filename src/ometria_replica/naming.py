"""
A naming convention for dlt that keeps ``__sync_key`` as ``__sync_key``.

dlt's own conventions either merge several underscores into one, or keep every character and
are case sensitive. This one differs from ``sql_ci_v1`` only in leading underscores. dlt loads
it by the name of this module, and stores that name in users' schemas. The module needs dlt.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dlt.common.normalizers.naming.sql_ci_v1 import NamingConvention as CaseInsensitive

if TYPE_CHECKING:
    from collections.abc import Sequence

_LEADING = re.compile(r"_{2,}(?=[A-Za-z])")


class NamingConvention(CaseInsensitive):
    """Keeps two or more leading underscores; dlt looks for a class of this name."""

    def normalize_identifier(self, identifier: str) -> str:
        """Return *identifier* in lower case, with letters, digits and underscores only."""
        normal = super().normalize_identifier(identifier)
        leading = _leading(identifier)
        if not leading:
            return normal
        return self.shorten_identifier(
            leading + normal.lstrip("_"), identifier.strip(), self.max_length
        )

    def break_path(self, path: str) -> Sequence[str]:
        """Split *path* at its double underscores, except leading ones."""
        leading = _leading(path)
        parts = super().break_path(path.strip().removeprefix(leading))
        return [leading + parts[0], *parts[1:]] if leading else parts


def _leading(name: str) -> str:
    found = _LEADING.match(name.strip())
    return found.group() if found else ""
