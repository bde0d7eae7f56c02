from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from ometria_simulator import Fault
from tests.faults.child import Plan
from tests.faults.world import World

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

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
    texts |= {name: str(world.state(name)) for name in STATE}
    texts["rejects"] = str([{**row, "raw": None} for row in world.state("rejects")])
    return {
        f"{name}: {secret}" for name, text in texts.items() for secret in SECRETS if secret in text
    }
