"""
Write ``docs/reference/licences.md``: the licence of each package that the lock files name.

``make lock`` does, since it reads the metadata of packages that are not installed here from the
index. What the page lists already is not read again. Without network, ``--check`` compares the
page with the lock files, and the licences with those that a user may be given.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from scripts.locks import ROOT, RUNTIME, extras, pins

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LICENCES = ROOT / "docs" / "reference" / "licences.md"

# Permissive: a notice has to be kept, and nothing else is asked of a program that uses them.
ALLOWED = frozenset(
    [
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        "HPND",
        "ISC",
        "MIT",
        "MIT-0",
        "MIT-CMU",
        "PSF-2.0",
        "Python-2.0",
        "Unlicense",
        "Zlib",
        "ZPL-2.1",
    ]
)

EXCEPTIONS = {
    "certifi": "asks for the source of changed files alone, and is a list of certificates,"
    " installed unchanged.",
    "orjson": "asks for the source of changed files alone, and is installed unchanged.",
    "pathspec": "asks for the source of changed files alone, and is installed unchanged.",
    "text-unidecode": "gives the choice of the Artistic License, which allows any program to use"
    " it unchanged.",
    "psycopg2-binary": "allows use by any program as long as the library can be replaced, as every"
    " Python package can.",
    "tqdm": "asks for the source of changed files alone, and is installed unchanged.",
}

# Packages whose metadata names no licence, with what their licence file says.
STATED = {
    "databricks-zerobus-ingest-sdk": "Apache-2.0",
    "text-unidecode": "GPL-2.0-or-later OR Artistic-1.0",
}

_CLASSIFIERS = {
    "OSI Approved :: Apache Software License": "Apache-2.0",
    "OSI Approved :: BSD License": "BSD-3-Clause",
    "OSI Approved :: ISC License (ISCL)": "ISC",
    "OSI Approved :: MIT License": "MIT",
    "OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "OSI Approved :: Python Software Foundation License": "PSF-2.0",
    "OSI Approved :: The Unlicense (Unlicense)": "Unlicense",
    "OSI Approved :: zlib/libpng License": "Zlib",
    "OSI Approved :: GNU Library or Lesser General Public License (LGPL)": "LGPL-3.0-or-later",
}
_TEXTS = {
    "apache": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license version 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license 2.0": "Apache-2.0",
    "3-clause bsd license": "BSD-3-Clause",
    "bsd": "BSD-3-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "lgpl with exceptions": "LGPL-3.0-or-later",
    "mit license": "MIT",
    "mit license (mit)": "MIT",
    "the mit license": "MIT",
    "mpl 2.0": "MPL-2.0",
}
# How pip is asked for the metadata of what is not for this machine.
_ELSEWHERE: tuple[tuple[str, ...], ...] = (
    (),
    ("--only-binary", ":all:", "--platform", "win_amd64"),
    ("--only-binary", ":all:", "--python-version", "3.13"),
)
_ROW = re.compile(r"^\| `([^`]+)` \| (\S+) \| ([^|]+) \| ([^|]*) \|$", re.MULTILINE)
_START = "| package | version | licence | needed by |\n| --- | --- | --- | --- |\n"


@dataclass(frozen=True)
class Listed:
    """A row of the page: *licence* is an SPDX expression, *needed_by* names extras."""

    name: str
    version: str
    licence: str
    needed_by: tuple[str, ...] = ()


def main(arguments: list[str] | None = None) -> int:
    """Write or check the page; the exit code is 1 if a licence is missing or not allowed."""
    parser = argparse.ArgumentParser(description="List the licences of all dependencies.")
    parser.add_argument("--check", action="store_true", help="write nothing, and use no network")
    check = parser.parse_args(arguments).check
    page = LICENCES.read_text("utf-8")
    known = {
        (each.name, each.version): each.licence
        for each in listed(page)
        if each.licence != "unknown"
    }
    wanted = needed()
    if not check:
        known |= _installed(wanted.keys() - known.keys())
        known |= _ask(sorted(wanted.keys() - known.keys()))
        known |= _downloaded(key for key in wanted if known.get(key, "unknown") == "unknown")
    rows = [
        Listed(name, version, known.get((name, version), "unknown"), tuple(by))
        for (name, version), by in sorted(wanted.items())
    ]
    text = page.partition(_START)[0] + _START + "".join(map(_row, rows))
    problems = refused(rows)
    if not check:
        LICENCES.write_text(text, encoding="utf-8")
    elif text != page:
        problems.append(
            "docs/reference/licences.md is not that of the lock files: run `make lock`."
        )
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    return int(bool(problems))


def needed() -> dict[tuple[str, str], list[str]]:
    """Map each package that a user may install, with its version, to what needs it."""
    wanted: dict[tuple[str, str], list[str]] = {}
    always = {(pin.name, pin.version) for pin in pins(RUNTIME)}
    for extra, lock in extras().items():
        for pin in pins(lock):
            if (pin.name, pin.version) not in always:
                wanted.setdefault((pin.name, pin.version), []).append(extra)
    return wanted | {key: ["always"] for key in always}


def listed(page: str) -> list[Listed]:
    """Read the rows of the page."""
    return [
        Listed(name, version, licence.strip(), tuple(by.split(", ")))
        for name, version, licence, by in _ROW.findall(page)
    ]


def refused(rows: Iterable[Listed]) -> list[str]:
    """Return a sentence for each package whose licence is neither allowed nor excepted."""
    return [
        f"{row.name} {row.version}: {row.licence} is no licence that scripts/licences.py allows."
        for row in rows
        if not is_allowed(row.licence) and row.name not in EXCEPTIONS
    ]


def is_allowed(licence: str) -> bool:
    """
    Whether an SPDX expression asks for nothing but what ALLOWED does.

    All of its licences must be allowed; of alternatives without any AND, one.
    """
    parts = re.split(r" (?:AND|OR) ", licence.replace("(", "").replace(")", ""))
    allowed = [part in ALLOWED for part in parts]
    return any(allowed) if " OR " in licence and " AND " not in licence else all(allowed)


def licence_of(described: Mapping[str, Any]) -> str:
    """
    Return the SPDX expression in the metadata of a package, as pip reports it; or "unknown".

    The field for expressions counts before the classifiers, and these before a free text: many
    say "BSD" there, which is read as BSD-3-Clause.
    """
    if stated := STATED.get(described["name"].lower().replace("_", "-")):
        return stated
    classified = {
        _CLASSIFIERS.get(each.removeprefix("License :: "))
        for each in described.get("classifier", [])
        if each.startswith("License :: ")
    } - {None}
    text = str(described.get("license") or "").strip()
    for candidate in (
        described.get("license_expression"),
        text,
        _TEXTS.get(text.lower()),
        " AND ".join(sorted(filter(None, classified))),
        "MIT" if text.startswith(("MIT License\n", "The MIT License")) else None,
        "Apache-2.0" if text.startswith("Apache License") else None,
    ):
        try:
            return str(canonicalize_license_expression(candidate or ""))
        except InvalidLicenseExpression:
            continue
    return "unknown"


def _installed(packages: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Read the metadata of the packages that are here: pip before 25 leaves expressions out."""
    found = {}
    for name, version in packages:
        try:
            here = metadata(name)
        except PackageNotFoundError:
            continue
        if here["Version"] == version:
            found[name, version] = licence_of(here.json)
    return {key: licence for key, licence in found.items() if licence != "unknown"}


def _ask(packages: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Ask the index for the metadata of packages, of one version of each at a time."""
    found: dict[tuple[str, str], str] = {}
    for elsewhere in _ELSEWHERE:
        rest = [each for each in packages if each not in found]
        while rest:
            batch = dict(reversed(rest))  # The first version of each name.
            rest = [(name, version) for name, version in rest if batch[name] != version]
            found |= _halved(batch, elsewhere)
    return found


def _downloaded(packages: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Read the metadata in wheels for any machine, of packages of which pip reports no licence."""
    found = {}
    for name, version in packages:
        with tempfile.TemporaryDirectory() as folder:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            pip.append("--ignore-requires-python")
            options = ["--only-binary", ":all:", "--dest", folder]
            subprocess.run([*pip, *options, f"{name}=={version}"], check=False, capture_output=True)
            for wheel in Path(folder).glob("*.whl"):
                (described,) = Distribution.discover(path=[str(wheel)])
                found[name, version] = licence_of(described.metadata.json)
    return found


def _halved(packages: Mapping[str, str], options: tuple[str, ...]) -> dict[tuple[str, str], str]:
    """Ask for all at once; where one fails, for halves."""
    if (found := _reported(packages, options)) or len(packages) < 2:
        return found
    pairs = sorted(packages.items())
    middle = len(pairs) // 2
    return _halved(dict(pairs[:middle]), options) | _halved(dict(pairs[middle:]), options)


def _reported(packages: Mapping[str, str], options: tuple[str, ...]) -> dict[tuple[str, str], str]:
    """Let pip report the metadata; nothing if one of the packages has no file for the machine."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = "install --quiet --dry-run --ignore-installed --ignore-requires-python --no-deps"
        pip = [sys.executable, "-m", "pip", *command.split()]
        places = ["--target", folder, "--report", str(report)]
        names = [f"{name}=={version}" for name, version in packages.items()]
        subprocess.run([*pip, *places, *options, *names], check=False, capture_output=True)
        if not report.exists():
            return {}
        installed = json.loads(report.read_text("utf-8"))["install"]
    licences = {_name(each["metadata"]): licence_of(each["metadata"]) for each in installed}
    return {(name, packages[name]): licence for name, licence in licences.items()}


def _name(described: Mapping[str, Any]) -> str:
    return re.sub(r"[-_.]+", "-", described["name"]).lower()


def _row(row: Listed) -> str:
    return f"| `{row.name}` | {row.version} | {row.licence} | {', '.join(row.needed_by)} |\n"


if __name__ == "__main__":
    raise SystemExit(main())
