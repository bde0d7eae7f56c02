"""
Cut a release: ``make release VERSION=0.2.0``, or ``--notes 0.2.0`` to print what is new in one.

The entries under *Unreleased* in CHANGELOG.md become the section of the version, with the date,
and ``version.py`` gets the version. Nothing is committed: ``git diff`` shows what would be.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parents[1]
UNRELEASED = "## [Unreleased]"
# In the order of Keep a Changelog.
KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")

_VERSION = re.compile(r'^__version__ = "([^"]+)"$', re.MULTILINE)


class NotReleasable(Exception):
    """A release cannot be cut; the message says why, and what to do."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code: 1 if the release cannot be cut."""
    parser = argparse.ArgumentParser(description="Cut a release.")
    parser.add_argument("version", help="such as 0.2.0")
    parser.add_argument("--date", type=date.fromisoformat, help="of the release; today in UTC")
    parser.add_argument("--notes", action="store_true", help="print the changes of that version")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.notes:
            print(notes(_read(ROOT / "CHANGELOG.md"), chosen.version))
            return 0
        cut(ROOT, chosen.version, chosen.date or datetime.now(UTC).date())
    except NotReleasable as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"CHANGELOG.md and version.py say {chosen.version}. Next, after a look at `git diff`:\n"
        f"  git commit --all --message 'Release {chosen.version}'\n"
        f"  git tag --annotate v{chosen.version} --message {chosen.version}\n"
        f"  make dist"
    )
    return 0


def cut(root: Path, version: str, day: date) -> None:
    """
    Write both files of the project in *root*.

    Raises NotReleasable, and writes nothing, unless the work tree is clean, *version* is higher
    than the present one, and something is unreleased.
    """
    changelog, module = root / "CHANGELOG.md", root / "src" / "ometria_replica" / "version.py"
    _require_clean(root)
    bumped = _bumped(_read(module), version)
    released = released_changelog(_read(changelog), version, day)
    changelog.write_text(released, encoding="utf-8")
    module.write_text(bumped, encoding="utf-8")


def released_changelog(text: str, version: str, day: date) -> str:
    """
    Move what is unreleased into a section of its own, each kind of change once and in order.

    Raises NotReleasable if nothing is unreleased, the version has a section, or a kind is unknown.
    """
    above, found, rest = text.partition(f"{UNRELEASED}\n")
    if not found:
        raise NotReleasable(f"CHANGELOG.md has no heading {UNRELEASED!r}.")
    if re.search(rf"^## \[{re.escape(version)}\]", rest, re.MULTILINE):
        raise NotReleasable(f"CHANGELOG.md has a section of {version} already.")
    older = re.search(r"^## ", rest, re.MULTILINE)
    changes, before = (rest[: older.start()], rest[older.start() :]) if older else (rest, "")
    section = f"## [{version}] - {day.isoformat()}\n\n{_by_kind(changes)}"
    return f"{above}{UNRELEASED}\n\n{section}" + (f"\n{before}" if before else "")


def notes(text: str, version: str) -> str:
    """Return the changes of a version. Raises NotReleasable if it has no section."""
    found = re.search(
        rf"^## \[{re.escape(version)}\] - \S+\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL
    )
    if not found:
        raise NotReleasable(f"CHANGELOG.md has no section of {version}.")
    return found.group(1).strip()


def _by_kind(changes: str) -> str:
    """Join sections of the same kind, which merges of branches can leave."""
    stray, *parts = re.split(r"^### (.+)\n", changes, flags=re.MULTILINE)
    if stray.strip():
        raise NotReleasable("CHANGELOG.md: entries under Unreleased need a heading, as ### Added.")
    entries: dict[str, list[str]] = {}
    for kind, text in zip(parts[::2], parts[1::2], strict=True):
        entries.setdefault(kind.strip(), []).extend([text.strip("\n")] if text.strip() else [])
    if unknown := entries.keys() - set(KINDS):
        raise NotReleasable(
            f"CHANGELOG.md: {', '.join(sorted(unknown))} is no kind of change;"
            f" use {', '.join(KINDS)}."
        )
    if not any(entries.values()):
        raise NotReleasable("CHANGELOG.md: nothing is unreleased. Describe first what changed.")
    return "\n".join(
        f"### {kind}\n\n" + "\n".join(entries[kind]) + "\n" for kind in KINDS if entries.get(kind)
    )


def _bumped(text: str, version: str) -> str:
    found = _VERSION.search(text)
    if not found:
        raise NotReleasable("version.py does not name the version.")
    try:
        wanted, present = Version(version), Version(found.group(1))
    except InvalidVersion as error:
        raise NotReleasable(f"{error}. Name a version such as 0.2.0.") from None
    if str(wanted) != version or wanted <= present:
        raise NotReleasable(f"{version} is not higher than {present}, or not written as a version.")
    return text[: found.start(1)] + version + text[found.end(1) :]


def _require_clean(root: Path) -> None:
    answer = subprocess.run(
        ["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, check=True
    )
    if answer.stdout:
        raise NotReleasable(
            "The work tree has changes that are not committed."
            f" Commit or remove them:\n{answer.stdout}"
        )


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
