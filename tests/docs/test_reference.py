"""The docs cover every command, setting, table and error, and name no others."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import signal
import tomllib
from typing import TYPE_CHECKING, Any, get_args
from xml.etree import ElementTree as ET

import pytest
from scripts import diagram, reference

from ometria_replica import errors
from ometria_replica.config import AccountSettings, Config, FeedSettings, WarehouseSettings
from ometria_replica.config.schema import VARIABLES
from ometria_replica.config.setting import settings_of
from ometria_replica.doctor.findings import Code
from ometria_replica.errors import ReplicaError
from ometria_replica.schema import STATE_SCHEMA
from ometria_replica.tables import TABLES
from ometria_replica.warehouse import SCHEMES
from ometria_replica.warehouse.state_tables import STATE_TABLES

from .pages import DOCS, ROOT, read, written_by_hand

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = reference.commands()
EXTRAS = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]["optional-dependencies"]
CLOUDS = [
    scheme
    for scheme, known in SCHEMES.items()
    if "dlt_destinations" in known.module and not scheme.startswith("dlt+")
]
ERRORS = [
    error
    for _, error in inspect.getmembers(errors, inspect.isclass)
    if issubclass(error, ReplicaError)
]


def test_the_pages_made_from_the_program_are_current() -> None:
    """`make docs` would write the same pages again."""
    assert reference.stale() == []


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_told_of_by_hand_too(name: str) -> None:
    """A page written by hand describes each command."""
    assert f"ometria-replica {name}" in written_by_hand()


@pytest.mark.parametrize("name", COMMANDS)
def test_each_option_is_in_the_reference(name: str) -> None:
    """The reference shows each option of each command."""
    page = read(DOCS / "reference" / "commands.md")
    section = page.partition(f"## `ometria-replica {name}`\n")[2].partition("\n## ")[0]
    options = [
        option
        for parameter in COMMANDS[name].params
        for option in parameter.opts
        if option.startswith("--")
    ]

    assert section
    assert [option for option in options if option not in section] == []


def test_each_test_of_check_is_on_its_page() -> None:
    """Scripts find there what a code means."""
    page = read(DOCS / "how-to" / "check.md").partition("\n## What is tested\n")[2]
    cells = re.findall(r"^\| (`.*?) \|", page.partition("\n## ")[0], re.MULTILINE)

    assert [name for cell in cells for name in re.findall(r"`(.+?)`", cell)] == [*get_args(Code)]


@pytest.mark.parametrize("kind", [Config, WarehouseSettings, AccountSettings, FeedSettings])
def test_each_setting_is_in_the_reference(kind: type) -> None:
    """The page of settings has each key."""
    page = read(DOCS / "reference" / "settings.md")

    assert [name for name in settings_of(kind) if f"`{name}`" not in page] == []


@pytest.mark.parametrize("kind", [Config, WarehouseSettings, AccountSettings, FeedSettings])
def test_each_default_is_in_the_reference(kind: type) -> None:
    """A number and a boolean too; a setting without a default says what happens then."""
    page = read(DOCS / "reference" / "settings.md")
    defaults = {
        field.name: json.dumps(field.default)
        if isinstance(field.default, bool)
        else f"{field.default:g}"
        if isinstance(field.default, float)
        else f"{field.default}"
        for field in dataclasses.fields(kind)
        if isinstance(field.default, (bool, int, float, str)) and field.default != ""
    }

    assert [
        name
        for name, value in defaults.items()
        if not re.search(rf"^\| `{name}` \|.*\| `{re.escape(value)}` \|", page, re.MULTILINE)
    ] == []


def test_each_variable_is_in_the_reference() -> None:
    """The page of settings has each environment variable."""
    page = read(DOCS / "reference" / "settings.md")

    assert [name for name in VARIABLES if f"`{name}`" not in page] == []


def test_the_dialect_of_the_feed_is_told_setting_by_setting() -> None:
    """The page on buckets names each setting of the feed, not only the reference."""
    page = read(DOCS / "how-to" / "your-bucket.md")

    assert [name for name in settings_of(FeedSettings) if name not in page] == []


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_each_table_is_in_the_readme_and_in_a_query(table: Any) -> None:
    """The README names all five, and the page of queries has one for each."""
    assert f"`ometria.{table.name}`" in read(ROOT / "README.md")
    assert f"ometria.{table.name}" in read(DOCS / "how-to" / "query.md")


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_each_error_is_told_with_its_exit_code(error: type[ReplicaError]) -> None:
    """The page of errors has a line for each class, with the code that it ends with."""
    page = read(DOCS / "reference" / "errors.md")

    assert f"| {error.exit_code} | `{error.__name__}` |" in page


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "reference" / "errors.md"], ids=str)
def test_the_exit_codes_are_all_there_and_no_others(page: Any) -> None:
    """The tables of exit codes hold each code that the program can end with."""
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", read(page), re.MULTILINE)}

    signals = (signal.SIGINT, signal.SIGPIPE, signal.SIGTERM)
    assert told == {0, *(128 + number for number in signals)} | {
        error.exit_code for error in ERRORS
    }


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_each_field_without_a_column_is_listed(table: Any) -> None:
    """The page has each field that the report does not name, and none that has a column."""
    page = read(DOCS / "reference" / "left-out.md")
    section = page.partition(f"## {table.full_name}\n")[2].partition("\n## ")[0]
    fields = {
        name
        for cell in re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", cell.partition(", all but")[0])
    }

    objects = {field.partition("::")[0] for field in table.fields if "::" in field}
    assert fields == {*table.unmapped, *objects}


@pytest.mark.parametrize("table", STATE_TABLES, ids=lambda table: table.name)
def test_each_state_table_is_told_column_by_column(table: Any) -> None:
    """The page describes each column of the state schema."""
    page = read(DOCS / "reference" / "state.md")
    section = page.partition(f"## `{STATE_SCHEMA}.{table.name}`")[2].partition("\n## ")[0]

    assert [name for name in table.column_names if f"`{name}`" not in section] == []


def test_the_house_has_a_line_for_each_file() -> None:
    """The architecture page describes each module."""
    package = ROOT / "src" / "ometria_replica"
    page = read(DOCS / "explanation" / "house.md")
    files = [str(path.relative_to(package)) for path in package.rglob("*.py")]
    untold = {"__init__.py", "__main__.py", "ometria/__init__.py"}
    told = {
        name
        for line in re.findall(r"^\| (`[^|]+) \|", page, re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", line)
    }

    assert told == set(files) - untold


@pytest.mark.parametrize("scheme", CLOUDS)
def test_each_destination_has_an_extra_and_is_documented(scheme: str) -> None:
    """An extra in pyproject.toml, a row on both pages of warehouses, and a section with facts."""
    extra = SCHEMES[scheme].extra
    how_to = read(DOCS / "how-to" / "cloud-warehouses.md")
    rows = [
        row
        for page in (read(DOCS / "reference" / "warehouses.md"), how_to)
        for row in re.findall(rf"^\| ([^|]+) \|.*`{scheme}://", page, re.MULTILINE)
    ]

    assert extra in EXTRAS
    assert f"pip install 'ometria-replica[{extra}]'" in how_to
    assert len(rows) == 2
    assert rows[0] == rows[1]
    assert f"\n## {rows[0]}\n" in how_to


@pytest.mark.parametrize("scheme", ["dlt+duckdb", "dlt+postgresql"])
def test_each_destination_that_tests_dlt_has_an_extra_and_is_documented(scheme: str) -> None:
    """These have one row on one page, because other URLs of their warehouses are faster."""
    page = read(DOCS / "reference" / "warehouses.md")

    assert SCHEMES[scheme].extra in EXTRAS
    assert re.search(
        rf"^\|.*`{re.escape(scheme)}://.*\[{SCHEMES[scheme].extra}\]", page, re.MULTILINE
    )


@pytest.mark.parametrize("picture", sorted(DOCS.glob("assets/*.svg")), ids=lambda path: path.name)
def test_a_picture_is_xml(picture: Path) -> None:
    """A browser shows an error in place of an SVG that is not well-formed."""
    root = ET.parse(picture).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.parametrize("picture", diagram.diagrams(), ids=lambda path: path.name)
def test_the_diagram_was_drawn_from_the_tables_as_they_are(picture: Path) -> None:
    """The picture holds the hash of the present diagram text."""
    text = diagram.diagrams()[picture]

    assert read(picture).startswith(diagram.mark(text))
    assert f"```mermaid\n{text}\n```" in read(DOCS / "reference" / "tables.md")


def test_the_benchmark_is_drawn_as_dots() -> None:
    """The length of a bar would mislead on its logarithmic scale."""
    text = read(ROOT / "docs" / "assets" / "bench.svg")
    patches = re.findall(r'<g id="patch_\d+">(.*?)</g>', text, re.DOTALL)

    assert '<g id="PathCollection_' in text
    assert [patch for patch in patches if "clip-path" in patch] == []  # Bars are clipped patches.


def test_the_tests_that_a_page_names_exist() -> None:
    """Each test that a page names exists."""
    named = set(re.findall(r"`(test_\w+)`", written_by_hand()))
    tests = "\n".join(read(path) for path in (ROOT / "tests").rglob("test_*.py"))

    assert {name for name in named if f"def {name}(" not in tests} == set()
