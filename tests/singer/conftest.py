from __future__ import annotations

from tests.exporting_shop import feed, server, shop

__all__ = ["feed", "server", "shop"]
