"""A person in a warehouse, who is deleted: and a search for every byte of hers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from ometria_replica.selection import Selection, Values
from ometria_replica.tables import EMAIL_EVENTS, PROFILES
from ometria_replica.warehouse.state_tables import REJECTS
from tests.forked import ROOT
from tests.places import DeltaPlace, DuckDBPlace, IcebergPlace
from tests.warehouses.loads import Load, opened, rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ometria_replica.warehouse.warehouse import Warehouse
    from tests.places import Place

ANN = "ann.of.the.planted@example.com"
BOB = "bob.who.stays@example.com"


def profile(number: int, email: str) -> str:
    """Write a profile of the API, with a day of birth that is none: it is rejected."""
    return json.dumps(
        {"id": f"p{number}", "email": email, "firstname": email, "date_of_birth": email}
    )


def event(email: str) -> str:
    """Write an event of the feed."""
    return json.dumps(
        {"to_address": email, "event_type": "open", "dt_occurred": "2026-03-01T10:00:00Z"}
    )


def loaded(place: Place) -> None:
    """Load Ann, and Bob, in a run of its own."""
    with opened(place) as warehouse:
        Load(PROFILES, [profile(1, ANN), profile(2, BOB)]).into(warehouse)
        for email in (BOB, ANN):  # In a lake, in files of their own.
            Load(EMAIL_EVENTS, [event(email)]).into(warehouse)


def delete_ann(warehouse: Warehouse) -> None:
    """Delete her rows, and the rejects that quote them."""
    for table in (PROFILES, EMAIL_EVENTS):
        warehouse.delete(table, Selection("uk", Values("email", (ANN,))))
    with warehouse.sessions.writing("a test"):
        engine = warehouse._engine
        rejects = engine.name(REJECTS)
        engine.execute(f"DELETE FROM {rejects} WHERE raw LIKE ?", [f"%{ANN}%"])


def forgotten(place: Place) -> str:
    """Delete her rows, then what they have left; return what the user is told."""
    with opened(place) as warehouse:
        delete_ann(warehouse)
        return warehouse.forget_deleted()


def files_with(email: str, folder: Path) -> list[str]:
    """
    Name the files below a folder in which an address occurs, or its beginning.

    Statistics hold no more than some 16 characters of it.
    """
    return [
        str(file.relative_to(folder))
        for file in folder.rglob("*")
        if file.is_file() and any(email[:10].encode() in text for text in texts(file))
    ]


def texts(file: Path) -> Iterator[bytes]:
    """Give the bytes of a file, as they are and decoded."""
    yield file.read_bytes()
    if file.suffix == ".parquet":
        yield str(pq.read_table(file).to_pylist()).encode()
    elif file.suffix == ".avro":
        *blocks, _ = file.read_bytes().split(file.read_bytes()[-16:])
        for block in blocks[1:]:  # The first is the header.
            yield zlib.decompress(_without_number(_without_number(block)), -15)


def _without_number(block: bytes) -> bytes:
    """Leave out the number, in Avro's variable length, with which a block begins."""
    length = next(place for place, byte in enumerate(block) if byte < 128)
    return block[length + 1 :]


def emails(place: Place) -> list[object]:
    """List the addresses of the profiles that are there."""
    return [row["email"] for row in rows(place, "profiles")]


PLACES: dict[str, Any] = {"duckdb": DuckDBPlace, "delta": DeltaPlace, "iceberg": IcebergPlace}
PROGRAM = """
import os, resource, signal, sys
from pathlib import Path
from ometria_replica import failpoints
from tests.warehouses.forgetting import PLACES, delete_ann, opened

for kind, path, at, room in zip(*[iter(sys.argv[1:])] * 4):
    if os.fork() == 0:
        failpoints.listen(lambda step: step == at and os.kill(os.getpid(), signal.SIGKILL))
        with opened(PLACES[kind](Path(path))) as warehouse:
            delete_ann(warehouse)
            if int(room):
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (int(room), int(room)))
            print(warehouse.forget_deleted(), flush=True)
        os._exit(0)
    print(os.wait()[1], flush=True)
"""


def forget_elsewhere(*ways: tuple[str, Path, str, int]) -> list[str]:
    """Forget in processes that are killed at a step, or may write files of so many bytes."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *(str(word) for way in ways for word in way)],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()
