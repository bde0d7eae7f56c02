from __future__ import annotations

import re
import tomllib
from importlib import metadata

import pytest
from scripts.licences import (
    EXCEPTIONS,
    LICENCES,
    is_allowed,
    licence_of,
    listed,
    needed,
    refused,
)
from scripts.locks import ROOT, extras

ROWS = listed(LICENCES.read_text(encoding="utf-8"))


def test_the_page_lists_what_the_lock_files_name() -> None:
    """Each package in its version, with the extras that need it."""
    assert {(row.name, row.version): sorted(row.needed_by) for row in ROWS} == {
        key: sorted(by) for key, by in needed().items()
    }


def test_each_licence_is_permissive_or_an_exception_with_a_reason() -> None:
    """A user may put the packages together with any other program."""
    assert refused(ROWS) == []


def test_no_exception_is_left_over() -> None:
    """A package that is gone, or has another licence now, needs no exception."""
    needing = {row.name for row in ROWS if not is_allowed(row.licence)}

    assert EXCEPTIONS.keys() == needing


def test_the_page_says_what_the_installed_packages_say() -> None:
    """Of those that are installed here; the others were asked of the index by `make lock`."""
    compared = 0
    for row in ROWS:
        try:
            installed = metadata.distribution(row.name)
        except metadata.PackageNotFoundError:
            continue
        if installed.version == row.version:
            said = installed.metadata
            data = {
                "name": row.name,
                "license_expression": (said.get_all("License-Expression") or [None])[0],
                "license": (said.get_all("License") or [None])[0],
                "classifier": said.get_all("Classifier") or [],
            }
            assert licence_of(data) == row.licence, row.name
            compared += 1
    assert compared > 20


def test_each_extra_has_a_lock_file() -> None:
    """`make lock` writes them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert extras().keys() == project["optional-dependencies"].keys()


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("GPL-3.0-or-later", False),
        ("MIT OR GPL-2.0-only", True),
        ("MIT AND GPL-2.0-only", False),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", False),
        ("unknown", False),
    ],
)
def test_a_licence_is_allowed_if_all_that_must_be_kept_is(licence: str, *, allowed: bool) -> None:
    """One of alternatives is enough; of licences that apply together, each counts."""
    assert is_allowed(licence) is allowed


@pytest.mark.parametrize(
    ("said", "licence"),
    [
        ({"license_expression": "Apache-2.0 AND MIT"}, "Apache-2.0 AND MIT"),
        ({"license": "Apache 2.0"}, "Apache-2.0"),
        ({"classifier": ["License :: OSI Approved :: MIT License"]}, "MIT"),
        ({"license": "MIT License\n\nCopyright (c) somebody"}, "MIT"),
        ({"license": "Ask us"}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_a_licence_is_read_from_the_fields_of_the_metadata(
    said: dict[str, object], licence: str
) -> None:
    """The expression of SPDX, the older free text, or the classifiers."""
    assert licence_of({"name": "a-package", **said}) == licence


def test_the_reason_of_an_exception_is_on_the_page() -> None:
    """A reader of the page need not look into the script."""
    page = re.sub(r"\s+", " ", LICENCES.read_text(encoding="utf-8"))

    assert [name for name in EXCEPTIONS if f"- `{name}`: {EXCEPTIONS[name]}" not in page] == []
