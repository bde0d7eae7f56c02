"""Start the process of dbt, listen to it, and end it with the command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ometria_replica.errors import WarehouseError
from ometria_replica.models import package
from ometria_replica.models.profile import write_profile
from ometria_replica.models.request import Answer, Request
from ometria_replica.permissions import PRIVATE_FOLDER
from ometria_replica.schema import DATA_SCHEMA, HISTORY_SCHEMA, STATE_SCHEMA
from ometria_replica.warehouse.state_tables import DELETED_UPSTREAM, WATERMARKS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ometria_replica.config import Limits
    from ometria_replica.models.looking import Look
    from ometria_replica.models.place import Place

_PATIENCE = 20.0
"""Seconds in which dbt may roll back and cancel what runs, before it is killed."""

_FLAGS = (
    "--no-use-colors",
    "--quiet",
    "--no-print",
    *("--log-level", "none"),
    *("--log-level-file", "none"),
    "--no-send-anonymous-usage-stats",
    "--no-version-check",
    "--no-partial-parse",
)
"""It writes no log, since its messages quote values, and sends nothing."""

_NOT_PASSED = ("OMETRIA_", "DBT_")
"""Beginnings of the variables that dbt does not get: our secrets, and settings of dbt's own."""


_OF_THE_STATE = (DELETED_UPSTREAM, WATERMARKS)
"""What models read of the state."""


class Tell(Protocol):
    """Is told of each *model* as it begins and ends, with dbt's word for its *status*."""

    def __call__(self, model: str, status: str, /) -> object:
        """Take it."""


def ignored(_model: str, _status: str, /) -> None:
    """Take no notice of what begins and ends."""


@dataclass(frozen=True)
class Dbt:
    """
    The dbt of one command.

    All of its files are in the temporary *folder*. *profiles* and *target* are those of the
    user's own profile, if there is one, and *threads* how many models are built at once; None for
    what suits the database. *look* says what is in the warehouse.
    """

    place: Place
    folder: Path
    limits: Limits
    look: Look
    threads: int | None = None
    profiles: Path | None = None
    target: str | None = None

    def invoke(
        self, arguments: Sequence[str], variables: Mapping[str, Any], tell: Tell = ignored
    ) -> Answer:
        """
        Run a command of dbt on the package.

        Raises WarehouseError if its process ends without an answer.
        """
        profiles = self.folder / "profile"
        if self.profiles is None:
            profiles.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
            write_profile(self.place, profiles, self.limits, self.threads, self.look.database)
        values = {
            "ometria_tables": list(self.look.tables),
            "ometria_state_schema": None if self.look.erasures is None else STATE_SCHEMA,
            "ometria_history": list(self.look.histories),
            **self.place.variables,
            **variables,
        }
        made = self.folder / "target"
        request = Request(
            arguments=[
                *_FLAGS,
                *arguments,
                *("--project-dir", str(package.folder())),
                *("--profiles-dir", str((self.profiles or profiles).absolute())),
                *("--target-path", str(made)),
                *("--log-path", str(self.folder / "logs")),
                *("--vars", json.dumps(values)),
                *(("--target", self.target) if self.target else ()),
                *(("--threads", str(self.threads)) if self.threads else ()),
            ],
            target=str(made),
            postgres=self.place.url if self.place.kind == "postgres" else None,
            lake=self.place.lake,
            tables=[
                *(f"{DATA_SCHEMA}.{name}" for name in self.look.tables),
                *(f"{HISTORY_SCHEMA}.{name}" for name in self.look.histories),
                *(f"{STATE_SCHEMA}.{table.name}" for table in _OF_THE_STATE),
            ],
        )
        return self._asked(request, tell)

    def _asked(self, request: Request, tell: Tell) -> Answer:
        with self._started() as process:
            assert process.stdin is not None  # noqa: S101 -- both are pipes.
            assert process.stdout is not None  # noqa: S101
            with suppress(BrokenPipeError):
                process.stdin.write(json.dumps(asdict(request)) + "\n")
                process.stdin.flush()
            for line in process.stdout:
                said = json.loads(line)
                if "end" in said:
                    with suppress(subprocess.TimeoutExpired):  # DuckDB writes what is in its log.
                        process.wait(_PATIENCE)
                    return Answer.of(said["end"])
                tell(said["model"], said["status"])
            code = process.wait()
        raise WarehouseError(
            f"The process of dbt ended without an answer (exit code {code})."
            " Models that were built before are kept. If the machine has too little memory, lower"
            " warehouse.memory_limit (OMETRIA_MEMORY_LIMIT). Then run again."
        )

    @contextmanager
    def _started(self) -> Iterator[subprocess.Popen[str]]:
        """
        Start the process, in a session of its own: the terminal's Ctrl-C reaches it through us.

        When the block ends, it is interrupted if it still runs, so that dbt rolls back.
        """
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ometria_replica.models.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # Warnings and traces, which may quote values.
            text=True,
            encoding="utf-8",
            env=self._environment(),
            umask=self._umask(),
            start_new_session=True,
        )
        try:
            yield process
        finally:
            _end(process)

    def _environment(self) -> dict[str, str]:
        """Keep what the user's own profile may name; else nothing of other projects of dbt."""
        left_out = _NOT_PASSED if self.profiles is None else _NOT_PASSED[:1]
        kept = {name: text for name, text in os.environ.items() if not name.startswith(left_out)}
        return {**kept, "DO_NOT_TRACK": "1", "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}

    def _umask(self) -> int:
        """Make new files as closed as the DuckDB file is; to all but the owner if it is new."""
        file = Path(self.place.file) if self.place.file else None
        if file is None or not file.exists():
            return 0o077
        return 0o077 & ~file.stat().st_mode


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()
