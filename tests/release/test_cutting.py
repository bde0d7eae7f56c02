from __future__ import annotations

import subprocess
from datetime import date
from typing import TYPE_CHECKING

import pytest
from scripts.release import NotReleasable, cut, notes, released_changelog

if TYPE_CHECKING:
    from pathlib import Path

DAY = date(2026, 12, 1)
CHANGELOG = """# Changelog

## [Unreleased]

### Fixed

- A fault.
  Its second line.

### Added

- A thing.

### Fixed

- Another fault.

## [0.1.0] - 2026-01-01

### Added

- The first thing.
"""
RELEASED = """# Changelog

## [Unreleased]

## [0.2.0] - 2026-12-01

### Added

- A thing.

### Fixed

- A fault.
  Its second line.
- Another fault.

## [0.1.0] - 2026-01-01

### Added

- The first thing.
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make a clone with a changelog and a version, and nothing uncommitted."""
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    module = tmp_path / "src" / "ometria_replica" / "version.py"
    module.parent.mkdir(parents=True)
    module.write_text('"""The version."""\n\n__version__ = "0.1.0"\n')
    for command in ("init -q", "add .", "-c user.name=a -c user.email=a@b.c commit -q -m x"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    return tmp_path


def texts(project: Path) -> tuple[str, str]:
    module = project / "src" / "ometria_replica" / "version.py"
    return (project / "CHANGELOG.md").read_text(), module.read_text()


def test_a_release_moves_what_is_unreleased_and_bumps_the_version(project: Path) -> None:
    """Kinds of changes that stand twice after a merge are joined, in the usual order."""
    cut(project, "0.2.0", DAY)

    assert texts(project) == (RELEASED, '"""The version."""\n\n__version__ = "0.2.0"\n')


def test_the_notes_of_a_release_are_its_section(project: Path) -> None:
    """Of the version that is asked for, whether or not it is the last one."""
    assert notes(RELEASED, "0.1.0") == "### Added\n\n- The first thing."
    assert notes(RELEASED, "0.2.0").startswith("### Added\n\n- A thing.\n\n### Fixed")
    with pytest.raises(NotReleasable, match=r"no section of 0\.3\.0"):
        notes(RELEASED, "0.3.0")


@pytest.mark.parametrize("version", ["0.1.0", "0.0.9", "0.1", "v0.2.0", "next", "0.2.0 ", "0.02.0"])
def test_a_version_that_is_not_higher_is_refused(project: Path, version: str) -> None:
    """So is a text that is no version, or not as it is usually written."""
    with pytest.raises(NotReleasable):
        cut(project, version, DAY)

    assert texts(project)[0] == CHANGELOG


def test_a_work_tree_with_changes_is_refused(project: Path) -> None:
    """Also if a file is new: the release would lack it."""
    before = texts(project)
    (project / "new.py").touch()

    with pytest.raises(NotReleasable, match=r"new\.py"):
        cut(project, "0.2.0", DAY)
    assert texts(project) == before


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ("", "nothing is unreleased"),
        ("### Added\n\n### Fixed\n", "nothing is unreleased"),
        ("- A thing.\n", "need a heading"),
        ("### Improved\n\n- A thing.\n", "Improved is no kind of change"),
        ("### Added\n\n- A thing.\n\n## [0.2.0] - 2026-01-01\n", "section of 0.2.0 already"),
    ],
)
def test_a_changelog_that_says_nothing_to_users_is_refused(changes: str, reason: str) -> None:
    """Empty, without a kind, of an unknown kind, or of a version that is released."""
    with pytest.raises(NotReleasable, match=reason):
        released_changelog(f"# Changelog\n\n## [Unreleased]\n\n{changes}", "0.2.0", DAY)


def test_a_first_release_has_no_older_section() -> None:
    """The new section is then the end of the file."""
    before = "## [Unreleased]\n\n### Added\n\n- A thing.\n"

    assert released_changelog(before, "0.2.0", DAY) == (
        "## [Unreleased]\n\n## [0.2.0] - 2026-12-01\n\n### Added\n\n- A thing.\n"
    )
