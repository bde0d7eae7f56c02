"""The naming convention for dlt keeps every name of ours."""

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
    """The schema of dlt contains the name of the module, and dlt loads it by that name."""
    naming = naming_from_reference("ometria_replica.naming", 63)

    assert isinstance(naming, NamingConvention)
    assert naming.name() == "ometria_replica.naming"
    assert not naming.is_case_sensitive


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_ours_is_kept(name: str) -> None:
    """Names of tables and columns keep every underscore, alone and in a path."""
    naming = NamingConvention(63)

    assert naming.normalize_identifier(name) == name
    assert naming.normalize_path(name) == name
    assert naming.normalize_tables_path(name) == name
    assert list(naming.break_path(name)) == [name]


def test_the_lineage_is_among_the_names() -> None:
    """The names tested above include the four that other conventions change."""
    assert {"_account_id", "__source_id", "__sync_key", "__synced_at"} <= set(NAMES)


@pytest.mark.parametrize("name", ["_dlt_id", "_dlt_load_id", "_dlt_pipeline_state", "_dlt_loads"])
def test_the_names_of_dlt_are_kept(name: str) -> None:
    """Names of dlt's own columns and tables do not change."""
    assert NamingConvention().normalize_path(name) == name


@pytest.mark.parametrize(
    ("name", "written"),
    [("__Sync Key", "__sync_key"), (" __sync__key_ ", "__sync_key"), ("2nd", "_2nd")],
)
def test_other_names_become_valid_in_a_warehouse(name: str, written: str) -> None:
    """Other names have the form of dlt's ``sql_ci_v1``."""
    assert NamingConvention().normalize_identifier(name) == written


def test_a_path_splits_at_its_double_underscores() -> None:
    """Leading underscores belong to the first name."""
    naming = NamingConvention()

    assert list(naming.break_path("profiles__tags")) == ["profiles", "tags"]
    assert list(naming.break_path("__sync_key__v_text")) == ["__sync_key", "v_text"]
    assert naming.make_path("__sync_key", "v_text") == "__sync_key__v_text"


@given(st.from_regex(r"_{0,3}[A-Za-z0-9].{0,90}", fullmatch=True), st.integers(20, 63))
def test_a_normalised_name_does_not_change(name: str, most: int) -> None:
    """A name is normalised at every step, so a second time must not change it."""
    naming = NamingConvention(most)
    written = naming.normalize_identifier(name)

    assert len(written) <= most
    assert naming.normalize_identifier(written) == written
