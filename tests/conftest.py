"""The two sizes of the suite: `make test` proves every truth once, `make test-all` all of it."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("quick", max_examples=20)
settings.register_profile("full", max_examples=100)
