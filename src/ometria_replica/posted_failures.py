"""
Remembers, on this machine, which run of an account was last told to have failed.

The history in the warehouse lacks a run that could not reach it. A file holds the id of the run,
in the folder of the user's cache; its name is a hash of the warehouse's URL and the account.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ometria_replica.config import masked
from ometria_replica.ometria.rate_limit import cache_folder
from ometria_replica.whole_files import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ometria_replica.config import Config

logger = logging.getLogger(__name__)


def note_failure(config: Config, run_id: str | None) -> None:
    """Note that a run of these accounts was told to have failed; None if it has no id."""
    try:
        for file in _files(config):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, json.dumps({"run": run_id}), 0o600)
    except OSError as error:
        logger.info("that the run failed cannot be noted: %s", type(error).__name__)


def noted_failures(config: Config) -> set[str | None]:
    """Return the ids of the runs of these accounts that failed last; None for one without."""
    found = set()
    for file in _files(config):
        with suppress(OSError, ValueError, AttributeError):
            run_id = json.loads(file.read_bytes()).get("run")
            found.add(run_id if isinstance(run_id, str) else None)
    return found


def forget_failures(config: Config) -> None:
    """Forget what was noted of these accounts: a run of them went through."""
    with suppress(OSError):
        for file in _files(config):
            file.unlink(missing_ok=True)


def _files(config: Config) -> Iterator[Path]:
    with suppress(RuntimeError):  # A user without a home.
        folder, url = cache_folder(), masked(config.warehouse.url)
        here = Path.cwd() if re.match(r"\w+:///[^/]", url) else ""  # Of a relative path.
        for account in config.accounts:
            place = f"{here} {url} {account.source_id}"
            name = hashlib.sha256(place.encode(errors="replace")).hexdigest()[:32]
            yield folder / f"failed-{name}.json"
