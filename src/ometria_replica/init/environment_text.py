"""The text of the environment file, which a shell, systemd and Docker can read."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from ometria_replica.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_HEAD = """\
# Secrets of ometria-replica, for you alone: keep this file out of version control.
# To load it into a shell: {load}
"""
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+=,?-]*")  # Without a sign that a shell would expand.


def load_command(path: Path) -> str:
    """Write the command that loads an environment file into a shell of POSIX."""
    place = str(path) if path.is_absolute() else f"./{path}"  # Or a shell searches its PATH.
    return f"set -a; . {shlex.quote(place)}; set +a"


def new_environment(secrets: Mapping[str, str], path: Path) -> str:
    """Write the file *path* with a line for each variable."""
    return _HEAD.format(load=load_command(path)) + "".join(_lines(secrets))


def added_environment(before: str, secrets: Mapping[str, str]) -> str:
    """Write the variables behind the text of an environment file, which stays as it is."""
    return "".join([before.rstrip("\n"), "\n" if before.strip() else "", *_lines(secrets)])


def variables_in(text: str, path: Path) -> dict[str, str]:
    """
    Read the variables of an environment file.

    Raises ConfigError for a line that does not assign one.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            words = [""]
        for word in words[words[:1] == ["export"] :]:
            name, separator, value = word.partition("=")
            if not separator:
                raise ConfigError(f"{path}: line {number}: must be NAME=value.")
            found[name] = value
    return found


def _lines(secrets: Mapping[str, str]) -> list[str]:
    return [f"{name}={_value(value)}\n" for name, value in secrets.items()]


def _value(value: str) -> str:
    """Quote a value where a shell needs that: Docker would take the quotes for a part of it."""
    return value if _PLAIN.fullmatch(value) else shlex.quote(value)
