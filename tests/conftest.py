"""The two sizes of the suite: `make test` proves every truth once, `make test-all` all of it."""

from __future__ import annotations

import gc
import os
import re
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

from ometria_replica import local_duckdb

collect_ignore = [
    tests
    for tests, package in (
        ("api/test_dagster.py", "dagster"),
        ("singer", "singer_sdk"),
        ("spark", "pyspark"),
    )
    if not find_spec(package)
]
"""`make test` installs none: 520 MB for tests that only `make test-all` runs."""

# jsonschema imports it if it can, for IRIs, which no schema of ours has; that takes two seconds.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # Python's way to refuse one.

settings.register_profile("quick", max_examples=8, deadline=None)  # No test is timed.
settings.register_profile("full", max_examples=100, deadline=None)
settings.register_profile("ci", max_examples=30, deadline=None)  # Each change gets others.


@dataclass(frozen=True)
class Repeats:
    """Cases of *kinds* of warehouse in *file* that show what another kind has shown already."""

    file: str
    kinds: tuple[str, ...]
    tests: tuple[str, ...] = ()
    """Words in the names of the tests; none means all tests of the file."""
    but: tuple[str, ...] = ()
    """Words in the names of tests of the file that show something else."""

    def __contains__(self, item: pytest.Item) -> bool:
        """Whether a test is such a case."""
        given = item.callspec.params.values() if hasattr(item, "callspec") else ()
        return (
            item.path == Path(__file__).parent / self.file
            and not {*self.kinds}.isdisjoint(map(str, given))
            and (not self.tests or any(words in item.name for words in self.tests))
            and not any(words in item.name.partition("[")[0] for words in self.but)
        )


REPEATS = (
    Repeats(
        "warehouses/test_conformance.py",
        ("postgres", "delta", "iceberg", "dlt+duckdb", "dlt+postgres", "clickhouse"),
    ),
    Repeats(
        "warehouses/test_erasures.py",
        ("postgres", "delta", "iceberg", "dlt+duckdb", "dlt+postgres"),
    ),
    Repeats(
        "warehouses/test_treatments.py",
        ("postgres", "delta", "iceberg", "dlt+duckdb", "dlt+postgres"),
    ),
    Repeats(
        "warehouses/test_html_report.py",
        ("postgres", "delta", "iceberg", "dlt+duckdb", "dlt+postgres"),
    ),
    Repeats("warehouses/test_permissions.py", ("delta", "iceberg", "dlt+duckdb")),
    Repeats(
        "warehouses/test_lost_rows.py",
        ("postgres", "delta", "iceberg", "dlt+duckdb", "dlt+postgres"),
    ),
    Repeats(
        "warehouses/test_lakes.py",
        ("iceberg",),
        ("at_once", "let_go", "file_alone", "of_a_batch_are_written", "was_overtaken"),
    ),
    Repeats(
        "warehouses/test_lakes.py",
        ("delta", "iceberg"),
        ("tens_of_thousands", "at_once_lose_nothing", "are_let_go", "answer_is_lost"),
    ),
    Repeats("upgrade/test_upgrade.py", ("postgres",)),
    Repeats("upgrade/test_remotes.py", ("iceberg", "dlt+duckdb")),
    Repeats("dlt_source/test_source.py", ("postgres",)),
)
"""They run in `make test-all`. In `make test`, tests of their own show how remotes write."""

TWINS = ("iceberg", "dlt+postgres", "clickhouse")
"""Warehouses whose rows the same code merges as those of Delta, or of DuckDB through dlt."""

OF_STORAGE = (
    "column", "text", "null", "nul_", "time", "date", "words", "many_months", "any_batches",
    "selection",
)  # fmt: skip
"""Words in the names of conformance cases about how a warehouse stores and selects rows."""

AGAIN = tuple(
    Repeats(f"warehouses/test_{name}.py", TWINS, but=OF_STORAGE)
    for name in (
        "account", "all_tables", "conformance", "erasures", "further", "history", "html_report",
        "kept_records", "lost_rows", "nested_tables", "parts", "rehash", "status", "treatments",
        "verify",
    )
)  # fmt: skip
"""CI leaves them out."""


def pytest_configure(config: pytest.Config) -> None:
    """Give each DuckDB one thread in `make test`: there are more workers than cores."""
    if config.getoption("--hypothesis-profile") == "quick":
        local_duckdb._cores = lambda: 1
        os.environ["OMETRIA_THREADS"] = "1"  # In processes that a test starts.


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no file of which `make test` runs nothing: each worker would do it."""
    if config.option.markexpr != "not slow" or collection_path.suffix != ".py":
        return None
    text = collection_path.read_text(encoding="utf-8")
    return bool(re.search(r"^pytestmark = .*pytest\.mark\.slow", text, re.MULTILINE)) or None


def pytest_collection_finish() -> None:
    """Leave what was imported out of each collection of garbage: it is for good."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let libraries in C find all of theirs at the end."""
    gc.unfreeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the repeats as slow, and the properties whose number of examples the profile sets."""
    for item in items:
        property_ = getattr(
            getattr(item, "function", None), "_hypothesis_internal_use_settings", None
        )
        if property_ is not None and property_.max_examples == settings().max_examples:
            item.add_marker(pytest.mark.more_examples)
        for repeats, mark in ((REPEATS, pytest.mark.slow), (AGAIN, pytest.mark.again)):
            if any(item in each for each in repeats):
                item.add_marker(mark)
