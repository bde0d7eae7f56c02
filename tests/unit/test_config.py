"""Settings are read, merged, checked together and explained, and secrets are never shown."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scripts.reference import settings_page

from ometria_replica.config import (
    AccountSettings,
    Config,
    FeedSettings,
    Retention,
    Secret,
    WarehouseSettings,
    explain,
    load_config,
    masked,
)
from ometria_replica.config.schema import VARIABLES
from ometria_replica.config.setting import settings_of
from ometria_replica.errors import ConfigError

CANARY = "canary5f3a9c7e"
KEY = {"OMETRIA_API_KEY": CANARY}
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"


@pytest.fixture(autouse=True)
def _working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str, name: str = "ometria.toml") -> Path:
    path = Path(name)
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def problems(environ: dict[str, str] | None = None, **arguments: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(environ=environ or {}, **arguments)
    assert CANARY not in str(caught.value)
    return list(caught.value.problems)


# --- One account, without a file ---------------------------------------------------------------


def test_an_api_key_in_the_environment_is_all_that_an_account_needs() -> None:
    """One account needs no file: its key is enough, and the rest has defaults."""
    config = load_config(environ=KEY)

    assert config == Config(
        accounts=(
            AccountSettings(
                account_id="default",
                source_id="default",
                api_key=Secret(CANARY, "env:OMETRIA_API_KEY"),
                api_url="https://api.ometria.com/v2",
                requests_per_second=4.0,
                changes_parameter="since",
                feed=None,
            ),
        ),
        warehouse=WarehouseSettings("duckdb:///warehouse.duckdb"),
        path=None,
    )


def test_each_variable_sets_what_it_names() -> None:
    """The environment alone can describe one account, its feed and the warehouse."""
    config = load_config(
        environ={
            "OMETRIA_API_KEY": CANARY,
            "OMETRIA_API_URL": "http://127.0.0.1:8080/v2/",
            "OMETRIA_ACCOUNT_ID": "1042",
            "OMETRIA_SOURCE_ID": "ometria-uk",
            "OMETRIA_FEED_URL": "s3://acme-exports/ometria/",
            "OMETRIA_WAREHOUSE_URL": "duckdb:////data/acme.duckdb",
            "OMETRIA_REQUESTS_PER_SECOND": "2.5",
        }
    )

    (account,) = config.accounts
    assert account.api_url == "http://127.0.0.1:8080/v2"
    assert (account.account_id, account.source_id) == ("1042", "ometria-uk")
    assert account.feed == FeedSettings(url="s3://acme-exports/ometria/")
    assert account.requests_per_second == 2.5
    assert config.warehouse.url == "duckdb:////data/acme.duckdb"


def test_the_source_is_named_as_the_account_unless_it_has_a_name() -> None:
    """Without a source_id, the account_id names the connection too."""
    (account,) = load_config(environ=KEY | {"OMETRIA_ACCOUNT_ID": "1042"}).accounts

    assert account.source_id == "1042"
    assert AccountSettings(account_id="7").source_id == "7"


def test_without_a_key_and_a_feed_the_message_says_what_to_set() -> None:
    """Without any settings, the message names the variables and keys to set."""
    assert problems() == [
        (
            "No account is set: it needs an API key, a feed or both."
            " Set OMETRIA_API_KEY or OMETRIA_FEED_URL, or write [[accounts]] in ometria.toml."
        )
    ]


def test_an_account_may_have_a_feed_only() -> None:
    """A feed without an API key is an account."""
    (account,) = load_config(environ={"OMETRIA_FEED_URL": "exports"}).accounts

    assert account.api_key is None
    assert account.feed == FeedSettings(url="exports")


# --- The file ----------------------------------------------------------------------------------


def test_a_whole_file_becomes_a_whole_configuration() -> None:
    """Every key of the file is read."""
    path = write(r"""
        [warehouse]
        url = "duckdb:///shop.duckdb"

        [[accounts]]
        account_id = 1042
        source_id  = "ometria-uk"
        api_key    = "env:UK_KEY"
        api_url    = "https://ometria.example/v2/"
        requests_per_second = 4
        changes_parameter = "from"

        [accounts.feed]
        url = "s3://acme-exports/ometria/"
        endpoint_url = "http://store:9000"
        region = "eu-west-1"
        access_key_id = "env:FEED_ID"
        secret_access_key = "env:FEED_SECRET"
        session_token = "env:FEED_TOKEN"
        role_arn = "arn:aws:iam::123456789012:role/reader"
        pattern = "*email_events*"
        format = "csv"
        compression = "gzip"
        delimiter = "tab"
        header = false
        encoding = "latin-1"
        quote = "'"
        escape = ""
        null = "\\N"
        columns = ["uuid", "event_type"]

        [[accounts]]
        account_id = "1043"
        feed = { url = "file:///exports" }
    """)
    environ = {"UK_KEY": CANARY, "FEED_ID": "id", "FEED_SECRET": "secret", "FEED_TOKEN": "token"}

    assert load_config(environ=environ) == Config(
        accounts=(
            AccountSettings(
                account_id="1042",
                source_id="ometria-uk",
                api_key=Secret(CANARY, "env:UK_KEY"),
                api_url="https://ometria.example/v2",
                requests_per_second=4.0,
                changes_parameter="from",
                feed=FeedSettings(
                    url="s3://acme-exports/ometria/",
                    endpoint_url="http://store:9000",
                    region="eu-west-1",
                    access_key_id=Secret("id", "env:FEED_ID"),
                    secret_access_key=Secret("secret", "env:FEED_SECRET"),
                    session_token=Secret("token", "env:FEED_TOKEN"),
                    role_arn="arn:aws:iam::123456789012:role/reader",
                    pattern="*email_events*",
                    format="csv",
                    compression="gzip",
                    delimiter="\t",
                    header=False,
                    encoding="latin-1",
                    quote="'",
                    escape="",
                    null="\\N",
                    columns=("uuid", "event_type"),
                ),
            ),
            AccountSettings(account_id="1043", feed=FeedSettings(url="file:///exports")),
        ),
        warehouse=WarehouseSettings("duckdb:///shop.duckdb"),
        path=path,
    )


def test_the_command_line_beats_the_environment_beats_the_file_beats_the_default() -> None:
    """The order of the four is the order of the page."""
    write("""
        [warehouse]
        url = "duckdb:///file.duckdb"
        [[accounts]]
        account_id = "file"
        api_key = "env:ANOTHER"
    """)
    variable = {"OMETRIA_WAREHOUSE_URL": "duckdb:///environment.duckdb"}
    environ = {"ANOTHER": "another", **KEY, "OMETRIA_ACCOUNT_ID": "environment"}

    only_file = load_config(environ={"ANOTHER": "another"})
    assert only_file.warehouse.url == "duckdb:///file.duckdb"
    assert only_file.accounts[0].account_id == "file"
    assert only_file.accounts[0].changes_parameter == "since"

    both = load_config(environ=environ | variable)
    assert both.warehouse.url == "duckdb:///environment.duckdb"
    assert both.accounts[0].account_id == "environment"
    assert both.accounts[0].api_key == Secret(CANARY, "env:OMETRIA_API_KEY")

    all_three = load_config(environ=environ | variable, warehouse_url="cli.duckdb")
    assert all_three.warehouse.url == "duckdb:///cli.duckdb"


def test_a_retention_for_all_accounts_holds_where_an_account_has_no_other() -> None:
    """Each table has its own span; that of the account counts, as it is written."""
    write("""
        retain = { email_events = "25 months", unsubscribes = "6 years" }
        accounts = [{ account_id = "1", retain = { unsubscribes = "1 year" } }]
    """)

    config = load_config(environ=KEY)

    assert config.accounts[0].retain == (
        Retention("email_events", 25, "month"),
        Retention("unsubscribes", 1, "year"),
    )
    shown = {key: value for key, value, _ in explain(config)}
    assert shown["accounts[0].retain"] == "email_events 25 months, unsubscribes 1 year"


def test_every_span_that_is_none_is_told() -> None:
    """Without the text of any."""
    write("""
        retain = { email_events = "2 yrs", unsubscribes = "0 days", member_lists = 3, a = "1 day" }
        accounts = [{ retain = "25 months" }]
    """)
    allowed = (
        'must be a number of days, weeks, months or years, from 1 to 9999, such as "25 months"'
    )

    assert problems(KEY) == [
        *(
            f"ometria.toml: retain: {name} {allowed}."
            for name in ("email_events", "unsubscribes", "member_lists")
        ),
        (
            "ometria.toml: accounts[0].retain: must be a table of spans, such as"
            ' { email_events = "25 months" }.'
        ),
    ]


def test_a_file_may_hold_the_warehouse_only() -> None:
    """Without accounts in the file, the environment describes the only one."""
    write('warehouse = { url = "shop.db" }')

    config = load_config(environ=KEY)

    assert config.warehouse.url == "duckdb:///shop.db"
    assert len(config.accounts) == 1


def test_another_file_can_be_named_and_must_then_exist() -> None:
    """--config overrides OMETRIA_CONFIG, which overrides ometria.toml; a named file must exist."""
    write('accounts = [{ account_id = "default file" }]')
    write('accounts = [{ account_id = "variable" }]', "variable.toml")
    named = write('accounts = [{ account_id = "argument" }]', "argument.toml")
    variable = KEY | {"OMETRIA_CONFIG": "variable.toml"}

    assert load_config(environ=KEY).accounts[0].account_id == "default file"
    assert load_config(environ=variable).accounts[0].account_id == "variable"
    assert load_config(named, variable).accounts[0].account_id == "argument"
    assert load_config(named, variable).path == named

    missing = ["none.toml: the settings file cannot be read: No such file or directory."]
    assert problems(path=Path("none.toml")) == missing
    assert problems({"OMETRIA_CONFIG": "none.toml"}) == missing
    assert problems({"OMETRIA_CONFIG": ""}) == [
        "OMETRIA_CONFIG: is empty; name a file, or unset it."
    ]


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    """Editors of Windows put it before the text: of the settings, and of a secret."""
    Path("ometria.toml").write_text('accounts = [{ account_id = "a" }]', encoding="utf-8-sig")
    (tmp_path / "key").write_text("abc\n", encoding="utf-8-sig")
    (tmp_path / "key").chmod(0o600)

    config = load_config(environ={"OMETRIA_API_KEY": f"file:{tmp_path / 'key'}"})

    assert config.accounts[0].account_id == "a"
    assert config.accounts[0].api_key == Secret("abc", "")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owner's number here")
@pytest.mark.parametrize(
    ("api_url", "warns"),
    [
        ("https://api.ometria.com/v2", False),
        ("https://ometria.com.example.org/v2", True),
        ("https://notometria.com", True),
        ("http://127.0.0.1:1", True),
    ],
)
def test_a_found_file_of_another_user_may_not_redirect_keys_in_silence(
    api_url: str, warns: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warning comes before any request; not for a file that is named, or of one's own."""
    file = write(f'accounts = [{{ account_id = "1042", api_url = "{api_url}" }}]')
    if not file.stat().st_uid:  # Of the superuser, who is no other user.
        os.chown(file, 12345, -1)
    owner = file.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)

    load_config(file, KEY)
    load_config(environ=KEY | {"OMETRIA_CONFIG": str(file)})
    load_config(environ=KEY | {"OMETRIA_API_URL": "https://proxy.example.org"})
    assert caplog.messages == []

    load_config(environ=KEY)
    assert ["another user" in message for message in caplog.messages] == [True] * warns
    assert CANARY not in caplog.text

    monkeypatch.setattr(os, "geteuid", lambda: owner)
    caplog.clear()
    load_config(environ=KEY)
    assert caplog.messages == []


def test_the_old_name_of_a_setting_leads_to_the_new_one() -> None:
    """A file for an earlier version is refused with the present name."""
    write("accounts = [{ sweep_every_days = 7 }]")

    assert problems(KEY) == [
        (
            "ometria.toml: accounts[0].sweep_every_days: is not a setting: it is now"
            " detect_deletes_every_days."
        )
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"[warehouse]\nurl = duckdb",
            "ometria.toml: line 2, column 7: this is not TOML: Invalid value.",
        ),
        (
            b'[[accounts]\napi_key = "canary5f3a9c7e"',
            (
                "ometria.toml: line 1, column 11: this is not TOML:"
                " Expected ']]' at the end of an array declaration."
            ),
        ),
        (
            b'key = ["canary5f3a9c7e"',
            "ometria.toml: end of document: this is not TOML: Unclosed array.",
        ),
        (b'url = "\xff"', "ometria.toml: byte 7: the file must be UTF-8."),
        (
            b"account_id = " + b"1" * 5000,
            "ometria.toml: holds a value that no setting can have, or is not a valid file name.",
        ),
    ],
)
def test_a_file_that_is_not_toml_is_told_with_its_place(content: bytes, message: str) -> None:
    """A syntax error names file, line and column, and does not repeat the line."""
    Path("ometria.toml").write_bytes(content)

    assert problems() == [message]


# --- Problems ----------------------------------------------------------------------------------


def test_every_problem_is_told_at_once_with_file_key_and_what_is_allowed() -> None:
    """One edit can fix them all; text values are not repeated."""
    write("""
        colour = "canary5f3a9c7e"
        [warehous]
        [warehouse]
        url = "canary5f3a9c7e"
        [[accounts]]
        account_id = ""
        source_id = "a\\nb"
        api_key = "canary5f3a9c7e"
        api_url = "http://api.ometria.com/v2"
        request_per_second = 4
        requests_per_second = 0
        changes_parameter = "since=canary5f3a9c7e"
        [[accounts]]
        account_id = true
        source_id = 1979-05-27
        api_url = "https://me:canary5f3a9c7e@api.ometria.com/v2"
        requests_per_second = "canary5f3a9c7e"
        [accounts.feed]
        url = "https://canary5f3a9c7e/bucket"
        endpoint_url = "store:9000"
        region = []
        access_key_id = "canary5f3a9c7e"
        profile = "shop"
        role_arn = "canary5f3a9c7e"
        format = "cvs"
        compression = 3
        delimiter = ", "
        header = "yes"
        encoding = "hex"
        quote = "''"
        escape = 1
        null = 0
        columns = ["uuid", ""]
        [[accounts]]
    """)

    assert problems() == [
        (
            "ometria.toml: colour: is not a setting;"
            " known are warehouse, accounts, tables, full_read_every_days, exclude, hash,"
            " normalise, retain, history, follow_erasures, keep_records, parallel_accounts,"
            " metrics, traces, lineage, log_format, notify."
        ),
        "ometria.toml: warehous: is not a setting; did you mean warehouse?",
        (
            "ometria.toml: warehouse.url: must be a URL such as duckdb:///warehouse.duckdb,"
            " or a path ending in .duckdb or .db."
        ),
        (
            "ometria.toml: accounts[0].request_per_second: is not a setting;"
            " did you mean requests_per_second?"
        ),
        "ometria.toml: accounts[0].account_id: must not be empty.",
        "ometria.toml: accounts[0].source_id: must not hold control characters or line breaks.",
        (
            "ometria.toml: accounts[0].api_key: a secret must not be written in the settings,"
            ' which are often shared; write "env:NAME" for a variable or "file:/path" for a file'
            " that holds it."
        ),
        (
            "ometria.toml: accounts[0].api_url: must be https: over http, the API key would be"
            " sent unencrypted (http is allowed for localhost)."
        ),
        "ometria.toml: accounts[0].requests_per_second: must be a number above 0 and at most 1000.",
        (
            "ometria.toml: accounts[0].changes_parameter: must be the name of a query parameter:"
            " letters, digits and _ . -."
        ),
        "ometria.toml: accounts[1].account_id: must be text, not a boolean.",
        "ometria.toml: accounts[1].source_id: must be text, not a date or time.",
        (
            "ometria.toml: accounts[1].api_url: must be a URL such as https://host/path, without"
            " user, password, query or fragment."
        ),
        "ometria.toml: accounts[1].requests_per_second: must be a number above 0 and at most 1000.",
        (
            "ometria.toml: accounts[1].feed.url: must be s3://bucket/prefix, file:///folder or the"
            " path of a folder."
        ),
        (
            "ometria.toml: accounts[1].feed.endpoint_url: must be a URL such as https://host/path,"
            " without user, password, query or fragment."
        ),
        "ometria.toml: accounts[1].feed.region: must be text, not a list.",
        (
            "ometria.toml: accounts[1].feed.access_key_id: a secret must not be written in the"
            ' settings, which are often shared; write "env:NAME" for a variable or "file:/path" for'
            " a file that holds it."
        ),
        (
            "ometria.toml: accounts[1].feed.role_arn: must be the role's ARN, such as"
            " arn:aws:iam::123456789012:role/reader."
        ),
        (
            "ometria.toml: accounts[1].feed.format: must be one of csv, jsonl, parquet;"
            " did you mean csv?"
        ),
        "ometria.toml: accounts[1].feed.compression: must be one of none, gzip, zstd, zip.",
        'ometria.toml: accounts[1].feed.delimiter: must be one character, or the word "tab".',
        "ometria.toml: accounts[1].feed.header: must be true or false, not text.",
        (
            "ometria.toml: accounts[1].feed.encoding: must be a known encoding, such as utf-8,"
            " utf-16 or latin-1."
        ),
        'ometria.toml: accounts[1].feed.quote: must be one character, or "" for none.',
        'ometria.toml: accounts[1].feed.escape: must be one character, or "" for none.',
        "ometria.toml: accounts[1].feed.null: must be text, not a number.",
        (
            "ometria.toml: accounts[1].feed.columns: must be a list of column names, each of them"
            " a text that is not empty."
        ),
        "ometria.toml: accounts[1].feed.secret_access_key: is missing: access_key_id needs it.",
        (
            "ometria.toml: accounts[1].feed.profile: cannot be combined with an access key:"
            " keep one of them."
        ),
        (
            "ometria.toml: accounts[2]: has neither an API key nor a feed;"
            " write api_key or feed.url here."
        ),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("accounts = 3", "accounts: must be a list of tables: write [[accounts]] above each."),
        (
            "[accounts]\naccount_id = 1",
            "accounts: must be a list of tables: write [[accounts]] above each.",
        ),
        ("accounts = [1]", "accounts[0]: must be a table, not a number."),
        ("warehouse = []", "warehouse: must be a table, not a list."),
        ("[[accounts]]\nfeed = 's3://b'", "accounts[0].feed: must be a table, not text."),
        (
            "[[accounts]]\n[accounts.feed]",
            (
                "accounts[0].feed.url: is missing; set OMETRIA_FEED_URL or write s3://bucket/prefix,"
                " file:///folder or a path."
            ),
        ),
        (
            "[[accounts]]\n[accounts.feed]\nurl = 'f'\nsession_token = 'env:OMETRIA_API_KEY'",
            (
                "accounts[0].feed.access_key_id: is missing: session_token needs it.\n"
                "ometria.toml: accounts[0].feed.secret_access_key: is missing:"
                " session_token needs it."
            ),
        ),
        (
            "[[accounts]]\nsource_id = 'env:SHOP'",
            (
                "accounts[0].source_id: must be the value itself: env: is for secrets and"
                " warehouse.url."
            ),
        ),
        (
            "'a key' = 1",
            (
                "'a key': is not a setting; known are warehouse, accounts, tables,"
                " full_read_every_days, exclude, hash, normalise, retain, history,"
                " follow_erasures, keep_records, parallel_accounts, metrics, traces, lineage,"
                " log_format, notify."
            ),
        ),
    ],
)
def test_a_table_in_the_wrong_shape_is_one_problem(content: str, message: str) -> None:
    """A problem that follows from another is not reported."""
    write(content)

    assert "\n".join(problems(KEY)) == f"ometria.toml: {message}"


def test_two_accounts_of_one_name_could_not_be_told_apart() -> None:
    """Each account has an account_id and a source_id of its own; defaults count too."""
    write("""
        [[accounts]]
        feed = { url = "a" }
        [[accounts]]
        feed = { url = "b" }
        [[accounts]]
        account_id = "third"
        source_id = "default"
        feed = { url = "c" }
    """)

    assert problems() == [
        (
            "ometria.toml: accounts[1].account_id: is the same as accounts[0].account_id;"
            " each account needs its own."
        ),
        (
            "ometria.toml: accounts[2].source_id: is the same as accounts[0].source_id;"
            " each account needs its own."
        ),
    ]


TWO_ACCOUNTS = """
    [[accounts]]
    account_id = "1"
    api_key = "env:{first}"
    [[accounts]]
    account_id = "2"
    api_key = "env:OMETRIA_US_KEY"
"""


def test_a_variable_that_could_mean_any_of_several_accounts_is_refused() -> None:
    """With several accounts, a variable for one is valid only if an account refers to it."""
    environ = KEY | {"OMETRIA_UK_KEY": "uk", "OMETRIA_US_KEY": "us", "OMETRIA_API_URL": "x"}
    write(TWO_ACCOUNTS.format(first="OMETRIA_UK_KEY"))

    assert problems(environ) == [
        (
            "OMETRIA_API_KEY: sets one account, but ometria.toml has 2; write"
            ' api_key = "env:OMETRIA_API_KEY" in the account that it is for, and unset the variable'
            " unless one refers to it."
        ),
        (
            "OMETRIA_API_URL: sets one account, but ometria.toml has 2; write api_url in the"
            " account that it is for, and unset the variable unless one refers to it."
        ),
    ]

    write(TWO_ACCOUNTS.format(first="OMETRIA_API_KEY"))
    first, second = load_config(environ=KEY | {"OMETRIA_US_KEY": "us"}).accounts

    assert first.api_key == Secret(CANARY, "env:OMETRIA_API_KEY")
    assert second.api_key == Secret("us", "env:OMETRIA_US_KEY")


def test_a_misspelt_variable_does_not_pass_silently(caplog: pytest.LogCaptureFixture) -> None:
    """A misspelt name is a problem; another name with this prefix may be another program's."""
    assert problems(KEY | {"OMETRIA_APIKEY": "x", "OMETRIA_REQUESTS_PER_SECONDS": "1"}) == [
        "OMETRIA_APIKEY: is not a setting; did you mean OMETRIA_API_KEY? Rename it, or unset it.",
        (
            "OMETRIA_REQUESTS_PER_SECONDS: is not a setting; did you mean"
            " OMETRIA_REQUESTS_PER_SECOND? Rename it, or unset it."
        ),
    ]

    with caplog.at_level(logging.WARNING):
        load_config(environ=KEY | {"OMETRIA_DASHBOARD": CANARY, "OMETRIA_KEY": CANARY})

    assert caplog.messages == [
        "OMETRIA_DASHBOARD is not a setting and is ignored",
        "OMETRIA_KEY is not a setting and is ignored; did you mean OMETRIA_API_KEY?",
    ]


@pytest.mark.parametrize("number", ["0", "-1", "nan", "inf", "1000.1", "four", "", "1e999"])
def test_the_pace_is_a_number_above_0_and_at_most_1000(number: str) -> None:
    """Texts, infinity and zero are refused, from the environment as from the file."""
    assert problems(KEY | {"OMETRIA_REQUESTS_PER_SECOND": number}) == [
        "OMETRIA_REQUESTS_PER_SECOND: must be a number above 0 and at most 1000."
    ]


@pytest.mark.parametrize("number", ["true", "-inf", "nan", "1" + "0" * 400, "0x" + "f" * 5000])
def test_the_pace_in_the_file_is_held_to_the_same_bounds(number: str) -> None:
    """TOML has booleans, infinity and huge integers; none of them is a rate."""
    write(f"[[accounts]]\nrequests_per_second = {number}")

    assert problems(KEY) == [
        "ometria.toml: accounts[0].requests_per_second: must be a number above 0 and at most 1000."
    ]


@pytest.mark.parametrize(
    "number", ["0", "999999", "-1", "true", "2.5e8", '"256 MB"', "0x" + "f" * 5000]
)
def test_max_answer_bytes_is_a_whole_number_that_fits_a_page(number: str) -> None:
    """A limit that could fit no page of the API is refused, and so is one beyond a terabyte."""
    write(f"[[accounts]]\nmax_answer_bytes = {number}")

    (problem,) = problems(KEY)

    assert problem.endswith(
        "max_answer_bytes: must be a whole number of bytes, from 1000000 to 1000000000000."
    )


@pytest.mark.parametrize("key", ["account_id", "api_url", "feed.format", "feed.delimiter"])
def test_a_number_too_long_to_write_out_is_refused_too(key: str) -> None:
    """Python reads hexadecimal numbers that it cannot print; this does not crash."""
    write(f"[[accounts]]\nfeed.url = 'x'\n{key} = 0x{'f' * 5000}")

    (problem,) = problems(KEY)

    assert problem.startswith(f"ometria.toml: accounts[0].{key}: ")


@pytest.mark.parametrize(
    "url",
    [
        "https://api.ometria.com/v2",
        "http://localhost:8080",
        "http://127.1.2.3/v2",
        "http://[::1]:8080/v2",
    ],
)
def test_the_key_is_sent_over_https_or_stays_on_the_machine(url: str) -> None:
    """Plain http is for loopback addresses; a slash at the end makes no difference."""
    assert load_config(environ=KEY | {"OMETRIA_API_URL": f"{url}/"}).accounts[0].api_url == url


@pytest.mark.parametrize(
    "url",
    [
        "api.ometria.com/v2",
        "ftp://api.ometria.com",
        "https://",
        "https://:443/v2",
        "https://host:port/",
        "https://[::1/",
        "https://host/v2?key=canary5f3a9c7e",
        "https://host/v2#canary5f3a9c7e",
        "https://canary5f3a9c7e@host/v2",
        "https://host/v 2",
    ],
)
def test_what_is_no_url_of_an_api_is_refused(url: str) -> None:
    """No credentials, no query, no fragment, a host, and http or https."""
    assert problems(KEY | {"OMETRIA_API_URL": url}) == [
        (
            "OMETRIA_API_URL: must be a URL such as https://host/path,"
            " without user, password, query or fragment."
        )
    ]


@pytest.mark.parametrize(
    "url", ["s3://bucket", "s3://bucket/a prefix/", "file:///exports", "exports", "/data/exports"]
)
def test_a_feed_is_a_bucket_or_a_folder(url: str) -> None:
    """S3 URLs, file URLs and paths are taken as they are."""
    feed = load_config(environ={"OMETRIA_FEED_URL": url}).accounts[0].feed

    assert feed is not None
    assert feed.url == url


@pytest.mark.parametrize(
    "url", ["s3:bucket", "gs://bucket", "file://", "file://host/exports", "http:bucket", ""]
)
def test_other_feeds_are_refused(url: str) -> None:
    """Other schemes, and URLs without a bucket or a folder, are refused."""
    (problem,) = problems({"OMETRIA_FEED_URL": url})

    assert problem.startswith("OMETRIA_FEED_URL: must ")


@pytest.mark.parametrize(
    ("given_url", "url"),
    [
        ("duckdb:///relative.duckdb", "duckdb:///relative.duckdb"),
        ("duckdb:////absolute.duckdb", "duckdb:////absolute.duckdb"),
        ("relative.duckdb", "duckdb:///relative.duckdb"),
        ("/absolute/shop.db", "duckdb:////absolute/shop.db"),
        ("postgresql://user@host:5432/shop", "postgresql://user@host:5432/shop"),
        ("snowflake://account/shop", "snowflake://account/shop"),
        ("postgresql://u@h1:5432,h2:5433/db", "postgresql://u@h1:5432,h2:5433/db"),
        ("postgresql://u@[::1]:1,[::2]/db?a=b@c", "postgresql://u@[::1]:1,[::2]/db?a=b@c"),
        ("postgresql:///db?host=/tmp", "postgresql:///db?host=/tmp"),
    ],
)
def test_a_warehouse_is_a_url_or_the_path_of_a_duckdb_file(given_url: str, url: str) -> None:
    """A path becomes a URL; the warehouse decides which schemes exist."""
    assert load_config(environ=KEY, warehouse_url=given_url).warehouse.url == url


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("duckdb://shop.duckdb", "needs three slashes and a path: duckdb:///warehouse.duckdb."),
        ("duckdb:///", "needs three slashes and a path: duckdb:///warehouse.duckdb."),
        (
            "shop.csv",
            "must be a URL such as duckdb:///warehouse.duckdb, or a path ending in .duckdb or .db.",
        ),
        (
            "postgresql://me:canary5f3a9c7e/x@host/shop",
            "is not a valid URL: percent-encode / ? # @ : in the password.",
        ),
        (
            "postgresql://me:canary5f3a@9c7e@host/shop",
            "has more than one @: write an @ of the user or the password as %40.",
        ),
        (
            "postgresql://me:canary5f3a@host:odd,host:2/shop",
            "is not a valid URL: percent-encode / ? # @ : in the password.",
        ),
    ],
)
def test_other_warehouses_are_refused(url: str, message: str) -> None:
    """A URL that cannot be read is refused, and not repeated."""
    assert problems(KEY | {"OMETRIA_WAREHOUSE_URL": url}) == [f"OMETRIA_WAREHOUSE_URL: {message}"]


# --- Secrets -----------------------------------------------------------------------------------


def test_a_secret_is_read_from_a_file_without_its_last_line_break(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """file:/path gives what the file holds, and its origin."""
    secret = write(f"{CANARY}\n", "key")
    secret.chmod(0o600)
    write(f'[[accounts]]\napi_key = "file:{secret.absolute()}"')

    assert load_config(environ={}).accounts[0].api_key == Secret(CANARY, f"file:{secret}")
    from_variable = load_config(environ={"OMETRIA_API_KEY": "file:key"}).accounts[0].api_key
    assert from_variable is not None
    assert from_variable.reveal() == CANARY
    assert from_variable.origin == "file:key"
    assert caplog.messages == []


@pytest.mark.skipif(os.name != "posix", reason="file modes are of POSIX systems")
def test_a_secret_that_everybody_can_read_brings_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The run continues, because some containers have no other mode."""
    write(CANARY, "key").chmod(0o644)

    config = load_config(environ={"OMETRIA_API_KEY": "file:key"})

    assert config.accounts[0].api_key == Secret(CANARY, "file:key")
    assert caplog.messages == ["key holds a secret and is readable by everyone: chmod 600 it"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("env:UK_KEY", "the environment variable UK_KEY is not set."),
        ("env:EMPTY", "the environment variable EMPTY is empty."),
        (
            "env:canary5f3a9c7e",
            "env: must be followed by a variable's name in capitals, digits and _.",
        ),
        ("file:none", "the file it names cannot be read: No such file or directory."),
        ("file:empty", "the file it names is empty."),
        ("file:binary", "the file it names does not hold text."),
        (
            "file:two-lines",
            (
                "must be printable ASCII without white space: it contains a line break, a space or"
                " another character."
            ),
        ),
        (
            "env:SPACED",
            (
                "must be printable ASCII without white space: it contains a line break, a space or"
                " another character."
            ),
        ),
        (
            "env:ACCENT",
            (
                "must be printable ASCII without white space: it contains a line break, a space or"
                " another character."
            ),
        ),
    ],
)
def test_a_secret_that_cannot_be_used_is_told_without_showing_it(value: str, message: str) -> None:
    """For a missing, empty or broken secret, the message names the place, never the value."""
    write("", "empty")
    write(f"{CANARY}\n{CANARY}\n", "two-lines")
    Path("binary").write_bytes(b"\xff\xfe" + CANARY.encode())
    write(f'[[accounts]]\napi_key = "{value}"')
    environ = {"EMPTY": "", "SPACED": f"{CANARY} ", "ACCENT": f"{CANARY}é"}

    assert problems(environ) == [f"ometria.toml: accounts[0].api_key: {message}"]


def test_a_password_of_the_warehouse_stays_out_of_the_file_and_the_command_line() -> None:
    """A URL with a password comes from the environment or its own file."""
    url = f"postgresql://me:{CANARY}@host/shop"
    elsewhere = (
        "warehouse.url: a password must not be written here, where others can read it; write"
        ' "env:NAME" for a variable or "file:/path" for a file that holds the URL.'
    )
    assert problems(KEY, warehouse_url=url) == [f"command line: {elsewhere}"]

    write(f'[warehouse]\nurl = "{url}"')
    assert problems(KEY) == [f"ometria.toml: {elsewhere}"]

    assert load_config(environ=KEY | {"OMETRIA_WAREHOUSE_URL": url}).warehouse.url == url
    write('[warehouse]\nurl = "env:PG_URL"')
    assert load_config(environ=KEY | {"PG_URL": url}).warehouse.url == url
    write(f"{url}\n", "pg")
    assert load_config(environ=KEY, warehouse_url="file:pg").warehouse.url == url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:pw@host:5432/shop", "postgresql://me:***@host:5432/shop"),
        ("postgresql://me:p/w@x@host/shop", "postgresql://me:***@host/shop"),
        ("postgresql://me@host/shop", "postgresql://me@host/shop"),
        ("postgresql://host:5432/shop", "postgresql://host:5432/shop"),
        (
            "postgresql:///shop?user=me&password=pw&x=1",
            "postgresql:///shop?user=me&password=***&x=1",
        ),
        ("md:shop?motherduck_token=pw", "md:shop?motherduck_token=***"),
        (
            "iceberg://shop?header.Authorization=Bearer%20pw&adls.connection-string=pw",
            "iceberg://shop?header.Authorization=***&adls.connection-string=***",
        ),
    ],
)
def test_a_password_inside_a_url_is_masked(url: str, shown: str) -> None:
    """User, host and database stay readable."""
    assert masked(url) == shown


def test_no_way_to_show_the_settings_shows_a_secret() -> None:
    """Printing, formatting, comparing and explaining show only the origin of a secret."""
    config = load_config(
        environ=KEY | {"OMETRIA_WAREHOUSE_URL": f"postgresql://me:{CANARY}@host/shop"}
    )
    key = config.accounts[0].api_key
    assert key is not None

    assert key.reveal() == CANARY
    assert f"{key} {key!r} {str(key)!s}" == " ".join(["Secret(env:OMETRIA_API_KEY)"] * 3)
    assert repr(config.warehouse) == "WarehouseSettings(url='postgresql://me:***@host/shop')"
    as_dict = dataclasses.asdict(config.accounts[0])
    for shown in (repr(config), str(config), str(as_dict), json.dumps(as_dict, default=str)):
        assert CANARY not in shown
    assert CANARY not in str(explain(config))


# --- Explaining --------------------------------------------------------------------------------


def test_each_setting_is_explained_with_its_origin() -> None:
    """One line for each setting: key, shown value and origin."""
    path = write("""
        [[accounts]]
        account_id = "1042"
        api_key = "env:OMETRIA_API_KEY"
        requests_per_second = 2
        [accounts.feed]
        url = "s3://acme/"
        delimiter = "tab"
        header = true
        columns = ["uuid", "event_type"]
    """)
    environ = KEY | {
        "OMETRIA_SOURCE_ID": "uk",
        "AWS_ENDPOINT_URL": "http://store:9000",
        "AWS_ACCESS_KEY_ID": CANARY,
        "AWS_DEFAULT_REGION": "eu-west-1",
    }

    assert explain(load_config(path, environ, "cli.duckdb")) == [
        ("parallel_accounts", "8", "default"),
        ("metrics", "not set", "default"),
        ("traces", "false", "default"),
        ("lineage", "false", "default"),
        ("log_format", "text", "default"),
        ("notify", "not set", "default"),
        ("warehouse.url", "duckdb:///cli.duckdb", "command line"),
        ("warehouse.duckdb_storage_version", "v1.4.0", "default"),
        ("warehouse.memory_limit", "not set", "default"),
        ("warehouse.threads", "not set", "default"),
        ("warehouse.temp_directory", "not set", "default"),
        ("accounts[0].account_id", "1042", "ometria.toml"),
        ("accounts[0].source_id", "uk", "env:OMETRIA_SOURCE_ID"),
        ("accounts[0].api_key", "set", "env:OMETRIA_API_KEY"),
        ("accounts[0].api_url", "https://api.ometria.com/v2", "default"),
        ("accounts[0].requests_per_second", "2", "ometria.toml"),
        ("accounts[0].max_answer_bytes", "64000000", "default"),
        ("accounts[0].changes_parameter", "since", "default"),
        ("accounts[0].wide_keys", "false", "default"),
        ("accounts[0].deletes", "report", "default"),
        ("accounts[0].max_deleted_share", "0.1", "default"),
        ("accounts[0].detect_deletes_every_days", "not set", "default"),
        ("accounts[0].tables", "not set", "default"),
        ("accounts[0].full_read_every_days", "7", "default"),
        ("accounts[0].require", "none", "default"),
        ("accounts[0].exclude", "none", "default"),
        ("accounts[0].hash", "none", "default"),
        ("accounts[0].hash_key", "not set", "default"),
        ("accounts[0].normalise", "true", "default"),
        ("accounts[0].retain", "none", "default"),
        ("accounts[0].history", "none", "default"),
        ("accounts[0].follow_erasures", "false", "default"),
        ("accounts[0].keep_records", "none", "default"),
        ("accounts[0].feed.url", "s3://acme/", "ometria.toml"),
        ("accounts[0].feed.endpoint_url", "left to AWS", "env:AWS_ENDPOINT_URL"),
        ("accounts[0].feed.region", "left to AWS", "env:AWS_DEFAULT_REGION"),
        ("accounts[0].feed.access_key_id", "left to AWS", "env:AWS_ACCESS_KEY_ID"),
        ("accounts[0].feed.secret_access_key", "not set", "default"),
        ("accounts[0].feed.session_token", "not set", "default"),
        ("accounts[0].feed.profile", "not set", "default"),
        ("accounts[0].feed.role_arn", "not set", "default"),
        ("accounts[0].feed.settle_seconds", "not set", "default"),
        ("accounts[0].feed.follow_symlinks", "false", "default"),
        ("accounts[0].feed.pattern", "not set", "default"),
        ("accounts[0].feed.format", "not set", "default"),
        ("accounts[0].feed.compression", "not set", "default"),
        ("accounts[0].feed.delimiter", "'\\t'", "ometria.toml"),
        ("accounts[0].feed.header", "true", "ometria.toml"),
        ("accounts[0].feed.encoding", "not set", "default"),
        ("accounts[0].feed.quote", "not set", "default"),
        ("accounts[0].feed.escape", "not set", "default"),
        ("accounts[0].feed.null", "not set", "default"),
        ("accounts[0].feed.columns", "uuid, event_type", "ometria.toml"),
        ("accounts[0].feed.max_file_bytes", "21474836480", "default"),
        ("accounts[0].feed.max_record_bytes", "16777216", "default"),
    ]


def test_an_account_without_a_feed_is_explained_in_a_line() -> None:
    """A feed that is not there has no settings to list, and a default explains itself."""
    lines = explain(Config(accounts=(AccountSettings(),)))

    assert lines[-1] == ("accounts[0].feed", "not set", "default")
    assert ("accounts[0].api_key", "not set", "default") in lines


def test_credentials_of_the_feed_hide_those_of_the_environment() -> None:
    """With a profile of its own, the feed does not use the access key in the environment."""
    write('[[accounts]]\nfeed = { url = "s3://acme/", profile = "shop" }')

    origins = {key: origin for key, _, origin in explain(load_config(environ=AWS))}

    assert origins["accounts[0].feed.access_key_id"] == "default"
    assert origins["accounts[0].feed.region"] == "env:AWS_REGION"


AWS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "eu-west-1"}


# --- Columns of people's data ------------------------------------------------------------------


def test_columns_can_be_excluded_and_hashed_for_all_accounts() -> None:
    """Above [[accounts]]; an account adds to the lists, and may say `normalise` for itself."""
    path = write("""
        exclude = ["*.gender"]
        hash = ["*.email"]
        normalise = false
        [[accounts]]
        account_id = "uk"
        api_key = "env:UK_KEY"
        hash_key = "env:UK_SECRET"
        hash = ["profiles.phone_number", "*.email"]
        [[accounts]]
        account_id = "fr"
        api_key = "env:UK_KEY"
        hash_key = "file:secret"
        normalise = true
    """)
    write(f"{CANARY}-of-French\n", "secret").chmod(0o600)
    config = load_config(path, {"UK_KEY": CANARY, "UK_SECRET": f"{CANARY}-of-Britain"})

    uk, fr = config.accounts
    assert (uk.exclude, fr.exclude) == (("*.gender",), ("*.gender",))
    assert uk.hash == ("*.email", "profiles.phone_number")
    assert fr.hash == ("*.email",)
    assert (uk.normalise, fr.normalise) == (False, True)
    assert uk.hash_key is not None
    assert fr.hash_key is not None
    assert (uk.hash_key.reveal(), fr.hash_key.reveal()) == (
        f"{CANARY}-of-Britain",
        f"{CANARY}-of-French",
    )
    shown = {key: (value, origin) for key, value, origin in explain(config)}
    assert shown["accounts[0].exclude"] == ("*.gender", "ometria.toml")
    assert shown["accounts[1].hash"] == ("*.email", "ometria.toml")
    assert shown["accounts[0].hash_key"] == ("set", "env:UK_SECRET")
    assert shown["accounts[1].hash_key"] == ("set", "file:secret")
    assert CANARY not in str(shown)


def test_columns_can_be_excluded_and_hashed_in_the_environment() -> None:
    """With commas between them."""
    variables = {
        "OMETRIA_EXCLUDE": "profiles.gender, *.phone_number",
        "OMETRIA_HASH": "*.email",
        "OMETRIA_HASH_KEY": CANARY * 2,
    }
    (account,) = load_config(environ=KEY | variables).accounts
    assert account.exclude == ("profiles.gender", "*.phone_number")
    assert account.hash == ("*.email",)
    assert account.hash_key == Secret(CANARY * 2, "env:OMETRIA_HASH_KEY")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('hash_key = "canary5f3a9c7e-in-the-file"', "accounts[0].hash_key: "),
        ('hash_key = "env:SHORT"', "accounts[0].hash_key: must have at least 16 characters"),
        ('exclude = "profiles.email"', ""),
        ('exclude = ["email"]', "accounts[0].exclude: must be a list of columns, such as"),
        ('hash = ["profiles.*"]', "accounts[0].hash: must be a list of columns, such as"),
        ("hash = [1]", "accounts[0].hash: must be a list of columns, such as"),
        ('normalise = "yes"', "accounts[0].normalise: must be true or false"),
    ],
)
def test_other_settings_of_columns_are_refused(text: str, problem: str) -> None:
    """The message quotes no secret, and a secret does not stand in the file."""
    write(f'[[accounts]]\napi_key = "env:KEY"\n{text}')
    environ = {"KEY": CANARY, "SHORT": CANARY}
    if not problem:
        (account,) = load_config(environ=environ).accounts
        assert account.exclude == ("profiles.email",)
        return
    (found,) = problems(environ)
    assert found.startswith(f"ometria.toml: {problem}")


# --- Any junk ----------------------------------------------------------------------------------

KEYS = sorted(
    {"warehouse", "accounts", "feed", "x"}
    | {
        key
        for kind in (AccountSettings, FeedSettings, WarehouseSettings)
        for key in settings_of(kind)
    }
)
TEXTS = st.sampled_from(
    [
        CANARY,
        f"https://{CANARY}@host/",
        f"s3://{CANARY}:{CANARY}@b/",
        f"postgresql://me:{CANARY}@host/x",
        f"env:{CANARY}",
        f"file:/none/{CANARY}",
        "env:SECRET",
        "file:.",
        "file:\x00",
        "s3://[",
        "",
    ]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = TEXTS | st.booleans() | st.integers() | st.floats() | st.dates() | st.datetimes()
JUNK = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
    ),
    max_leaves=20,
)
DOCUMENTS = st.dictionaries(
    st.sampled_from(KEYS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    JUNK,
    max_size=4,
)
ENVIRONMENTS = st.dictionaries(
    st.sampled_from(
        [*(sorted({*VARIABLES} - {"OMETRIA_CONFIG"})), "OMETRIA_X", "SECRET", "AWS_PROFILE"]
    ),
    TEXTS,
    max_size=5,
)


def to_toml(value: object) -> str:
    """Write any value as TOML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{to_toml(k)} = {to_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    return str(value.isoformat())  # type: ignore[attr-defined]


def load_or_refuse(path: Path | None, environ: dict[str, str]) -> Config | str:
    try:
        return load_config(path, environ)
    except ConfigError as error:
        return str(error)


@example({"accounts": [{"api_key": CANARY, "feed": {"compression": CANARY}}]}, {})
@example({}, {"OMETRIA_CONFIG": "\x00"})
@example({}, {"OMETRIA_THREADS": "2\x1f"})
@example({"accounts": [[]], "warehouse": {"url": {}}}, {"OMETRIA_API_KEY": "file:"})
@settings(deadline=None)  # It writes files; a busy disk must not fail it.
@given(DOCUMENTS, ENVIRONMENTS)
def test_junk_is_refused_with_one_kind_of_error_that_echoes_no_secret(
    document: dict[str, object], environ: dict[str, str]
) -> None:
    """Any file and environment give settings or a ConfigError, and no other error."""
    text = "\n".join(f"{to_toml(key)} = {to_toml(value)}" for key, value in document.items())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ometria.toml"
        path.write_bytes(text.encode())
        named = None if "OMETRIA_CONFIG" in environ else path
        outcome = load_or_refuse(named, environ)
    if isinstance(outcome, Config):
        assert all(account.api_key or account.feed for account in outcome.accounts)
        shown = [value for _, value, _ in explain(outcome)]
        assert not any(f":{CANARY}@" in value for value in shown)
    else:
        assert "not TOML" not in outcome
        assert CANARY not in outcome


# --- The page ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False)])
def test_a_switch_in_the_environment_is_a_word(text: str, value: bool) -> None:
    """In the file, it is true or false without quotes, or with them."""
    config = load_config(None, KEY | {"OMETRIA_TRACES": text, "OMETRIA_LINEAGE": text})

    assert (config.traces, config.lineage) == (value, value)


def test_a_switch_is_nothing_else() -> None:
    """A number of the shell is refused, rather than taken for false."""
    with pytest.raises(ConfigError, match="OMETRIA_TRACES: must be true or false, not text"):
        load_config(None, KEY | {"OMETRIA_TRACES": "1"})


def test_the_page_of_settings_is_made_from_the_settings() -> None:
    """docs/reference/settings.md equals settings_page(); run `make docs` after a change."""
    assert PAGE.read_text(encoding="utf-8") == settings_page()


def test_the_examples_of_the_page_can_be_loaded() -> None:
    """Every TOML block on the page is a whole file that works."""
    Path("secret").write_text(CANARY, encoding="utf-8")
    blocks = [block.split("```")[0] for block in settings_page().split("```toml\n")[1:]]
    environ = {"OMETRIA_UK_KEY": "uk"}

    for block, more in zip(blocks, (KEY, {}), strict=True):
        here = write(block.replace("/run/secrets/ometria-us", "secret"), "example.toml")
        assert load_config(here, environ | more if more else environ).accounts[0].api_key


def test_every_variable_is_on_the_page() -> None:
    """The page lists every variable that is read."""
    assert [name for name in VARIABLES if f"`{name}`" not in settings_page()] == []


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("true", ("*",)),
        ("false", ()),
        ('["profiles", "lists"]', ("profiles", "lists")),
        ('"profiles, lists"', ("profiles", "lists")),
        ("[]", ()),
    ],
)
def test_records_are_kept_of_all_tables_or_of_some(
    tmp_path: Path, written: str, kept: tuple[str, ...]
) -> None:
    path = tmp_path / "ometria.toml"
    path.write_text(f'[[accounts]]\napi_key = "env:A_KEY"\nkeep_records = {written}\n')

    config = load_config(path, {"A_KEY": "a-key"})

    assert config.accounts[0].keep_records == kept
