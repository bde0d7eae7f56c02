"""Write the HTML report, for the commands that do, if its packages are installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from ometria_replica.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_replica.config import Config
    from ometria_replica.html_report.writing import Written

DAYS = 365
"""The days that the charts cover by default."""


def has_extra() -> bool:
    """Return whether the packages of the extra ``report`` are installed."""
    return all(find_spec(name) for name in ("jinja2", "vl_convert"))


def refuse_without_extra() -> None:
    """Raise ConfigError unless the packages of the extra ``report`` are installed, and load."""
    if not has_extra():
        raise ConfigError("The report needs more packages: pip install 'ometria-replica[report]'.")
    try:
        import jinja2  # noqa: F401
        import vl_convert  # noqa: F401
    except ImportError as error:  # Its engine needs a library that the system may lack.
        raise ConfigError(
            f"A package of the report is installed, but does not load: {error}."
            " Install a newer one: pip install --upgrade 'ometria-replica[report]'."
        ) from error


def write_report(settings: Config, file: Path, days: int = DAYS) -> Written:
    """Write the report into *file*. Raises ConfigError if that is something else."""
    refuse_without_extra()
    from ometria_replica.html_report.figures import read_figures
    from ometria_replica.html_report.writing import refuse_other_file, write_figures

    refuse_other_file(file)  # Before the warehouse is read.
    return write_figures(file, read_figures(settings, days=days))


def page(settings: Config, days: int) -> str:
    """Read the figures, and draw the page."""
    refuse_without_extra()
    from ometria_replica.html_report.figures import read_figures
    from ometria_replica.html_report.page import as_html

    return as_html(read_figures(settings, days=days))
