"""What the commands of the models do before dbt is asked, in an environment without it."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from ometria_replica.config import Limits
from ometria_replica.errors import ConfigError
from ometria_replica.models import package, variables
from ometria_replica.models.child import _told
from ometria_replica.models.place import Place, place_of
from ometria_replica.models.profile import write_profile
from ometria_replica.models.request import Answer, ModelResult
from ometria_replica.models.results import data_tests_in, models_in
from tests.e2e.program import invoke

if TYPE_CHECKING:
    from pathlib import Path


def has_dbt() -> bool:
    """Look for dbt itself: a folder of the repository has the same name."""
    try:
        return find_spec("dbt.cli") is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.skipif(has_dbt(), reason="dbt is installed here")
@pytest.mark.parametrize(
    ("url", "extra"),
    [("w.duckdb", "models"), ("postgresql://someone@db.example.com/shop", "models-postgres")],
)
def test_without_the_extra_the_command_names_it(url: str, extra: str) -> None:
    """Nothing is contacted before."""
    result = invoke("models", "build", "--warehouse", url, env={})

    assert isinstance(result.exception, ConfigError)
    assert f"pip install 'ometria-replica[{extra}]'" in str(result.exception)


@pytest.mark.parametrize(
    ("url", "into", "told"),
    [
        ("delta:///lake", None, "--into marts.duckdb"),
        ("delta:///lake", "postgresql://db/shop", "names a DuckDB file"),
        ("w.duckdb", "marts.duckdb", "Leave --into out"),
        ("duckdb:///data/ometria.duckdb", None, "Rename the file"),
        ("snowflake://someone@account/db", None, "pip install dbt-snowflake"),
        ("clickhouse://someone@host/db", None, "ClickHouse has no schemas"),
        ("nonsense://x", None, "is not a known kind of warehouse"),
    ],
)
def test_where_models_cannot_be_built_is_said_with_what_to_do(
    url: str, into: str | None, told: str
) -> None:
    """A lake takes a file, and a warehouse with many ways to sign in a profile of the user."""
    with pytest.raises(ConfigError) as refused:
        place_of(url, into)
    assert told in str(refused.value)


def test_a_profile_has_the_limits_and_is_no_template(tmp_path: Path) -> None:
    """The path of a DuckDB file is taken as it is, also with braces in it."""
    place = Place("duckdb", "x", file="/data/{{ 7 * 6 }}/shop.duckdb")
    write_profile(place, tmp_path, Limits("300MB", 3), None, None)

    (output,) = json.loads((tmp_path / "profiles.yml").read_text())["ometria"]["outputs"].values()
    assert output["config_options"]["memory_limit"] == "300MB"
    assert output["config_options"]["threads"] == "3"
    assert output["config_options"]["autoinstall_known_extensions"] == "false"
    assert output["path"] == "/data/{{ '{' }}{{ '{' }} 7 * 6 }}/shop.duckdb"
    assert output["schema"] == "ometria_marts"
    assert output["threads"] == 1


def test_a_profile_of_postgresql_holds_no_secret(tmp_path: Path) -> None:
    """The process of dbt connects by the URL, which is in no file."""
    place = place_of("postgresql://ann:canary@one,two:5433/?service=shop&sslmode=require", None)
    write_profile(place, tmp_path, Limits(), 7, "shop")

    text = (tmp_path / "profiles.yml").read_text()
    assert "canary" not in text
    (output,) = json.loads(text)["ometria"]["outputs"].values()
    assert (output["dbname"], output["threads"]) == ("shop", 7)
    assert "canary" not in place.name


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            "Runtime Error in model m (m.sql)\n  Conversion Error: no INT32: 'ann@example.com'",
            "Conversion Error",
        ),
        (
            'Database Error in model m (models/m.sql)\n  invalid input: "ann@example.com"',
            "Database Error",
        ),
        (
            'Runtime Error in model m (m.sql)\n  Binder Error: column "emial" not found!',
            'Binder Error: column "emial" not found!',
        ),
        (
            "Database Error in model m (m.sql)\n  permission denied for schema shop: 'ann@x.com'",
            "permission denied for schema shop",
        ),
        ("Runtime Error\n  IO Error: Could not set lock on file", "locked"),
        ("ann@example.com", "unknown"),
        ("", "unknown"),
    ],
)
def test_an_error_of_dbt_is_told_without_values_of_rows(message: str, told: str) -> None:
    """Only the text of an error that is about the SQL is passed on."""
    assert _told(message) == told


def test_results_of_dbt_become_models_and_tests() -> None:
    """A test that cannot run counts as failed, and one that warns does not."""

    def result(kind: str, name: str, status: str, failures: int | None = None) -> ModelResult:
        return ModelResult(kind, name, None, "table", status, 0.5, failures, None, "sends")

    answer = Answer(
        is_success=False,
        problem=None,
        results=(
            result("model", "sends", "success"),
            result("model", "broken", "error"),
            result("model", "of_broken", "skipped"),
            result("test", "unique", "fail", 3),
            result("test", "fresh", "warn", 1),
            result("test", "cannot", "error"),
            result("test", "good", "pass", 0),
            result("test", "of_broken", "skipped"),
        ),
        switched_off=(),
    )
    models, tests = models_in(answer, {"sends": 7, "broken": 9}), data_tests_in(answer)

    assert [(each.name, each.status, each.rows) for each in models] == [
        ("sends", "built", 7),
        ("broken", "failed", None),
        ("of_broken", "skipped", None),
    ]
    assert tests.run == 4
    assert [each.name for each in tests.failed] == ["unique", "cannot"]


def test_variables_are_those_that_the_package_reads() -> None:
    """A misspelled one is answered with the nearest; what the program sets is not one."""
    assert variables.parsed(["a=1", "b=x", 'c=["y"]', "d="]) == {
        "a": 1, "b": "x", "c": ["y"], "d": "",
    }  # fmt: skip
    variables.refuse_unknown({"ometria_attribution_days": 3, variables.TIMEZONE: "UTC"})
    with pytest.raises(ConfigError, match="ometria_attribution_days"):
        variables.refuse_unknown({"ometria_atribution_days": 3})
    with pytest.raises(ConfigError, match="no variable 'ometria_tables'"):
        variables.refuse_unknown({"ometria_tables": ["lists"]})
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        variables.parsed(["alone"])


def test_the_package_is_copied_into_an_empty_folder_only(tmp_path: Path) -> None:
    """All of it, and nothing that dbt makes."""
    files = package.export(tmp_path / "new" / "ometria")

    assert "dbt_project.yml" in files
    assert "models/marts/email_sends.sql" in files
    assert not [name for name in files if name.startswith(("target", "logs"))]
    with pytest.raises(ConfigError, match="is not an empty folder"):
        package.export(tmp_path / "new")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--timezone", "Europe/Lundun"],
        ["--select", "--full-refresh"],
        ["--target", "prod"],
        ["--threads", "0"],
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_contacted(arguments: list[str]) -> None:
    """Whether dbt is installed or not."""
    result = invoke("models", "build", "--warehouse", "none.duckdb", *arguments, env={})

    assert result.exit_code == 2 or isinstance(result.exception, ConfigError)
