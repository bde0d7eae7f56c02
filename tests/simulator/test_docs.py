"""The page ``docs/simulator.md`` matches the code."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from ometria_simulator import Quirks
from ometria_simulator.cli import _parser
from ometria_simulator.control import MUTATIONS, SHOP_MUTATIONS

if TYPE_CHECKING:
    import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")


def named(section: str) -> set[str]:
    """Return the names in the first column of a section's tables."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (.*?) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([\w-]+)", cell)}


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python example runs unchanged and writes files into its folder."""
    monkeypatch.chdir(tmp_path)
    [example] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

    exec(compile(example, "docs/simulator.md", "exec"), {})

    assert len(list((tmp_path / "exports").iterdir())) > 20


def test_every_quirk_is_on_the_page() -> None:
    """The table of quirks has all quirks and no others."""
    assert named("Quirks") == {quirk.name for quirk in fields(Quirks)}


def test_every_option_is_on_the_page() -> None:
    """The tables have each command and each option, and no others."""
    [commands] = [action for action in _parser()._actions if action.choices]
    assert isinstance(commands.choices, dict)
    options = {
        option
        for parser in commands.choices.values()
        for action in parser._actions
        for option in action.option_strings
        if option not in {"-h", "--help"}
    }

    assert named("Commands") == options | set(commands.choices)


def test_every_mutation_is_on_the_page() -> None:
    """The page names each method that the control plane can call."""
    control = PAGE.partition("\n## The control plane\n")[2]

    assert {n for n in MUTATIONS | SHOP_MUTATIONS if f"`{n}`" not in control} == set()


def test_every_method_of_the_shop_is_on_the_page() -> None:
    """The section on the shop names each method that changes it."""
    text = PAGE.partition("\n## The shop\n")[2].partition("\n## ")[0]

    assert {name for name in SHOP_MUTATIONS if f"`{name}(" not in text} == set()
