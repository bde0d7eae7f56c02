"""The texts that `init` writes, and how it writes them."""

from __future__ import annotations

import re
import subprocess
import threading
import tomllib
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ometria_replica.catalog import CATALOG
from ometria_replica.config import load_config
from ometria_replica.config.setting import settings_of
from ometria_replica.errors import ConfigError
from ometria_replica.init.choices_for_ever import private_columns
from ometria_replica.init.draft import Draft
from ometria_replica.init.environment_text import (
    added_environment,
    load_command,
    new_environment,
    variables_in,
)
from ometria_replica.init.files import Files
from ometria_replica.init.prompts import Unattended
from ometria_replica.init.questions import WAREHOUSE, Answer
from ometria_replica.init.sample import MASK, masked_cell
from ometria_replica.init.session import Session
from ometria_replica.init.settings_text import OFFERED, added_account, new_file
from ometria_replica.run_checks import problems_of
from ometria_replica.tables import TABLES

TODAY = date(2026, 11, 30)
DRAFT = Draft(
    account={"account_id": "uk", "api_key": "env:A_KEY"},
    feed={"url": "s3://bucket/prefix"},
    warehouse={"url": "duckdb:///w.duckdb"},
)
PATH = Path("ometria.env")
SECRETS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1)
NAMES = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1)


@pytest.mark.parametrize("has_feed", [True, False])
def test_every_setting_that_a_file_offers_can_be_set(tmp_path: Path, has_feed: bool) -> None:
    """Without the # before them, all lines together are settings that are taken."""
    path = tmp_path / "ometria.toml"
    draft = DRAFT if has_feed else Draft(DRAFT.account, {}, DRAFT.warehouse)
    text = new_file(draft, TODAY)
    path.write_text(re.sub(r"^#(?=[\[a-z])", "", text, flags=re.MULTILINE))

    config = load_config(path, {"A_KEY": "a-key", "OMETRIA_NOTIFY": "https://example.com/x"})

    shown = tomllib.loads(path.read_text())
    (account,) = shown["accounts"]
    sections = (shown, shown["warehouse"], account, account["feed"])
    for kind, section in zip(OFFERED, sections, strict=True):
        offered = OFFERED[kind] if has_feed or "pattern" not in OFFERED[kind] else ("url",)
        assert {*offered} <= section.keys()
        assert {*offered} <= settings_of(kind).keys()
    assert config.accounts[0].feed


def test_a_new_file_sets_only_what_was_chosen() -> None:
    """The rest of it is comments."""
    assert tomllib.loads(new_file(DRAFT, TODAY)) == DRAFT.document()


@given(NAMES, NAMES)
def test_any_name_can_be_written(name: str, url: str) -> None:
    """Quotes, backslashes and brackets of a name end nothing, in a new file and in an added one."""
    draft = DRAFT.with_account(account_id=name, source_id=f'"]{name}').with_feed(url=url)
    text = new_file(draft, TODAY)
    other = Draft(draft.account, draft.feed, before=draft.document())

    assert tomllib.loads(text) == draft.document()
    assert tomllib.loads(added_account(text, other, TODAY)) == other.document()


@given(st.lists(SECRETS, min_size=1, max_size=3))
def test_the_variables_of_an_environment_file_are_read_as_written(values: list[str]) -> None:
    """Also those that were added behind them."""
    secrets = {f"A_{number}": value for number, value in enumerate(values)}
    text = new_environment(secrets, PATH)

    assert variables_in(text, PATH) == secrets
    assert variables_in(added_environment(text, {"LAST": "x"}), PATH) == {**secrets, "LAST": "x"}


def test_a_shell_reads_an_environment_file_as_written(tmp_path: Path) -> None:
    """No sign of a value is expanded, in a file of any name."""
    signs = "".join(map(chr, range(0x21, 0x7F)))
    secrets = {"ALL": signs, "HOME_": "~/x:~", "RUN": "$(id)`id`", "URL": "pg://a:b%40@h/d?x=1&y=2"}
    path = tmp_path / "my 'env' $x"
    path.write_text(new_environment(secrets, path))

    shown = "; ".join(f'printf "%s\\n" "${name}"' for name in secrets)
    ran = subprocess.run(
        ["sh", "-c", f"{load_command(path)}; {shown}"], capture_output=True, text=True, check=True
    )

    assert ran.stdout.splitlines() == [*secrets.values()]


@pytest.mark.parametrize("before", [None, "before"])
def test_of_runs_at_once_one_writes_both_files(tmp_path: Path, before: str | None) -> None:
    """The others are refused, and leave nothing behind: new files, and files that are changed."""
    files = Files(tmp_path / "ometria.toml", tmp_path / "ometria.env")
    if before is not None:
        files.create(before, before)
    outcomes: list[int | ConfigError] = []
    start = threading.Barrier(8)

    def write(number: int) -> None:
        start.wait()
        try:
            if before is None:
                files.create(f"{number}", f"{number}")
            else:
                files.change(before, f"{number}", f"{number}")
            outcomes.append(number)
        except ConfigError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(outcomes) == len(threads)
    (winner,) = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "ometria.toml": f"{winner}",
        "ometria.env": f"{winner}",
    }


def test_secrets_are_not_left_alone(tmp_path: Path) -> None:
    """If the settings file has appeared meanwhile, the environment file is removed again."""
    files = Files(tmp_path / "ometria.toml", tmp_path / "ometria.env")
    files.settings.write_text("mine")

    with pytest.raises(ConfigError, match=r"ometria\.toml has appeared meanwhile"):
        files.create("ours", "A_KEY=x")

    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_a_file_that_has_changed_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    """Neither is the environment file."""
    files = Files(tmp_path / "ometria.toml", tmp_path / "ometria.env")
    files.settings.write_text("mine, edited")

    with pytest.raises(ConfigError, match="has changed meanwhile"):
        files.change("mine", "ours", "A_KEY=x")

    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine, edited"]


@pytest.mark.parametrize("kept", [None, "A=a\n"])
def test_accounts_and_their_secrets_are_added_together_or_not(
    tmp_path: Path, kept: str | None
) -> None:
    """If the settings file cannot be replaced, the environment file is as before."""
    files = Files(tmp_path / "none" / "ometria.toml", tmp_path / "ometria.env")
    files.settings.parent.mkdir()
    files.settings.write_text("mine")
    if kept is not None:
        files.environment.write_text(kept)

    with pytest.raises(UnicodeEncodeError):
        files.change("mine", "\ud800", "A=a\nB=b\n")

    assert [path.read_text() for path in files.settings.parent.iterdir()] == ["mine"]
    assert [path.read_text() for path in tmp_path.glob("ometria.env")] == ([kept] if kept else [])
    files.change("mine", "ours", "A=a\nB=b\n")
    assert files.settings.read_text() == "ours"
    assert files.environment.read_text() == "A=a\nB=b\n"


def test_a_password_that_was_given_is_not_shown() -> None:
    """A person sees the answers that a variable gave, without the password in one."""
    shown: list[str] = []
    url = "postgresql://me:secret@db/shop"
    answers = {WAREHOUSE: Answer(url, "OMETRIA_WAREHOUSE_URL")}
    session = Session(answers, Unattended(shown.append, is_attended=True), {}, PATH)

    assert session.ask(WAREHOUSE) == url
    assert shown == ["\nWarehouse: postgresql://me:***@db/shop (OMETRIA_WAREHOUSE_URL)"]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_no_value_of_a_person_is_shown(table: object) -> None:
    """Of each column that the catalog calls personal, and of any text with an address."""
    for column in table.columns:  # type: ignore[attr-defined] # A table.
        hidden = column.is_personal or column.quotes
        assert masked_cell(column, "Ann") == (MASK if hidden else "Ann")
        assert masked_cell(column, "of ann@example.com") == MASK
        assert masked_cell(column, "ann%40example.com") == MASK
        assert masked_cell(column, None) == "-"


def test_the_columns_that_name_people_can_be_hidden(tmp_path: Path) -> None:
    """In all tables at once: nothing that `init` proposes is refused."""
    catalog = CATALOG.every
    hashed, excluded = private_columns(catalog)
    path = tmp_path / "ometria.toml"
    draft = DRAFT.with_account(
        tables="all", hash=hashed, exclude=excluded, hash_key="env:A_HASH_KEY"
    )
    path.write_text(new_file(draft, TODAY))

    (account,) = load_config(path, {"A_KEY": "a-key", "A_HASH_KEY": "x" * 16}).accounts

    assert {"profiles.phone_number", "contacts.phone_number"} <= {*excluded}
    assert [*problems_of(account, CATALOG.of([account]))] == []
