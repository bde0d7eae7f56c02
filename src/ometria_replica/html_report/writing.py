"""Write the page to a file, and never over a file that is something else."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC
from typing import TYPE_CHECKING

from ometria_replica.errors import ConfigError
from ometria_replica.html_report.page import GENERATOR, as_html
from ometria_replica.json_documents import document
from ometria_replica.status_report import verdict
from ometria_replica.whole_files import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_replica.html_report.figures import Figures


@dataclass(frozen=True)
class Written:
    """
    A page of *bytes* in *file*, and what its head says: *all_right*, and the *verdict* in words.

    *asked_at* is the time of its figures, as ISO 8601 in UTC.
    """

    file: str
    bytes: int
    asked_at: str
    all_right: bool
    verdict: str


_HEAD = 1_000  # Bytes that hold the line of the generator.


def refuse_other_file(file: Path) -> None:
    """Raise ConfigError if *file* exists and is no page that this program wrote."""
    if not (file.exists() or file.is_symlink()):
        return
    try:
        is_ours = file.is_file() and not file.is_symlink() and _is_page(file)
    except OSError as error:
        raise _not_written(file, error) from error
    if file.is_dir():
        raise ConfigError(
            f"{file} is a folder. Nothing was overwritten."
            f" Name a file in it, such as {file / 'report.html'}."
        )
    if not is_ours:
        raise ConfigError(
            f"{file} exists and is not a report of this program. Nothing was overwritten."
            " Name another file, or remove it."
        )


def write_figures(file: Path, figures: Figures) -> Written:
    """Write the page of *figures* to *file*. Raises as :func:`write_page`."""
    page, status = as_html(figures), figures.status
    write_page(file, page)
    asked_at = status.asked_at.astimezone(UTC).isoformat()
    return Written(str(file), len(page.encode()), asked_at, status.is_all_right, verdict(status))


def written_as_json(written: Written) -> str:
    """Write what was written as a JSON object."""
    return document("report", asdict(written))


def write_page(file: Path, page: str) -> None:
    """Write *page* to *file*, at once. Raises ConfigError, with the file as it was."""
    refuse_other_file(file)
    try:
        write_whole(file, page)
    except OSError as error:
        raise _not_written(file, error) from error


def _is_page(file: Path) -> bool:
    with file.open("rb") as opened:
        return GENERATOR.encode() in opened.read(_HEAD)


def _not_written(file: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{file} cannot be written: {error.strerror}. Name another file.")
