"""The dbt package in a project of its own, as an analyst has it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from scripts.dbt_marts import MARTS, marts

from tests.dbt.program import PACKAGE, Project, needs_dbt
from tests.faults.world import World
from tests.places import DuckDBPlace

pytestmark = [pytest.mark.slow, needs_dbt]

FURTHER = {"customer_orders", "order_attribution", "campaign_revenue"}
NO_LIMIT = {"ometria_warn_after_hours": 10**6, "ometria_error_after_hours": 10**6}
"""The simulated account lives in another year than this machine."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Give a project that has the package, and the replica of an account with the five tables."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "dbt_project.yml").write_text("name: shop\nversion: 1.0.0\nprofile: ometria\n")
    (folder / "packages.yml").write_text(json.dumps({"packages": [{"local": str(PACKAGE)}]}))
    place = DuckDBPlace(folder / "replica.duckdb")
    with World(folder, place=place, profiles=60, lists=3, email_events=400) as world:
        world.sync_here()
    made = Project(folder, place, folder)
    made.run("deps")
    return made


def test_the_package_builds_in_another_project_without_a_warning(project: Project) -> None:
    """With the five tables and no variable; what needs further tables is left out."""
    project.run("--warn-error", "build")

    names = {mart["name"] for mart in marts()} - FURTHER
    there = set(project.models())
    assert names <= there
    assert there - names == {name for name in there if name.startswith(("stg_", "int_"))}


def test_each_column_of_a_mart_is_described_and_no_other(project: Project) -> None:
    """In the documentation that dbt makes, for marts, staging models and sources alike."""
    project.run("docs", "generate")

    target = project.work / "target"
    manifest, catalog = (
        json.loads((target / f"{name}.json").read_text()) for name in ("manifest", "catalog")
    )
    told = {**manifest["nodes"], **manifest["sources"]}
    there = {**catalog["nodes"], **catalog["sources"]}
    compared = [key for key in there if ".int_" not in key and "ometria_state" not in key]
    assert len(compared) > 20
    for key in compared:
        described = {name for name, each in told[key]["columns"].items() if each["description"]}
        assert described == set(there[key]["columns"]), key
        assert told[key]["description"]


def test_the_queries_of_the_documentation_run(project: Project) -> None:
    """Each mart has one, and names no column that is not there."""
    for mart in marts():
        (query,) = re.findall(r"```sql\n(.*?)```", mart["description"], re.DOTALL)
        if mart["name"] not in FURTHER:
            project.query(query)


def test_a_source_is_stale_by_the_time_of_its_last_sync(project: Project) -> None:
    """By default after 168 hours, which are over."""
    project.run("source", "freshness", code=1)
    assert statuses(project) == {"error"}

    project.run("source", "freshness", **NO_LIMIT)
    assert statuses(project) == {"pass"}


@pytest.mark.parametrize(
    "variables",
    [
        {"ometria_tables": ["email_events"], "ometria_state_schema": None},
        {"ometria_tables": ["profiles", "member_lists", "orders"], "ometria_history": ["profiles"]},
    ],
    ids=["events", "people"],
)
def test_any_tables_are_parsed_without_a_warning(
    project: Project, variables: dict[str, Any]
) -> None:
    """Whatever is replicated, nothing refers to what is not."""
    project.run("--warn-error", "parse", "--no-partial-parse", **variables)


def statuses(project: Project) -> set[str]:
    """Give the results of `dbt source freshness`."""
    found = json.loads((project.work / "target" / "sources.json").read_text())["results"]
    assert len(found) == 5
    return {each["status"] for each in found}


def test_the_words_of_each_mart_are_in_a_file_of_its_name() -> None:
    """So that they are found."""
    assert {mart["name"] for mart in marts()} == {
        path.stem for path in MARTS.glob("*.md") if not path.stem.startswith("_")
    }
