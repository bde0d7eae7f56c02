"""Build the models of the dbt package in the configured warehouse, and test them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ometria_replica import sql
from ometria_replica.clock import utc_now
from ometria_replica.errors import Busy, ConfigError, WarehouseError
from ometria_replica.models import variables
from ometria_replica.models.looking import look_at
from ometria_replica.models.place import place_of
from ometria_replica.models.process import Dbt, ignored
from ometria_replica.models.results import Built, data_tests_in, models_in
from ometria_replica.schema import MARTS_SCHEMA
from ometria_replica.temp_files import temp_folder
from ometria_replica.warehouse.queries.run import ask

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from pathlib import Path

    from ometria_replica.config import WarehouseSettings
    from ometria_replica.models.place import Place
    from ometria_replica.models.process import Tell
    from ometria_replica.models.request import Answer

_MOST_BUILDS = 3
"""As often as people are erased while models are built, of which these keep copies."""


@dataclass(frozen=True)
class Wish:
    """
    What to build: the models that *select* names and *exclude* does not, in dbt's syntax.

    *full_refresh* builds incremental models from the start. With *tests*, each model is tested
    before what depends on it is built. *given* are variables of the package. *threads* None: one
    model at a time in DuckDB, four in other databases. *into* is the DuckDB file for the models of
    a lake. *profiles* is a folder with a profile of the user, of which *target* is chosen.
    """

    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    full_refresh: bool = False
    tests: bool = True
    given: Mapping[str, Any] = field(default_factory=dict)
    threads: int | None = None
    into: str | None = None
    profiles: Path | None = None
    target: str | None = None


def build(
    settings: WarehouseSettings,
    wish: Wish,
    tell: Tell = ignored,
    clock: Callable[[], datetime] = utc_now,
) -> Built:
    """
    Build models, and test them. *tell* is called as models begin and end.

    Raises ConfigError if the extra is missing, the warehouse needs another profile, or nothing is
    chosen; WarehouseError if the warehouse has no table; and Busy, with nothing built, while a run
    writes the DuckDB file.
    """
    place = place_of(settings.url, wish.into, own_profile=wish.profiles is not None)
    place.refuse_without_adapter()
    variables.refuse_unknown(wish.given)
    _refuse_options(wish)
    started = clock()
    look = look_at(settings, place, started)
    with temp_folder(settings.limits.temp_directory) as folder:
        for _ in range(_MOST_BUILDS):
            dbt = Dbt(
                place, folder, settings.limits, look, wish.threads, wish.profiles, wish.target
            )
            answer = dbt.invoke(_arguments(wish), wish.given, tell)
            _refuse(answer, place, wish)
            before, look = look, look_at(settings, place, started)
            if look.erasures == before.erasures:
                break
    return Built(
        warehouse=place.name,
        started_at=started,
        seconds=(clock() - started).total_seconds(),
        models=models_in(answer, _rows(settings, place, answer)),
        tests=data_tests_in(answer),
        skipped=answer.switched_off,
        tables=look.tables,
    )


def _refuse_options(wish: Wish) -> None:
    """Raise ConfigError for a text that dbt would read as an option."""
    for each in (*wish.select, *wish.exclude):
        if each.startswith("-") or not each.strip():
            raise ConfigError(f"{each!r} names no model. `ometria-replica models list` names them.")
    if wish.target and wish.profiles is None:
        raise ConfigError("--target is one of your own profile. Name its folder: --profiles-dir.")


def _arguments(wish: Wish) -> list[str]:
    # dbt's own advice: tests of the logic, on rows of their own, are for those who change it.
    arguments = ["build", "--exclude-resource-type", "unit_test"]
    if not wish.tests:
        arguments += ["--exclude-resource-type", "test"]
    if wish.full_refresh:
        arguments.append("--full-refresh")
    for option, words in (("--select", wish.select), ("--exclude", wish.exclude)):
        arguments += [option, " ".join(words)] if words else []
    return arguments


def _refuse(answer: Answer, place: Place, wish: Wish) -> None:
    """Raise for what kept dbt from building anything."""
    if "locked" in {answer.problem, *(each.message for each in answer.results)}:
        raise Busy(
            f"{place.name} is open in another program, and DuckDB allows one writer at a time."
            " Models that were built before are kept. Close it there, then run again."
        )
    if answer.problem and wish.profiles is not None:
        raise ConfigError(
            f"dbt built no model by the profile in {wish.profiles}: {answer.problem}."
            " `dbt debug` tests a profile."
        )
    if answer.problem:
        raise WarehouseError(
            f"dbt built no model in {place.name}: {answer.problem}."
            " `ometria-replica check` tests the connection."
        )
    if not answer.results:
        chosen = " ".join((*wish.select, *wish.exclude))
        raise ConfigError(
            f"No model is chosen by {chosen!r}. `ometria-replica models list` names them."
            if chosen
            else "The package has no model of the tables that the warehouse has."
        )


def _rows(settings: WarehouseSettings, place: Place, answer: Answer) -> dict[str, int]:
    """Count the rows of the models that are tables; none where the warehouse is not queried."""
    tables = [
        each
        for each in answer.results
        if each.kind == "model" and each.materialized != "view" and each.status == "success"
    ]
    if place.own_profile or not tables:
        return {}
    query = " UNION ALL ".join(
        f"SELECT {sql.literal(each.name)} AS name, count(*) AS rows"
        f" FROM {sql.quoted(MARTS_SCHEMA)}.{sql.quoted(each.name)}"
        for each in tables
    )
    with ask(place.url, query, settings.limits) as found:
        return {
            name: int(rows)
            for batch in found.batches
            for name, rows in zip(*(column.to_pylist() for column in batch.columns), strict=True)
        }
