"""List the models of the package, and write its documentation, by dbt."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ometria_replica.catalog import CATALOG
from ometria_replica.clock import utc_now
from ometria_replica.config import NO_LIMITS
from ometria_replica.errors import ConfigError, WarehouseError
from ometria_replica.json_documents import document
from ometria_replica.models.looking import Look, look_at
from ometria_replica.models.place import installed_place, place_of
from ometria_replica.models.process import Dbt
from ometria_replica.temp_files import temp_folder
from ometria_replica.text import aligned
from ometria_replica.whole_files import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from ometria_replica.config import WarehouseSettings

_PAGE = "static_index.html"
_MOST_SHOWN = 100  # Characters of a description in the text.


@dataclass(frozen=True)
class Listed:
    """
    A model: its *name*, how it is kept (*kind*), its *layer* in the package, and what one row is.

    *tables* of the replica are those that it is made of; without them it is left out.
    """

    name: str
    kind: str
    layer: str
    about: str
    tables: tuple[str, ...]


def read_models() -> list[Listed]:
    """Read the models from the files of the package. Nothing is contacted."""
    place = installed_place()
    look = Look(tuple(CATALOG.every.names), "ometria", frozenset())
    with temp_folder() as folder:
        answer = Dbt(place, folder, NO_LIMITS, look).invoke(["parse"], {})
        if answer.problem:
            raise WarehouseError(f"dbt could not read the package: {answer.problem}.")
        manifest = json.loads((folder / "target" / "manifest.json").read_text("utf-8"))
    return sorted(
        _models(manifest), key=lambda each: (each.layer != "marts", each.layer, each.name)
    )


def _models(manifest: Mapping[str, Any]) -> Iterator[Listed]:
    for node in manifest["nodes"].values():
        if node["resource_type"] == "model":
            yield Listed(
                node["name"],
                node["config"]["materialized"],
                node["fqn"][1],
                " ".join(node["description"].split()),
                tuple(sorted(_sources(manifest, node))),
            )


def _sources(manifest: Mapping[str, Any], node: Mapping[str, Any]) -> set[str]:
    found: set[str] = set()
    for name in node["depends_on"]["nodes"]:
        if name in manifest["sources"]:
            source = manifest["sources"][name]
            found |= {source["name"]} if source["source_name"] == "ometria" else set()
        elif name in manifest["nodes"]:
            found |= _sources(manifest, manifest["nodes"][name])
    return found


def listed_as_text(models: Sequence[Listed]) -> str:
    """Write the models as a table."""
    lines = [["model", "kind", "layer", "tables", "one row is"]]
    lines += [
        [each.name, each.kind, each.layer, ", ".join(each.tables), _short(each.about)]
        for each in models
    ]
    return "\n".join(aligned(lines, left=5))


def listed_as_json(models: Sequence[Listed]) -> str:
    """Write the models as a JSON object."""
    return document("models-list", {"models": [asdict(each) for each in models]})


def _short(text: str) -> str:
    first = text.partition(". ")[0].rstrip(".")
    return first if len(first) <= _MOST_SHOWN else f"{first[: _MOST_SHOWN - 1]}…"


def write_docs(
    settings: WarehouseSettings,
    file: Path,
    into: str | None = None,
    profiles: Path | None = None,
    target: str | None = None,
) -> None:
    """
    Write dbt's documentation of the models in the warehouse into the HTML file *file*.

    Raises ConfigError if that exists and is another page, and as :func:`.build.build`.
    """
    place = place_of(settings.url, into, own_profile=profiles is not None)
    place.refuse_without_adapter()
    if file.exists() and not _is_page(file):
        raise ConfigError(f"{file} exists and is not such a page. Name another file.")
    look = look_at(settings, place, utc_now())
    with temp_folder(settings.limits.temp_directory) as folder:
        dbt = Dbt(place, folder, settings.limits, look, profiles=profiles, target=target)
        answer = dbt.invoke(["docs", "generate", "--static"], {})
        page = folder / "target" / _PAGE
        if answer.problem or not page.is_file():
            raise WarehouseError(
                f"dbt could not describe the models in {place.name}: {answer.problem or 'unknown'}."
            )
        text = page.read_text(encoding="utf-8")
    try:
        write_whole(file, text)
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be written: {error.strerror}. Name another file."
        ) from error


def _is_page(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return b"dbt" in opened.read(20_000)
    except OSError:
        return False
