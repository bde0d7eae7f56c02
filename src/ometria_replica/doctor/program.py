"""Tells the versions of the program and of what it runs on, and tests the extras."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

from ometria_replica.doctor.findings import Finding, passed, tested
from ometria_replica.observing import OBSERVED_BY, observing
from ometria_replica.version import __version__
from ometria_replica.warehouse import SCHEMES, imported, scheme_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ometria_replica.config import Config

VERSIONS: Final = "program.versions"
EXTRA: Final = "program.extra"
OBSERVERS: Final = "program.observers"

_PACKAGES = {
    "postgres": ("adbc-driver-postgresql",),
    "delta": ("deltalake",),
    "iceberg": ("pyiceberg",),
}
"""What is in an extra; in those of dlt, dlt."""


def check_program() -> Iterator[Finding]:
    """Tell the versions."""
    system = f"{platform.system()} {platform.machine()}"
    parts = [f"ometria-replica {__version__}", f"Python {platform.python_version()}"]
    parts += [f"DuckDB {_version('duckdb')}", f"PyArrow {_version('pyarrow')}", system]
    yield passed(VERSIONS, f"{', '.join(parts)}.")


def check_extra(url: str) -> Iterator[Finding]:
    """Test that the packages are there which the warehouse at *url* needs beside the program."""
    known = SCHEMES.get(scheme_of(url))
    if known is None or not known.extra:
        return

    def test() -> Iterator[Finding]:
        imported(scheme_of(url))
        names = _PACKAGES.get(known.extra, ("dlt",))
        versions = ", ".join(f"{name} {_version(name)}" for name in names)
        yield passed(EXTRA, f"The extra {known.extra} is installed: {versions}.")

    yield from tested(EXTRA, f"The warehouse needs the extra {known.extra}.", test)


def check_observers(config: Config) -> Iterator[Finding]:
    """Test that the observers of a run that are switched on can be opened; nothing is sent."""
    wanted = [name for name in OBSERVED_BY if getattr(config, name)]
    if not wanted:
        return

    def test() -> Iterator[Finding]:
        with observing(config):
            yield passed(OBSERVERS, f"The settings for {' and '.join(wanted)} are complete.")

    yield from tested(OBSERVERS, f"A sync cannot send {' and '.join(wanted)}.", test)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"
