from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ometria_replica.cli import pages
from ometria_replica.cli.demo import _write_page
from ometria_replica.config import Limits, load_warehouse
from ometria_replica.demo import SAMPLE_WIDTH, shown_cell
from tests.e2e.program import run
from tests.incremental.shops import NOON, account, config, replicate
from tests.replicas import TABLES, everything

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_simulator import Server

SMALL = ("--profiles", "50", "--lists", "3", "--events", "200")


@pytest.mark.slow
def test_the_demo_shows_five_tables(tmp_path: Path) -> None:
    """Without a key or a bucket, it syncs a simulated account and shows rows of each table."""
    ended = run("demo", *SMALL, "--warehouse", "duckdb:///x.duckdb", cwd=tmp_path, check=True)

    rows = everything(tmp_path / "x.duckdb")
    assert all(rows.values())
    assert len(rows["profiles"]) == 50
    assert len(rows["lists"]) == 3
    assert ended.out.startswith("Synced to duckdb:///x.duckdb in ")
    for name in TABLES:
        assert f"\nometria.{name}\n  " in ended.out
    assert "A report with charts is in ometria-report.html: open it in a browser.\n" in ended.out
    assert "All right: 5 tables" in (tmp_path / "ometria-report.html").read_text(encoding="utf-8")
    assert "That account was simulated. For yours:" in ended.out
    assert "\x1b" not in ended.out
    assert {row["_account_id"] for row in rows["profiles"]} == {"demo"}


def test_the_demo_writes_its_report_over_no_other_file(
    server: Server, warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of its name stays, and the demo says so, as it does without the packages."""
    replicate(warehouse, account(server), at=NOON)
    other = warehouse.with_name("ometria-report.html")
    other.write_text("mine", encoding="utf-8")
    settings = config(warehouse, account(server))

    assert _write_page(settings) == (
        f"No report was written: {other} exists and is not a report of this program."
        " Nothing was overwritten. Name another file, or remove it."
    )
    assert other.read_text(encoding="utf-8") == "mine"
    other.unlink()
    assert _write_page(settings).startswith(f"A report with charts is in {other}")
    monkeypatch.setattr(pages, "find_spec", lambda _: None)
    assert _write_page(settings) == (
        "For a report with charts: pip install 'ometria-replica[report]'."
    )


def test_the_demo_leaves_a_real_account_alone(
    server: Server, warehouse: Path, tmp_path: Path
) -> None:
    """A file that holds a real account is refused before the simulation starts."""
    replicate(warehouse, account(server), at=NOON)
    before = warehouse.read_bytes()

    ended = run("demo", *SMALL, "--warehouse", f"duckdb:///{warehouse}", cwd=tmp_path)

    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        f"{warehouse} holds account '1042', and the demo would add simulated people to it."
        " Use another file: --warehouse duckdb:///demo.duckdb.\n"
    )
    assert warehouse.read_bytes() == before


def test_the_demo_keeps_to_the_limits_of_the_settings(tmp_path: Path) -> None:
    """Its DuckDB takes what any other does, and a wrong limit is told before it starts."""
    (tmp_path / "ometria.toml").write_text('[warehouse]\nthreads = 1\ntemp_directory = "x"')
    environ = {"OMETRIA_MEMORY_LIMIT": "200MB", "OMETRIA_CONFIG": str(tmp_path / "ometria.toml")}

    loaded = load_warehouse("duckdb:///demo.duckdb", environ)
    ended = run("demo", *SMALL, cwd=tmp_path, env=environ | {"OMETRIA_MEMORY_LIMIT": "80%"})

    assert (loaded.url, loaded.limits) == ("duckdb:///demo.duckdb", Limits("200MB", 1, "x"))
    assert ended.code == 2
    assert "OMETRIA_MEMORY_LIMIT" in ended.err


def test_a_value_that_is_cut_ends_with_an_ellipsis() -> None:
    """No address looks whole that is not; one that fits is whole."""
    fits = "a" * (SAMPLE_WIDTH - 12) + "@example.com"

    assert shown_cell(fits) == fits
    assert shown_cell("a" + fits) == "a" + fits[: SAMPLE_WIDTH - 2] + "…"
    assert shown_cell(None) == "-"


def test_the_demo_writes_no_other_warehouse(tmp_path: Path) -> None:
    """Only a DuckDB file is written."""
    ended = run("demo", *SMALL, "--warehouse", "postgresql://somewhere/db", cwd=tmp_path)

    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "The demo writes to a DuckDB file only. Use --warehouse duckdb:///FILE.\n"
    assert list(tmp_path.iterdir()) == []
