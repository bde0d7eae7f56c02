"""
A naming convention for dlt under which ``__sync_key`` stays ``__sync_key``.

dlt's own conventions make one underscore of several, or leave every character as it is and
tell upper case from lower. This one is ``sql_ci_v1`` in all but the underscores that a name
begins with. dlt loads it by the name of this module, so it needs dlt, and nothing else does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dlt.common.normalizers.naming.sql_ci_v1 import NamingConvention as CaseInsensitive

if TYPE_CHECKING:
    from collections.abc import Sequence

_LEADING = re.compile(r"_{2,}(?=[A-Za-z])")


class NamingConvention(CaseInsensitive):
    """Keeps two and more underscores at the beginning of a name; dlt looks for this class."""

    def normalize_identifier(self, identifier: str) -> str:
        """Write *identifier* as a warehouse takes it: lower case, letters, digits, underscores."""
        normal = super().normalize_identifier(identifier)
        leading = _leading(identifier)
        if not leading:
            return normal
        return self.shorten_identifier(
            leading + normal.lstrip("_"), identifier.strip(), self.max_length
        )

    def break_path(self, path: str) -> Sequence[str]:
        """Take *path* apart at its double underscores, but for those that it begins with."""
        leading = _leading(path)
        parts = super().break_path(path.strip().removeprefix(leading))
        return [leading + parts[0], *parts[1:]] if leading else parts


def _leading(name: str) -> str:
    found = _LEADING.match(name.strip())
    return found.group() if found else ""
