"""Checks of the repository as a whole."""

from __future__ import annotations

import re
import subprocess
import tomllib
from typing import TYPE_CHECKING

import pytest

from .pages import ROOT, read

if TYPE_CHECKING:
    from pathlib import Path

USED_BY_DUCKDB = "pytz"
PROJECT = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]
RUNTIME, EVERYTHING = (ROOT / "requirements" / name for name in ("runtime.txt", "dev.txt"))
# Parted by a dot in the middle, so that this file does not name them either.
PACKAGE_HOSTS = ("pypi·.org", "files.python·hosted", "registry.·npmjs", "deb.·debian.org")
MACHINE_PATHS = ("/work·/main", "/work·/shared", "/root·/", "/opt·/wheels", "/opt·/pypi")
FORBIDDEN = [words.replace("·", "") for words in (*PACKAGE_HOSTS, *MACHINE_PATHS)]


def tracked_files() -> list[Path]:
    """List the files under version control; outside a clone there is nothing to check."""
    answer = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if answer.returncode != 0:
        pytest.skip("not a clone")
    return [ROOT / name for name in answer.stdout.split("\0") if name and (ROOT / name).exists()]


def name_of(requirement: str) -> str:
    """Read a distribution's name out of a requirement."""
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def locked(path: Path) -> dict[str, str]:
    """Read what a lock file pins: a name and the lines that follow it."""
    entries = re.split(r"^(?=[\w.-]+==)", read(path), flags=re.MULTILINE)
    return {name_of(entry): entry for entry in entries if "==" in entry.split("\n")[0]}


def test_no_file_names_a_package_host_or_a_path_of_somebodys_machine() -> None:
    """Package hosts and paths differ from machine to machine."""
    found = [
        f"{path.relative_to(ROOT)}: {words}"
        for path in tracked_files()
        for text in [path.read_bytes().decode("utf-8", "replace")]
        for words in FORBIDDEN
        if words in text
    ]

    assert found == []


def test_the_lock_holds_every_dependency_with_hashes() -> None:
    """The lock pins each dependency of pyproject.toml, and each entry of any lock has a hash."""
    wanted = {name_of(requirement) for requirement in PROJECT["dependencies"]}

    assert wanted <= locked(RUNTIME).keys() <= locked(EVERYTHING).keys()
    for path in sorted(RUNTIME.parent.glob("*.txt")):
        assert [name for name, entry in locked(path).items() if "--hash=sha256:" not in entry] == []


def test_both_locks_agree() -> None:
    """Tests run with the versions that users install."""

    def versions(path: Path) -> dict[str, str]:
        return {name: entry.split()[0] for name, entry in locked(path).items()}

    everything = versions(EVERYTHING)
    assert {name: everything[name] for name in versions(RUNTIME)} == versions(RUNTIME)


@pytest.mark.parametrize("requirement", sorted(set(PROJECT["dependencies"]) - {USED_BY_DUCKDB}))
def test_each_dependency_is_imported_somewhere(requirement: str) -> None:
    """Each dependency is used."""
    name = name_of(requirement).replace("-", "_")
    sources = [read(path) for path in (ROOT / "src" / "ometria_replica").rglob("*.py")]

    assert any(re.search(rf"^\s*(import|from) {name}\b", text, re.MULTILINE) for text in sources)


def test_the_changelog_begins_with_what_is_unreleased() -> None:
    """As Keep a Changelog has it."""
    assert re.findall(r"^## (.*)$", read(ROOT / "CHANGELOG.md"), re.MULTILINE)[0] == "[Unreleased]"
