"""The examples in the help of each command."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

from ometria_replica.cli.examples import EXAMPLES
from tests.e2e.program import invoke

from .test_examples import parse
from .test_reference import COMMANDS

if TYPE_CHECKING:
    from .conftest import Shop

LEAVES = [name for name, command in COMMANDS.items() if not hasattr(command, "commands")]
READING = (
    "check",
    "config",
    "fields",
    "query",
    "rejects list",
    "runs",
    "state show",
    "status",
    "tables",
)


def words_of(line: str) -> list[str]:
    """Split a line as a shell does, without where its output goes."""
    return shlex.split(line.partition(" > ")[0])


def test_each_command_has_examples_and_only_these_do() -> None:
    """A row in ``cli/examples.py`` for each."""
    assert sorted(EXAMPLES) == sorted(LEAVES)


@pytest.mark.parametrize("name", LEAVES)
def test_each_example_is_a_command_line(name: str) -> None:
    """It is of this command, and fits on a line of a terminal; the help shows it."""
    shown = invoke(*name.split(), "-h", env={"COLUMNS": "80"}).stdout

    for line in EXAMPLES[name]:
        assert line.startswith(name)
        assert f"\n  ometria-replica {line}\n" in shown
        assert len(f"  ometria-replica {line}") <= 80
        parse(words_of(line))


@pytest.mark.parametrize("name", READING)
def test_the_examples_that_only_read_run(name: str, shop: Shop) -> None:
    """In a warehouse that was synced: each prints something, and exits with 0."""
    for line in EXAMPLES[name]:
        if "--config" not in line and "--max-age" not in line:
            result = invoke(*words_of(line), env=shop.environ)

            assert result.exception is None, (line, result.exception)
            assert result.stdout
