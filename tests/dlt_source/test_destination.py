"""Destinations in which dlt would double rows, or rename columns, are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dlt
import pytest
from deltalake import DeltaTable
from dlt.pipeline.exceptions import PipelineStepFailed

from ometria_replica.dlt import ometria
from tests.replicas import write_feed_file
from tests.warehouses.loads import NOON

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def events(tmp_path: Path) -> Any:
    """Return the source of an export with one event."""
    event = {"to_address": "ann@example.com", "event_type": "open", "dt_occurred": str(NOON)}
    write_feed_file(tmp_path / "feed", "a.jsonl", NOON, [event])
    return lambda: ometria(
        account_id="1042",
        source_id="uk",
        api_key=None,
        feed_url=str(tmp_path / "feed"),
        rejects=False,
    )


def pipeline(folder: Path, destination: Any) -> Any:
    """Make a pipeline that keeps its files in *folder*."""
    return dlt.pipeline(
        "shop", destination=destination, dataset_name="ometria", pipelines_dir=str(folder / "dlt")
    )


def test_files_that_cannot_be_merged_are_refused(tmp_path: Path, events: Any) -> None:
    """Each load would append rows that are there; Delta tables are merged."""
    to_files = pipeline(tmp_path, dlt.destinations.filesystem(str(tmp_path / "files")))
    with pytest.raises(PipelineStepFailed, match="cannot merge email_events"):
        to_files.run(events())
    assert not list((tmp_path / "files").rglob("email_events/*"))

    to_files.drop()
    for _ in range(2):
        to_files.run(events(), table_format="delta", refresh="drop_data")
    found = DeltaTable(tmp_path / "files" / "ometria" / "email_events")
    assert found.to_pyarrow_table().num_rows == 1
    assert "__sync_key" in [field.name for field in found.schema().fields]


@pytest.mark.parametrize("where", ["setting", "argument"])
def test_a_naming_convention_that_renames_columns_is_refused(
    tmp_path: Path, events: Any, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Wherever it is named; one that keeps all names is not refused."""

    def to_duckdb(naming: str) -> Any:
        if where == "setting":
            monkeypatch.setenv("SCHEMA__NAMING", naming)
        options: Any = {"naming_convention": naming} if where == "argument" else {}
        file = str(tmp_path / f"{naming}.duckdb")
        return pipeline(tmp_path / naming, dlt.destinations.duckdb(file, **options))

    with pytest.raises(PipelineStepFailed, match=r"'snake_case' would rename .* __sync_key"):
        to_duckdb("snake_case").run(events())
    to_duckdb("direct").run(events())
