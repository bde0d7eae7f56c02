"""The two sizes of the suite: `make test` proves every truth once, `make test-all` all of it."""

from __future__ import annotations

from importlib.util import find_spec

from hypothesis import settings

collect_ignore = [] if find_spec("pyspark") else ["spark"]
"""`make test` installs no Spark: 400 MB for tests that only `make test-all` runs."""

settings.register_profile("quick", max_examples=20)
settings.register_profile("full", max_examples=200)
