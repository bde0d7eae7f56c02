"""The dbt package that comes with the program: where its files are, and copies of it."""

from __future__ import annotations

import shutil
from pathlib import Path

from ometria_replica.errors import ConfigError

PROJECT = "dbt_project.yml"

_SHIPPED = Path(__file__).parent / "dbt"
"""In a wheel."""
_OF_A_CLONE = Path(__file__).resolve().parents[3] / "dbt"
"""In a clone of the repository, which an editable installation uses."""

_MADE_BY_DBT = ("target", "logs", "dbt_packages", "__pycache__", ".user.yml")


def folder() -> Path:
    """Find the folder of the package. Raises ConfigError if the installation lacks it."""
    for place in (_SHIPPED, _OF_A_CLONE):
        if (place / PROJECT).is_file():
            return place
    raise ConfigError(
        "The dbt package is not in this installation of ometria-replica. Install it again:"
        " pip install --force-reinstall --no-deps ometria-replica"
    )


def export(target: Path) -> list[str]:
    """
    Copy the package into *target*, which must not exist or be empty; list its files.

    Raises ConfigError, with nothing written, for a folder that has something in it.
    """
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise ConfigError(f"{target} exists and is not an empty folder. Name a new one.")
        shutil.copytree(
            folder(), target, ignore=shutil.ignore_patterns(*_MADE_BY_DBT), dirs_exist_ok=True
        )
    except (OSError, shutil.Error) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigError(
            f"The package cannot be copied to {target}: {reason}. Name another folder."
        ) from error
    return sorted(str(each.relative_to(target)) for each in target.rglob("*") if each.is_file())
