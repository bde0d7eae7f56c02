"""
ClickHouse in this process, from the wheel of chdb, behind the drivers that dlt uses.

The SQL, its parameters and the files are those that dlt and the drivers make, and ClickHouse's own
code runs them. The two protocols between a driver and a server are not tried.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from threading import Lock
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
import pytest

from tests.places import DistantPlace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Server:
    """The engine: chdb allows one in a process, with any number of databases."""

    def __init__(self) -> None:
        from chdb.session import Session  # noqa: PLC0415 -- 500 MB, which few tests need.

        self._session = Session()
        self._lock = Lock()
        self._made = 0

    def new_database(self) -> str:
        """Make an empty one."""
        self._made += 1
        self.run(f"CREATE DATABASE shop{self._made}")
        return f"shop{self._made}"

    def run(self, statement: str) -> pa.Table:
        """Run a statement as a server with the usual settings would."""
        with self._lock:
            found = self._session.query(statement, "ArrowStream").bytes()
        return pa.ipc.open_stream(BytesIO(found)).read_all() if found else pa.table({})


@cache
def server() -> Server:
    """Start the engine, once."""
    return Server()


@dataclass(frozen=True)
class ClickHousePlace(DistantPlace):
    """A database of the engine; *closing* gives the drivers their own ways back."""

    closing: ExitStack

    @classmethod
    def new(cls, folder: Path) -> Self:
        """Make an empty one. Skips the test where an engine or a driver is not installed."""
        with ExitStack() as opening:
            opening.enter_context(_behind_the_drivers())
            url = f"clickhouse://user:password@localhost/{server().new_database()}"
            return cls(url, folder, opening.pop_all())

    def remove(self) -> None:
        """See the protocol."""
        server().run(f"DROP DATABASE {self.url.rpartition('/')[2]}")
        self.closing.close()


@contextmanager
def _behind_the_drivers() -> Iterator[None]:
    """Have the drivers send statements and files to this process."""
    driver = pytest.importorskip("clickhouse_driver")
    connect = pytest.importorskip("clickhouse_connect")
    pytest.importorskip("chdb")

    def execute(client: Any, query: str, params: Any = None, **_: Any) -> Any:
        """See Client.execute: parameters become text as the driver writes it."""
        context = SimpleNamespace(
            server_info=SimpleNamespace(get_timezone=lambda: "UTC"),
            client_settings=client.connection.context.client_settings,
        )
        text = client.substitute_params(query, params, context) if params is not None else query
        try:
            found = server().run(text)
        except RuntimeError as error:
            code = re.search(r"Code: (\d+)", str(error))
            raise driver.errors.ServerException(str(error), int(code[1]) if code else 0) from None
        columns = [(field.name, str(field.type)) for field in found.schema]
        return list(zip(*found.to_pydict().values(), strict=True)), columns

    @contextmanager
    def create_client(**_: Any) -> Iterator[Any]:
        """See clickhouse_connect.create_client: insert_file() needs no more than this."""

        def raw_insert(
            table: str, *, insert_block: Any, fmt: str, settings: dict[str, Any], **_: Any
        ) -> None:
            given = ", ".join(f"{name} = '{value}'" for name, value in settings.items())
            try:
                server().run(
                    f"INSERT INTO {table} SETTINGS {given}"
                    f" SELECT * FROM file('{insert_block.name}', '{fmt}')"
                )
            except RuntimeError as error:
                raise connect.driver.exceptions.DatabaseError(str(error)) from None

        yield SimpleNamespace(raw_insert=raw_insert)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver.Client, "execute", execute)
        patch.setattr(connect, "create_client", create_client)
        yield
