"""The variables of the dbt package: which there are, and their values on a command line."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from ometria_replica.errors import ConfigError
from ometria_replica.models import package
from ometria_replica.nearest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_USED = re.compile(r"""\bvar\(\s*['"](\w+)['"]""")
_DECLARED = re.compile(r"^ {4}(ometria_\w+):", re.MULTILINE)
_OURS = {
    *("ometria_database", "ometria_schema", "ometria_state_schema", "ometria_history_schema"),
    *("ometria_tables", "ometria_history"),
}
"""The program sets them, as the warehouse is."""

TIMEZONE, ATTRIBUTION_DAYS = "ometria_timezone", "ometria_attribution_days"
"""Those that have options of their own."""


def known() -> set[str]:
    """Name the variables that the files of the package read."""
    project = (package.folder() / package.PROJECT).read_text(encoding="utf-8")
    used = (
        name
        for file in sorted(package.folder().rglob("*"))
        if file.suffix in {".sql", ".yml"} and file.is_file()
        for name in _USED.findall(file.read_text(encoding="utf-8"))
    )
    return {*used, *_DECLARED.findall(project)} - _OURS


def parsed(given: Iterable[str]) -> dict[str, Any]:
    """
    Read variables as ``name=value``; a value is JSON, or else a text.

    Raises ConfigError for one without a name.
    """
    found = {}
    for each in given:
        name, sign, text = each.partition("=")
        if not sign or not name.strip():
            raise ConfigError(f"--var {each}: write it as NAME=VALUE.")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        found[name.strip()] = value
    return found


def refuse_unknown(given: Mapping[str, Any]) -> None:
    """Raise ConfigError for a variable that the package does not read."""
    names = known()
    if unknown := [name for name in given if name not in names]:
        raise ConfigError(
            f"The package has no variable '{name}'"
            + (did_you_mean(name, names) or f". There are {', '.join(sorted(names))}.")
            for name in unknown
        )
