"""Commands work for any catalog, not only for the tables of the specification page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ometria_replica.catalog import CATALOG
from ometria_replica.config import load_config
from ometria_replica.describe import FORMATS, describe
from ometria_replica.doctor.run import check
from ometria_replica.errors import ConfigError
from ometria_replica.schema import Column, Table, md5
from ometria_replica.ways_to_read import Pages, PerParent
from ometria_simulator import Account, serve
from tests.e2e.program import api_env

if TYPE_CHECKING:
    from pathlib import Path

KEY = md5("source_id", "id")
CAMPAIGNS = Table(
    "campaigns",
    read=Pages("campaigns"),
    sync_key=KEY,
    identity=(("id",),),
    columns=(Column("id", "campaign_id"), Column("title", "campaign_title")),
    schema="marketing",
)
SENDS = Table(
    "sends",
    read=PerParent(Pages("campaigns"), "campaigns/{id}/sends"),
    sync_key=KEY,
    identity=(("id",),),
    columns=(Column("id", "campaign_id"),),
)
MORE = CATALOG + CAMPAIGNS + SENDS


@pytest.mark.parametrize("form", FORMATS)
def test_each_form_describes_the_tables_of_any_catalog(form: str) -> None:
    """A table that is added is described beside the others, and alone by either name."""
    assert "campaign_title" in describe(["campaigns"], form, catalog=MORE)
    assert describe(["marketing.campaigns"], form, catalog=MORE) == describe(
        ["campaigns"], form, catalog=MORE
    )
    everything = describe((), form, catalog=MORE)
    assert "campaigns" in everything
    assert "sends" in everything
    assert "email_events" in everything
    assert "Campaigns" not in describe((), form)
    with pytest.raises(ConfigError, match="There is no table 'campaigns'"):
        describe(["campaigns"], form)


def test_a_schema_is_created_for_each_that_tables_name() -> None:
    """The statements create each schema once, before the tables."""
    statements = describe((), "sql", catalog=MORE).splitlines()

    assert statements[:2] == [
        'CREATE SCHEMA IF NOT EXISTS "ometria";',
        'CREATE SCHEMA IF NOT EXISTS "marketing";',
    ]
    tables = json.loads(describe((), "json", catalog=MORE))["tables"]
    assert [table["schema"] for table in tables] == [
        *["ometria"] * 5,
        "marketing",
        "ometria",
    ]


def test_check_tries_each_endpoint_of_the_catalog_once(tmp_path: Path) -> None:
    """A table that is read for each parent is tried by the first one."""
    with serve(Account.create(profiles=2, lists=1), requests_per_second=None) as server:
        config = load_config(None, api_env(server, tmp_path / "w.duckdb"))
        findings = list(check(config, catalog=MORE))

    tried = {each.text.partition(":")[0]: each.level for each in findings if "GET " in each.text}
    assert tried == {
        "GET /profiles": "pass",
        "GET /lists": "pass",
        "GET /lists/{id}/changes": "pass",
        "GET /unsubscribes": "pass",
        "GET /campaigns": "fail",
        "GET /campaigns/{id}/sends": "warn",  # Not tried.
    }
    assert [each.code for each in findings if each.level == "fail"] == ["api.right"]
    (not_read,) = [each.text for each in findings if each.code == "settings.not_read"]
    assert not_read.startswith("email_events is not read: no feed is set")
