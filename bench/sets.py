"""Where the data lies, and what a warehouse should hold after it. Imports nothing heavy."""

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
"""Of the generator. Part of the folder's name, so that old data is never taken for new."""


@dataclass(frozen=True)
class DataSet:
    """Files to load first, files to load then, and what the table holds after each."""

    folder: Path
    events: int
    files: int

    @classmethod
    def named(cls, events: int, files: int) -> DataSet:
        """Name the data set of these sizes, whether it was made or not."""
        return cls(DATA / f"v{VERSION}-{events}-{files}", events, files)

    @property
    def first(self) -> Path:
        """The folder of the first load."""
        return self.folder / "first"

    @property
    def upsert(self) -> Path:
        """The folder of the tenth that follows."""
        return self.folder / "upsert"

    @property
    def batch(self) -> int:
        """How many rows the tenth has."""
        return self.events // 10

    def expected(self, step: str) -> dict[str, int]:
        """Tell rows, keys and checksum after *step*: ``first`` or ``upsert``."""
        answer: dict[str, int] = json.loads((self.folder / "expected.json").read_text())[step]
        return answer


@contextmanager
def scratch() -> Iterator[Path]:
    """Make a folder beside the data, on the same disk, and remove it."""
    base = DATA / "work"
    base.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=base) as folder:
        yield Path(folder)
