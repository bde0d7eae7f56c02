from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from ometria_simulator import Fault
from tests.faults.child import Plan
from tests.faults.world import World
from tests.places import KINDS, DeltaPlace
from tests.warehouses.forgetting import texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tests.places import Place

KEY, SECRET = "canary-api-key-5f1e", "canary-aws-secret-77ab"
PERSON = {
    "email": "canary.person@example.com",
    "firstname": "Canaria",
    "lastname": "Vogelsang",
    "phone_number": "+44 7700 900123",
    "date_of_birth": "canary birthday",
}
SECRETS = (KEY, SECRET, *PERSON.values())
STATE = ("accounts", "watermarks", "leases", "deleted_upstream", "files", "runs")


LEAKING = ("records logged", "keys in errors")
"""The defects that leak."""


@pytest.mark.parametrize("defect", ["", *LEAKING])
def test_no_output_holds_a_secret_or_a_person(defect: str, tmp_path: Path) -> None:
    """Logs, reports, errors, state and crash dumps hold neither; with a seeded defect, some do."""
    with World(tmp_path, profiles=20, lists=2, email_events=20, key=KEY) as world:
        world.defect = defect
        _live_and_fail(world)
        leaks = _leaks(world)
    assert bool(leaks) == bool(defect), leaks


HIDING = """\
exclude = ["profiles.phone_number", "profiles.first_name", "profiles.date_of_birth"]
hash = ["*.email", "profiles.last_name"]
hash_key = "env:OMETRIA_HASH_KEY"
"""
KILLED = (
    "after lease", "after page", "before mapping", "after mapping", "after comparison",
    "before insert", "after insert", "before rejects", "after rejects", "before watermarks",
    "before commit of the batch", "after commit of the batch", "before detach", "after detach",
    "before fetch", "after fetch", "before file", "after file", "before file log",
)  # fmt: skip
OF_FILES = KILLED[KILLED.index("before fetch") :]


@pytest.mark.slow
@pytest.mark.parametrize("hides", [False, True], ids=["as they came", "hidden"])
def test_a_killed_run_leaves_no_person_in_its_temporary_files(hides: bool, tmp_path: Path) -> None:
    """Nor, where columns are hidden, anywhere: in the warehouse, its log, or the output."""
    temporary = tmp_path / "temporary"
    env = {"OMETRIA_TEMP_DIRECTORY": str(temporary), "OMETRIA_HASH_KEY": "a-secret-of-the-account"}
    with World(tmp_path, profiles=20, lists=2, email_events=20, settings=HIDING * hides) as world:
        person = world.account.add_profile(**PERSON)  # type: ignore[arg-type]
        for _ in range(300):
            world.account.add_event(PERSON["email"], "click", target_url=f"/?e={PERSON['email']}")
        world.account.add_unsubscribe(person.id, email_address=PERSON["email"])
        world.feed.export()
        for step in KILLED:
            plan = Plan(step, table="email_events" * (step in OF_FILES), debug=True, env=env)
            world.run("-v", "sync", "--full", plan=plan, code=-9)
            assert list(temporary.iterdir())
            assert not _people_in(temporary.rglob("*")), step
            if hides:
                assert not _people_in(tmp_path.glob("replica*")), step
                assert not _people_in(tmp_path.glob("child-*")), step
        world.run("sync", plan=Plan(env=env))
        assert not list(temporary.iterdir())
        ((found,),) = _count(world, "email_events", PERSON["email"])
    assert bool(found) is not hides


STEPS_OF = {
    "postgres": ("after page", "after mapping", "after insert", "before rejects",
                 "before commit of the batch", "after commit of the batch", "after file"),
    "delta": ("after page", "after mapping", "before remote rows", "after remote rows",
              "before remote state", "after remote state", "after file"),
}  # fmt: skip
ERASING = {
    "postgres": ("after suppressions", "after erasure of profiles", "after quotations",
                 "after end of the erasure", "before vacuum"),
    "delta": ("after suppressions", "after erasure of email_events", "before quotations",
              "after remote rows", "before end of the erasure"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", STEPS_OF)
def test_a_killed_run_leaves_no_hidden_value_in_any_warehouse(kind: str, tmp_path: Path) -> None:
    """In each table of PostgreSQL, and each file of a lake, old versions and logs included."""
    place = KINDS[kind](tmp_path)
    env = {"OMETRIA_HASH_KEY": "a-secret-of-the-account"}
    with _with_a_person(tmp_path, place, HIDING) as world:
        for step in STEPS_OF[kind]:
            plan = Plan(step, table="email_events" * (step == "after file"), debug=True, env=env)
            world.run("-v", "sync", "--full", plan=plan, code=-9)
            assert not _places_with_a_person(place), step
        world.run("sync", plan=Plan(env=env))
        assert not _places_with_a_person(place)
        with place.looking() as connection:
            (events,) = connection.execute(
                "SELECT count(*) FROM ometria.email_events WHERE target_url LIKE '%[address]%'"
                " OR target_url LIKE '/?%'"
            ).fetchone() or (0,)
        assert events >= 2  # One of each address: those of one time have one key.
    place.remove()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ERASING)
def test_nothing_of_an_erased_person_is_left_after_kills(kind: str, tmp_path: Path) -> None:
    """Nor in what other people's rows quote; a sync of the same sources brings nothing back."""
    place = KINDS[kind](tmp_path)
    with _with_a_person(tmp_path, place, "") as world:
        world.run("sync")
        assert _places_with_a_person(place)
        erase = ("erase", "--email", PERSON["email"], "--yes")
        for step in ERASING[kind]:
            world.run(*erase, plan=Plan(step), code=-9)
        world.run(*erase)
        assert not _places_with_a_person(place)
        for options in ((), ("--full",)):
            world.run("sync", *options)
            assert not _places_with_a_person(place), options
    place.remove()


def _with_a_person(folder: Path, place: Place, settings: str) -> World:
    """Make a small account with the person, whose address another person's link has."""
    world = World(folder, profiles=20, lists=2, email_events=20, settings=settings, place=place)
    person = world.account.add_profile(**PERSON)  # type: ignore[arg-type]
    other = next(profile.email for profile in world.account.profiles if profile.email)
    for address in [PERSON["email"]] * 20 + [other] * 10:
        world.account.add_event(address, "click", target_url=f"/?e={PERSON['email']}")
    world.account.add_unsubscribe(person.id, email_address=PERSON["email"])
    world.feed.export()
    return world


def _places_with_a_person(place: Place) -> set[str]:
    """Name the files of a lake, or the tables of PostgreSQL, that hold something of the person."""
    found = _texts_of_files(place) if isinstance(place, DeltaPlace) else _texts_of_tables(place)
    values = [value.encode() for value in PERSON.values()]
    return {name for name, contents in found if any(v in text for text in contents for v in values)}


def _texts_of_files(place: DeltaPlace) -> Iterator[tuple[str, Iterator[bytes]]]:
    return ((str(file), texts(file)) for file in place.folder.rglob("*") if file.is_file())


def _texts_of_tables(place: Place) -> Iterator[tuple[str, Iterator[bytes]]]:
    with place.looking() as connection:
        tables = connection.execute(
            "SELECT schema_name || '.' || table_name FROM duckdb_tables()"
        ).fetchall()
        for (name,) in tables:
            yield name, iter([str(connection.execute(f"FROM {name}").fetchall()).encode()])


def _people_in(paths: Iterable[Path]) -> set[str]:
    """Name the files that hold something of the person; a link to a file that is gone does not."""
    return {
        path.name
        for path in paths
        if path.is_file() and not path.is_symlink()
        and any(value.encode() in path.read_bytes() for value in PERSON.values())
    }  # fmt: skip


def _count(world: World, table: str, email: str) -> list[tuple[int]]:
    with world.place.looking() as connection:
        query = f"SELECT count(*) FROM ometria.{table} WHERE email = ?"
        return connection.execute(query, [email]).fetchall()


def _live_and_fail(world: World) -> None:
    person = world.account.add_profile(**PERSON)  # type: ignore[arg-type]
    world.account.add_event(PERSON["email"], "open", campaign_title="Spring")
    world.account.add_unsubscribe(person.id, email_address=PERSON["email"])
    world.feed.export()
    loud = Plan(debug=True, env={"AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ACCESS_KEY_ID": "AKIA7"})
    world.run("-v", "sync", "--json", plan=loud)
    if world.defect:  # One run that succeeds and one that fails show it.
        world.server.faults.sometimes("/v2", Fault(status=403, body=KEY), 1.0)
        world.run("-v", "sync", plan=loud, code=None)
        return
    for command in (["config"], ["state", "show"], ["runs", "--json"], ["rejects", "list"]):
        world.run(*command, plan=loud)
    world.account.advance(timedelta(days=1))
    loud = replace(loud, env={**loud.env, "OMETRIA_LOG_FORMAT": "json"})
    for fault in (
        Fault(status=500, body=str(PERSON)),
        Fault(status=403, body=KEY),
        Fault.html_200(),
    ):
        world.server.faults.sometimes("/v2", fault, 1.0)
        world.run("-v", "sync", plan=loud, code=None)
        world.server.faults.clear()
    world.feed.poison("canary.csv", f"<html>{PERSON['email']}".encode())
    world.run("-v", "sync", "--full", plan=loud, code=None)
    for do in ("raise", "abort"):
        plan = Plan("after insert", do=do, debug=True, env=loud.env)
        world.run("-v", "sync", "--full", plan=plan, code=None)


def _leaks(world: World) -> set[str]:
    """List the outputs that hold a secret, with the secret."""
    texts = {path.name: path.read_text(errors="replace") for path in world.folder.glob("child-*")}
    texts |= {name: str(world.contents.state(name)) for name in STATE}
    texts["rejects"] = str([{**row, "raw": None} for row in world.contents.state("rejects")])
    return {
        f"{name}: {secret}" for name, text in texts.items() for secret in SECRETS if secret in text
    }
