"""Syncs a simulated account: the simulator runs in a process of its own, over HTTP and S3."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ometria_replica.catalog import CATALOG
from ometria_replica.config import (
    AccountSettings,
    Config,
    FeedSettings,
    Secret,
)
from ometria_replica.duckdb_files import duckdb_catalog, duckdb_path, file_name_warning
from ometria_replica.errors import ConfigError, ReplicaError
from ometria_replica.replication import sync
from ometria_replica.sql import quoted
from ometria_replica.temp_files import temp_folder
from ometria_replica.text import aligned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ometria_replica.catalog import Catalog
    from ometria_replica.config import Limits, WarehouseSettings
    from ometria_replica.report import RunReport
    from ometria_replica.run_context import Progress

DEMO = "demo"
SAMPLE_ROWS = 3
SAMPLE_WIDTH = 24  # Characters of a value: four columns and a key fit a terminal.

_CLOSING = """\
That account was simulated. For yours:

    ometria-replica init     # asks for your API key and your bucket, and says what comes next

To look at {path}:

    ometria-replica query --warehouse {url} {statement}
    OMETRIA_ACCOUNT_ID={demo} OMETRIA_API_KEY=none ometria-replica status --warehouse {url}
    {python} -c {code}
"""


def demo(
    warehouse: WarehouseSettings,
    *,
    profiles: int,
    lists: int,
    events: int,
    progress: Progress,
    finish: Callable[[Config], str] = lambda _: "",
    catalog: Catalog = CATALOG,
) -> tuple[RunReport, str]:
    """
    Simulate an account and its bucket, sync both, and show a few rows of each table.

    *finish* gets the settings of the sync, and what it says is told too.

    Raises ConfigError if the simulator's extra is not installed, or if the warehouse is
    not a DuckDB file without an account.
    """
    path = duckdb_path(warehouse.url)
    if not path:
        raise ConfigError("The demo writes to a DuckDB file only. Use --warehouse duckdb:///FILE.")
    _refuse_other_accounts(path, warehouse.limits)
    with _simulator(profiles, lists, events) as ready:
        settings = _settings(ready, warehouse)
        report = sync(settings, catalog=catalog, progress=progress)
    parts = [*_samples(path, warehouse.limits, catalog), finish(settings), _closing(path, catalog)]
    return report, "\n\n".join(part for part in parts if part)


@contextmanager
def _simulator(profiles: int, lists: int, events: int) -> Iterator[Mapping[str, str]]:
    """Run the simulator in its own process, which ends when its standard input closes."""
    if find_spec("moto") is None or find_spec("boto3") is None:
        raise ConfigError(
            "The demo needs the simulator's S3 server. In a clone of the repository:"
            " pip install '.[simulator]', or make demo."
        )
    command = [sys.executable, "-m", "ometria_simulator", "serve", "--feed", "s3"]
    command += ["--profiles", str(profiles), "--lists", str(lists), "--events", str(events)]
    command += ["--until-stdin-closes", "--compression", "gzip"]
    with subprocess.Popen(  # noqa: S603 -- Our own module, numbers as arguments.
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield _ready(process)
        finally:
            process.communicate(timeout=30)


def _ready(process: subprocess.Popen[str]) -> Mapping[str, str]:
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise ReplicaError("The simulator stopped before it was ready; its error is above.")
    ready: dict[str, str] = json.loads(line)
    return ready


def _settings(ready: Mapping[str, str], warehouse: WarehouseSettings) -> Config:
    def secret(name: str) -> Secret:
        return Secret(ready[name], "the simulator")

    feed = FeedSettings(
        url=ready["feed_url"],
        endpoint_url=ready["s3_endpoint_url"],
        region=ready["aws_region"],
        access_key_id=secret("aws_access_key_id"),
        secret_access_key=secret("aws_secret_access_key"),
    )
    account = AccountSettings(
        account_id=DEMO, api_key=secret("api_key"), api_url=ready["api_url"], feed=feed
    )
    return Config(accounts=(account,), warehouse=warehouse)


def _refuse_other_accounts(path: str, limits: Limits) -> None:
    """Refuse a file with an account: a real one, or that of an earlier demo, which is another."""
    from ometria_replica.warehouse import open_warehouse  # noqa: PLC0415

    with open_warehouse(f"duckdb:///{path}", dry_run=True, limits=limits) as warehouse:
        owners = [owner.account_id for owner in warehouse.accounts.owners()]
    if DEMO in owners:
        raise ConfigError(
            f"{path} holds the account of an earlier demo. This one would mix two invented accounts"
            " in it: the simulator's account differs with the sizes and with the hour."
            f" Delete {path}, or use another file: --warehouse duckdb:///demo2.duckdb"
            " (in a clone: make demo DEMO='--warehouse duckdb:///demo2.duckdb')."
        )
    if others := [name for name in owners if name != DEMO]:
        raise ConfigError(
            f"{path} holds account '{others[0]}', and the demo would add simulated people to it."
            " Use another file: --warehouse duckdb:///demo.duckdb."
        )


def _samples(path: str, limits: Limits, catalog: Catalog) -> Iterator[str]:
    from ometria_replica.local_duckdb import open_duckdb  # noqa: PLC0415 -- Imports DuckDB, 130 ms.

    with (
        temp_folder(limits.temp_directory) as folder,
        open_duckdb(folder, limits, path=path, read_only=True) as connection,
    ):
        found = connection.execute("SELECT current_database()").fetchall()
        database = quoted(found[0][0])  # A file may have the name of the schema.
        for table in catalog:
            names = table.sample_columns
            columns = ", ".join(f"left({name}::VARCHAR, {SAMPLE_WIDTH} + 1)" for name in names)
            rows = connection.execute(
                f"SELECT {columns} FROM {database}.{table.full_name}"
                f" ORDER BY __sync_key LIMIT {SAMPLE_ROWS}"
            ).fetchall()
            shown = [[shown_cell(cell) for cell in line] for line in [names, *rows]]
            lines = aligned(shown, left=len(names))
            yield "\n".join([table.full_name, *(f"  {line}" for line in lines)])


def shown_cell(cell: str | None) -> str:
    """Show a value in a table of samples: a longer one than fits ends with an ellipsis."""
    if cell is None:
        return "-"
    cut = cell if len(cell) <= SAMPLE_WIDTH else f"{cell[: SAMPLE_WIDTH - 1]}…"
    return "".join(sign if sign.isprintable() else "·" for sign in cut)


def _closing(path: str, catalog: Catalog) -> str:
    """Show the next steps, and commands that run as they are printed."""
    table = catalog.tables[0].full_name
    if file_name_warning(path, catalog):
        table = f"{duckdb_catalog(path)}.{table}"
    opened = f"duckdb.connect({json.dumps(path)}, read_only=True)"
    code = f'import duckdb; {opened}.sql("FROM {table}").show()'
    return _CLOSING.format(
        path=path,
        url=shlex.quote(f"duckdb:///{path}"),
        statement=shlex.quote(f"FROM {table} LIMIT 3"),
        demo=DEMO,
        python=shlex.quote(sys.executable),
        code=shlex.quote(code),
    )
