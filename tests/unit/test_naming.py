"""Under the naming convention for dlt, every name of ours arrives as it is."""

from __future__ import annotations

import pytest
from dlt.common.schema.normalizers import naming_from_reference
from hypothesis import given
from hypothesis import strategies as st

from ometria_replica.naming import NamingConvention
from tests.spec.page import page_tables

NAMES = sorted(
    {table.name for table in page_tables()}
    | {name for table in page_tables() for name, _ in table.columns}
    | {"ometria", "ometria_replica", "rejects"}
)


def test_dlt_finds_it_by_the_name_of_its_module() -> None:
    """The schema that dlt stores names the module, and dlt loads it again by that name."""
    naming = naming_from_reference("ometria_replica.naming", 63)

    assert isinstance(naming, NamingConvention)
    assert naming.name() == "ometria_replica.naming"
    assert not naming.is_case_sensitive


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_ours_is_kept(name: str) -> None:
    """Tables and columns keep every underscore, alone and as a path."""
    naming = NamingConvention(63)

    assert naming.normalize_identifier(name) == name
    assert naming.normalize_path(name) == name
    assert naming.normalize_tables_path(name) == name
    assert list(naming.break_path(name)) == [name]


def test_the_lineage_is_among_the_names() -> None:
    """The four names that other conventions change are looked at above."""
    assert {"_account_id", "__source_id", "__sync_key", "__synced_at"} <= set(NAMES)


@pytest.mark.parametrize("name", ["_dlt_id", "_dlt_load_id", "_dlt_pipeline_state", "_dlt_loads"])
def test_the_names_of_dlt_are_kept(name: str) -> None:
    """What dlt calls its own columns and tables stays so."""
    assert NamingConvention().normalize_path(name) == name


@pytest.mark.parametrize(
    ("name", "written"),
    [("__Sync Key", "__sync_key"), (" __sync__key_ ", "__sync_key"), ("2nd", "_2nd")],
)
def test_other_names_become_what_a_warehouse_takes(name: str, written: str) -> None:
    """Names that somebody adds are written as dlt's ``sql_ci_v1`` writes them."""
    assert NamingConvention().normalize_identifier(name) == written


def test_a_path_comes_apart_at_its_double_underscores() -> None:
    """Those that it begins with are a part of the first name."""
    naming = NamingConvention()

    assert list(naming.break_path("profiles__tags")) == ["profiles", "tags"]
    assert list(naming.break_path("__sync_key__v_text")) == ["__sync_key", "v_text"]
    assert naming.make_path("__sync_key", "v_text") == "__sync_key__v_text"


@given(st.from_regex(r"_{0,3}[A-Za-z0-9].{0,90}", fullmatch=True), st.integers(20, 63))
def test_a_name_that_is_written_once_stays(name: str, most: int) -> None:
    """Names are written anew at every step, so that the second time must change nothing."""
    naming = NamingConvention(most)
    written = naming.normalize_identifier(name)

    assert len(written) <= most
    assert naming.normalize_identifier(written) == written
