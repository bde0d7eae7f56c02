"""Options are spelled and read alike in all commands."""

from __future__ import annotations

import re
import time
from datetime import UTC, date, datetime, timedelta

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from scripts import reference

from ometria_replica.cli.options import RENAMED, age, day
from ometria_replica.nearest import did_you_mean, nearest
from tests.e2e.program import invoke

COMMANDS = {
    name: command
    for name, command in reference.commands().items()
    if not hasattr(command, "commands")
}
LATE = datetime(2026, 11, 24, 23, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-11-01", date(2026, 11, 1)),
        ("today", date(2026, 11, 24)),
        ("yesterday", date(2026, 11, 23)),
        ("0d", date(2026, 11, 24)),
        ("7d", date(2026, 11, 17)),
        ("365d", date(2025, 11, 24)),
    ],
)
def test_a_day_is_a_date_or_counted_back_from_today_in_utc(text: str, meant: date) -> None:
    """Today is the day in UTC, up to its last minute."""
    assert day(text, clock=lambda: LATE) == meant


@given(st.integers(0, 700_000))
def test_days_ago_are_counted_one_by_one(number: int) -> None:
    """Also over leap years, and back to the first day of the calendar."""
    assert LATE.date() - day(f"{number}d", clock=lambda: LATE) == timedelta(days=number)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Today",
        "tomorrow",
        "7",
        "7 d",
        "-7d",
        "7h",
        "\u0667d",
        "999999d",
        "9999999d",
        "2026-W01-1",
    ],
)
def test_another_text_is_no_day(text: str) -> None:
    """The message has the text and the forms that there are."""
    with pytest.raises(
        typer.BadParameter, match="is not a day, such as 2026-01-31, yesterday or 7d"
    ):
        day(text, clock=lambda: LATE)


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_today_is_that_of_utc_wherever_the_machine_is(
    zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of these zones, 25 hours apart, is always in another day."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        before = datetime.now(UTC).date()
        assert before <= day("today") <= datetime.now(UTC).date()
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("text", "meant"),
    [("90m", timedelta(minutes=90)), ("26h", timedelta(hours=26)), ("2d", timedelta(days=2))],
)
def test_an_age_has_a_unit(text: str, meant: timedelta) -> None:
    """Minutes, hours or days."""
    assert age(text) == meant


def test_no_command_has_the_old_name_of_an_option() -> None:
    """And a command has at most one of the present names, which the message then names."""
    for command in COMMANDS.values():
        options = {option for each in command.params for option in each.opts}

        assert not options & {name for name in RENAMED if name != "--file"}
        assert all(len(options & {*now}) < 2 or old == "--to" for old, now in RENAMED.items())


def test_an_option_is_written_alike_in_each_command() -> None:
    """
    It takes the same kind of value everywhere, and one that is everywhere has one help text.

    But for `--exclude`, dbt's own word for models.
    """
    metavars: dict[str, set[str | None]] = {}
    helps: dict[str, set[str]] = {}
    for command in COMMANDS.values():
        for each in command.params:
            metavars.setdefault(each.opts[0], set()).add(each.metavar)
            helps.setdefault(each.opts[0], set()).add(getattr(each, "help", ""))

    assert {name: many for name, many in metavars.items() if len(many) > 1} == {
        "--exclude": {"COLUMN,…", "MODEL"}
    }
    for name in ("--account", "--verbose"):
        assert len(helps[name]) == 1


def test_tables_are_arguments_in_each_command() -> None:
    """Where one is needed, several may be named. Only `init` has an option: for a setting."""
    for name, command in COMMANDS.items():
        for each in command.params:
            assert "table" not in each.opts[0] or each.opts == ["tables"] or name == "init"
            assert each.opts != ["tables"] or (each.nargs, each.metavar) == (-1, "TABLE"), name


def test_what_follows_two_dashes_is_no_option() -> None:
    """A table may be called as it likes, and the message is that of an unknown table."""
    result = invoke("tables", "--", "--table", env={})

    assert str(result.exception).startswith("There is no table '--table'")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tables", "profilse"), "There is no table 'profilse'; did you mean profiles?"),
        (("tables", "ometria.lsits"), "There is no table 'ometria.lsits'; did you mean lists?"),
        (
            ("tables", "--for", "postgres"),
            "There is no SQL for 'postgres'; did you mean postgresql?",
        ),
    ],
)
def test_a_name_with_a_slip_is_answered_with_the_nearest(
    arguments: tuple[str, ...], message: str
) -> None:
    """Tables, with their schema too, and warehouses."""
    assert str(invoke(*arguments, env={}).exception) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tables", "--format", "jsn"), "There is no 'jsn'; did you mean json?"),
        (
            ("query", "SELECT 1", "--format", "x"),
            "There is no 'x'; there are table, csv, json, jsonl.",
        ),
        (("sync", "--log-format", "jason"), "There is no 'jason'; did you mean json?"),
        (("tables", "--format", "sql", "--json"), "--format and --json exclude each other."),
        (("stauts",), "No such command 'stauts'. Did you mean 'status'"),
        (("sync", "--sicne", "7d"), "--since"),
    ],
)
def test_a_slip_in_the_command_line_is_answered_too(
    arguments: tuple[str, ...], message: str
) -> None:
    """Formats, commands and options: exit 2, and nothing on standard output."""
    result = invoke(*arguments, env={})

    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


@given(st.sampled_from(sorted(COMMANDS)), st.data())
def test_a_name_is_found_with_one_letter_left_out(name: str, data: st.DataObject) -> None:
    """And in any case; a name that is like none has no nearest."""
    place = data.draw(st.integers(0, len(name) - 1))
    wrong = name[:place] + name[place + 1 :]

    assert nearest(wrong.upper(), [name, "zzzzzzzz"]) == name
    assert did_you_mean("qqqqqqqq", COMMANDS) == ""


def test_several_tables_are_described_in_full() -> None:
    """In the order in which they are named, each once."""
    text = invoke("tables", "lists", "ometria.profiles", "lists", env={}).stdout

    assert re.findall(r"^ometria\.\w+", text, re.MULTILINE) == ["ometria.lists", "ometria.profiles"]
    both = invoke("tables", "profiles", "ometria_history.profiles", "--format", "sql", env={})
    assert "Describe them one at a time." in str(both.exception)
