"""The folders of data sets and the expected results. Imports no heavy module."""

from __future__ import annotations

import json
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(__file__).parent / "data"
VERSION = 1
"""Version of the generator, in the name of the folder, so that old data is not reused."""


@dataclass(frozen=True)
class DataSet:
    """The files of the first load and of the upsert, and the expected table after each."""

    folder: Path
    events: int
    files: int

    @classmethod
    def named(cls, events: int, files: int) -> DataSet:
        """Return the data set of these sizes, which need not exist."""
        return cls(DATA / f"v{VERSION}-{events}-{files}", events, files)

    @property
    def first(self) -> Path:
        """The folder of the first load."""
        return self.folder / "first"

    @property
    def upsert(self) -> Path:
        """The folder of the upsert, a tenth of the first load."""
        return self.folder / "upsert"

    @property
    def batch(self) -> int:
        """The number of rows in the upsert."""
        return self.events // 10

    def expected(self, step: str) -> dict[str, int]:
        """Return the rows, keys and checksum after *step*: ``first`` or ``upsert``."""
        answer: dict[str, int] = json.loads((self.folder / "expected.json").read_text())[step]
        return answer


@contextmanager
def scratch() -> Iterator[Path]:
    """Create a folder beside the data, on the same disk, and remove it at the end."""
    base = DATA / "work"
    base.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=base) as folder:
        yield Path(folder)
