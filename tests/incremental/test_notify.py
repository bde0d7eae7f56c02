"""Notices of how runs end, posted to a webhook."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import re
import signal
import socket
import threading
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ometria_replica import notify as notices
from ometria_replica.config import Config, explain, load_config
from ometria_replica.config.secrets import Secret, holds_token
from ometria_replica.errors import AccessDenied, Busy, ConfigError, Unavailable
from ometria_replica.metrics import EndedRun
from ometria_replica.notify import notify
from ometria_replica.running import measured
from ometria_replica.stopping import Stopped
from tests.e2e.program import api_env, invoke
from tests.incremental.shops import NOON, account, config
from tests.ometria.listener import Listener, Reply, listening
from tests.ometria.test_certificates import over_tls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ometria_simulator import Account, Server

TOKEN = "T0CANARY/B0CANARY/x1canaryx2canaryx3canary"
PERSON = "ann.canary@example.com"
OK = Reply(b"ok", content_type="text/plain")


@pytest.fixture
def webhook() -> Iterator[Listener]:
    """Serve an address that takes everything."""
    with listening(lambda _: OK) as running:
        yield running


@pytest.fixture
def env(server: Server, warehouse: Path, webhook: Listener) -> dict[str, str]:
    """Return an environment in which a sync succeeds, and tells the webhook."""
    return api_env(server, warehouse) | {
        "OMETRIA_SOURCE_ID": "uk",
        "OMETRIA_NOTIFY": address(webhook),
    }


def address(webhook: Listener) -> str:
    return webhook.url.replace("/v2", f"/services/{TOKEN}")


def posted(webhook: Listener) -> list[dict[str, Any]]:
    """Return what was posted since this was asked for the last time."""
    found = [json.loads(asked.body) for asked in webhook.asked]
    for asked in webhook.asked:
        assert asked.path == f"/services/{TOKEN}"
        assert asked.headers["Content-Type"] == "application/json"
    webhook.asked.clear()
    return found


def events(webhook: Listener) -> list[str]:
    return [each["event"] for each in posted(webhook)]


# --- what is told -------------------------------------------------------------------------------


def test_a_failure_and_the_recovery_from_it_are_told_once_each(
    server: Server, env: dict[str, str], webhook: Listener
) -> None:
    """A run that succeeds as the one before it did says nothing; each failed run says so."""
    for is_refused, told in (
        (False, []),
        (True, ["failed"]),
        (True, ["failed"]),
        (False, ["recovered"]),
        (False, []),
    ):
        server.no_rights = frozenset({"lists"} if is_refused else ())
        invoke("sync", "lists", env=env)
        assert events(webhook) == told


def test_a_notice_says_what_failed_where(
    shop: Account, server: Server, env: dict[str, str], webhook: Listener
) -> None:
    """In fields for programs and in a sentence for people, without a person, a key or a secret."""
    shop.update_profile("ann", email=PERSON)
    server.no_rights = frozenset({"lists"})

    ended = invoke("sync", "--json", env=env)

    report = json.loads(ended.stdout)
    (notice,) = posted(webhook)
    assert notice == {
        "event": "failed",
        "text": f"ometria-replica: the run {report['run_id']} of uk failed after"
        f" {notice['seconds']:.1f} s. {notice['reason']}",
        "run": report["run_id"],
        "accounts": ["uk"],
        "exit_code": 3,
        "error": "AccessDenied",
        "reason": "Ometria refused the API key for GET /lists mode=all offset=0 (403). Check the"
        " key's permissions, then run `ometria-replica check`.",
        "started_at": notice["started_at"],
        "seconds": notice["seconds"],
        "version": report["version"],
    }
    for secret in (PERSON, server.key, TOKEN):
        assert secret not in json.dumps(notice)


def test_rejects_are_told_with_strict_only(
    shop: Account, env: dict[str, str], webhook: Listener
) -> None:
    """They are no failure: a run without the option succeeds, and recovers from nothing."""
    shop.update_profile("ann", date_of_birth="canary birthday")
    told = []
    for options in ((), ("--strict",), ("--strict", "--dry-run"), ()):
        invoke("sync", "profiles", *options, env=env)
        told.append(posted(webhook))

    assert [[each["event"] for each in notice] for notice in told] == [[], ["rejects"], [], []]
    (notice,) = told[1]
    assert (notice["exit_code"], notice["error"]) == (4, "RejectedRecords")
    assert notice["reason"].startswith("1 value, record or file was rejected")
    assert "canary" not in json.dumps(notice)


def test_a_run_that_works_again_but_rejects_tells_both(
    shop: Account, server: Server, env: dict[str, str], webhook: Listener
) -> None:
    """Else nobody would hear that the failure is over."""
    shop.update_profile("ann", date_of_birth="soon")
    server.no_rights = frozenset({"profiles"})
    invoke("sync", "profiles", env=env)
    server.no_rights = frozenset()
    invoke("sync", "profiles", "--strict", env=env)

    assert events(webhook) == ["failed", "recovered", "rejects"]


def test_a_backfill_tells_too_and_each_account_has_a_history_of_its_own(
    server: Server, env: dict[str, str], webhook: Listener, tmp_path: Path
) -> None:
    """The success of one account is no recovery of another."""
    toml = tmp_path / "ometria.toml"
    toml.write_text(
        "".join(
            f'[[accounts]]\naccount_id = "{name}"\napi_url = "{server.url}"\n'
            'api_key = "env:KEY_OF_TEST"\nrequests_per_second = 1000\n'
            for name in ("uk", "us")
        )
    )
    of_both = {"KEY_OF_TEST": server.key, "OMETRIA_CONFIG": str(toml)} | {
        name: env[name] for name in ("OMETRIA_NOTIFY", "OMETRIA_WAREHOUSE_URL")
    }
    server.no_rights = frozenset({"lists"})
    invoke("backfill", "--since", "2026-01-01", "lists", "--account", "uk", env=of_both)
    server.no_rights = frozenset()

    assert [each["accounts"] for each in posted(webhook)] == [["uk"]]
    for name, told in (("us", []), ("uk", ["recovered"])):
        invoke("sync", "lists", "--account", name, env=of_both)
        assert events(webhook) == told


@pytest.mark.slow
def test_an_account_recovers_from_its_own_failures_only(
    server: Server, env: dict[str, str], webhook: Listener, tmp_path: Path
) -> None:
    """Whatever failed beside it in the same run, and whatever else ran meanwhile."""
    toml = tmp_path / "ometria.toml"
    toml.write_text(
        "".join(
            f'[[accounts]]\naccount_id = "{name}"\napi_url = "{server.url}"\n'
            f'api_key = "env:KEY_OF_{name.upper()}"\nrequests_per_second = 1000\n'
            for name in ("uk", "us")
        )
    )
    right = {"KEY_OF_UK": server.key, "KEY_OF_US": server.key, "OMETRIA_CONFIG": str(toml)} | {
        name: env[name] for name in ("OMETRIA_NOTIFY", "OMETRIA_WAREHOUSE_URL")
    }
    wrong = right | {"KEY_OF_US": "wrong"}
    for options, keys, told in (
        ((), wrong, ["failed"]),
        (("--account", "uk"), right, []),
        ((), right, ["recovered"]),
        ((), right, []),
    ):
        invoke("sync", "lists", *options, env=keys)
        assert events(webhook) == told


def test_a_run_that_was_killed_is_recovered_from(
    server: Server, warehouse: Path, env: dict[str, str], webhook: Listener
) -> None:
    """It could tell nothing itself; the next one has it in the history."""
    invoke("sync", "lists", env=env)

    with duckdb.connect(warehouse) as connection:
        connection.execute(
            "UPDATE ometria_replica.runs SET report = replace(report,"
            ' \'"outcome": "succeeded"\', \'"outcome": "did not end"\')'
        )
    invoke("sync", "lists", env=env)

    assert events(webhook) == ["recovered"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (None, []),
        (Unavailable("No answer."), ["failed"]),
        (Busy("Another run is at work."), []),
        (ConfigError("The settings changed."), ["failed"]),
        (Stopped(signal.SIGTERM), ["failed"]),
        (Stopped(signal.SIGINT), []),
        (LookupError(PERSON), ["failed"]),
    ],
    ids=["success", "75", "busy", "settings", "SIGTERM", "Ctrl-C", "bug"],
)
def test_what_ends_a_run_decides_whether_it_is_told(
    error: BaseException | None, told: list[str], warehouse: Path, webhook: Listener
) -> None:
    """Not of a run that had to wait for another, nor of one that a person stopped."""
    settings = notifying(config(warehouse), address(webhook))
    raised = pytest.raises(type(error)) if error is not None else nullcontext()
    with raised, measured(settings, None, tells=settings):
        if error is not None:
            raise error

    found = posted(webhook)
    assert [each["event"] for each in found] == told
    assert "canary" not in json.dumps(found)


def notifying(settings: Config, url: str) -> Config:
    return dataclasses.replace(settings, notify=Secret(url, "env:OMETRIA_NOTIFY"))


@given(st.text(st.characters()), st.integers(0, 3_000))
def test_any_sentence_is_valid_json_and_calls_nobody(text: str, number: int) -> None:
    """Names of files come into it: in a chat they neither link nor call everybody."""
    sentence = f"<!channel> <https://canary.example|here> {PERSON}.csv {text}{'x' * number}"
    error = ConfigError(sentence)
    run = EndedRun(NOON, NOON, 2, error=error, reason=sentence)

    notice = notices._notice("failed", Config((account(),)), run)

    encoded = json.dumps(notice, ensure_ascii=False).encode()  # No lone surrogate.
    assert len(encoded) < 20_000
    assert not re.search(r"[<>\x00-\x08\x1b]", notice["text"])
    assert "\u2039!channel\u203a" in notice["text"]
    assert PERSON not in str(notice)


# --- how it is posted ---------------------------------------------------------------------------


@dataclasses.dataclass
class Attempt:
    """What came of a post: the warning, without the sentence around it, and the seconds it took."""

    problem: str
    seconds: float


@pytest.fixture
def post(
    warehouse: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Attempt]:
    """Return what tells an address of a failed run, within a second and at the level DEBUG."""
    monkeypatch.setattr(notices, "SECONDS", 0.6)
    monkeypatch.setattr(notices, "PAUSE_SECONDS", 0.05)
    caplog.set_level(logging.DEBUG)
    for name in ("httpx2", "httpcore2", "httpcore2.http11", "httpcore2.connection"):
        caplog.set_level(logging.DEBUG, logger=name)

    def told(url: str) -> Attempt:
        began = time.monotonic()
        run = EndedRun(NOON, NOON, 75, error=Unavailable("No answer."), reason="No answer.")
        notify(notifying(config(warehouse), url), run)
        seconds = time.monotonic() - began
        assert "canary" not in caplog.text.lower()
        warnings = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
        text = warnings[-1] if warnings else ""
        found = re.search(r"how the run ended: (.*)\. The run itself is not affected\.$", text)
        return Attempt(found[1] if found else text, seconds)

    return told


@pytest.mark.parametrize(
    ("reply", "problem", "attempts"),
    [
        (OK, "", 1),
        (Reply(status=204, body=b""), "", 1),
        (Reply(status=500), "it answered 500", 2),
        (Reply(status=429), "it answered 429", 2),
        (Reply(status=404, body=TOKEN.encode()), "it answered 404", 1),
        (Reply(harm="reset"), "it could not be reached, or the connection broke", 2),
        (Reply(harm="hang"), "it did not answer in time", 1),
        (Reply(harm="truncate"), "", 1),  # The status says that it was taken.
    ],
    ids=["taken", "204", "500", "429", "404", "reset", "hang", "truncated"],
)
def test_what_an_address_answers_never_matters_for_long(
    reply: Reply, problem: str, attempts: int, post: Callable[[str], Attempt]
) -> None:
    """One other attempt if that may help, and all of it within a bound of time."""
    with listening(lambda _: reply) as webhook:
        attempt = post(address(webhook))

        assert attempt.problem == problem
        assert len(webhook.asked) == attempts
        assert attempt.seconds < 2


def test_a_certificate_that_is_not_trusted_is_named(
    post: Callable[[str], Attempt], tmp_path: Path
) -> None:
    """Nothing is sent to it, and no other attempt would help."""
    with over_tls(tmp_path, "localhost") as url:
        assert post(f"{url}/{TOKEN}").problem == "its certificate is not trusted"


def test_the_second_attempt_can_succeed(post: Callable[[str], Attempt]) -> None:
    """Then there is nothing to warn of."""
    replies = [Reply(status=503), OK]
    with listening(lambda _: replies.pop(0)) as webhook:
        assert post(address(webhook)).problem == ""
        assert events(webhook) == ["failed", "failed"]


def test_a_redirect_is_not_followed(post: Callable[[str], Attempt], webhook: Listener) -> None:
    """The notice is for the address in the settings, and for no other."""
    away = Reply(status=307, headers={"Location": webhook.url})
    with listening(lambda _: away) as redirecting:
        attempt = post(address(redirecting))

    assert attempt.problem == "it answered with a redirect (307), which is not followed"
    assert webhook.asked == []


def test_an_address_that_drips_is_left_in_time(post: Callable[[str], Attempt]) -> None:
    """Each byte comes in time, and the answer never ends."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()

        def drip() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                while not ended.wait(0.05):
                    connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

        thread = threading.Thread(target=drip)
        thread.start()
        attempt = post(f"http://127.0.0.1:{server.getsockname()[1]}/{TOKEN}")
        ended.set()
        thread.join()

    assert attempt.problem == "it did not answer in time"
    assert attempt.seconds < 2


def test_an_address_that_nothing_listens_at_is_a_warning(post: Callable[[str], Attempt]) -> None:
    """Nor one that is looked up in vain; no proxy is asked for an address of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for host in (f"http://127.0.0.1:{port}", "https://canary.invalid"):
        attempt = post(f"{host}/{TOKEN}")

        assert attempt.problem in {
            "it could not be reached, or the connection broke",
            "it did not answer in time",
        }
        assert attempt.seconds < 2


def test_no_proxy_is_asked_for_an_address_of_this_machine(
    post: Callable[[str], Attempt], webhook: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would see the address in the clear."""
    with listening(lambda _: OK) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/v2"))
        post(address(webhook))

        assert (len(webhook.asked), proxy.asked) == (1, [])


def test_a_run_goes_through_although_its_end_cannot_be_told(
    server: Server, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit code is that of the run; standard error has a warning, without the address."""
    monkeypatch.setattr(notices, "PAUSE_SECONDS", 0.0)
    server.no_rights = frozenset({"lists"})
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/{TOKEN}"
    options = ("sync", "lists", "--log-format", "json")
    failed = invoke(*options, env=env | {"OMETRIA_NOTIFY": url})
    server.no_rights = frozenset()
    succeeded = invoke(*options, env=env | {"OMETRIA_NOTIFY": url})

    assert isinstance(failed.exception, AccessDenied)
    assert succeeded.exit_code == 0
    for ended in (failed, succeeded):
        last = json.loads(ended.stderr.splitlines()[-1])
        assert (last["level"], last["logger"]) == ("warning", "ometria_replica.notify")
        assert "CANARY" not in ended.stderr


# --- the setting --------------------------------------------------------------------------------

NO_URL = "must be a URL such as https://host/path, without user, password, fragment or spaces"
NO_HTTPS = "must be https: over http, the address would be sent unencrypted"


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("http://hooks.example.com/x", NO_HTTPS),
        ("http://127.0.0.1.example.com/x", NO_HTTPS),
        ("ftp://hooks.example.com/x", NO_URL),
        ("https://me:canary@hooks.example.com/x", NO_URL),
        ("https://hooks.example.com/x y", NO_URL),
        ("https://hooks.example.com/x#y", NO_URL),
        ("https://hooks.example.com:99999/x", NO_URL),
        ("https:///x", NO_URL),
        ("canary", NO_URL),
        ("", "the environment variable THEIR_HOOK is empty"),
    ],
)
def test_an_address_is_checked_before_anything_else(value: str, problem: str) -> None:
    """What is wrong is said without the value."""
    with pytest.raises(ConfigError) as refused:
        loaded('notify = "env:THEIR_HOOK"\n', {"OMETRIA_API_KEY": "x", "THEIR_HOOK": value})

    assert f"ometria.toml: notify: {problem}" in str(refused.value)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    "value",
    ["https://hooks.example.com/ometria?sig=x", "http://localhost:9000/x", "http://127.0.0.1/x"],
)
def test_an_address_is_https_or_on_this_machine(value: str) -> None:
    """It comes from a variable of its own, or from one that the file names."""
    environ = {"OMETRIA_API_KEY": "x"}
    for toml, variable in (('notify = "env:THEIR_HOOK"\n', "THEIR_HOOK"), ("", "OMETRIA_NOTIFY")):
        found = loaded(toml, environ | {variable: value}).notify

        assert found == Secret(value, "")
        assert repr(found) == f"Secret(env:{variable})"


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        (f"https://hooks.slack.com/services/{TOKEN}", True),
        ("https://hc-ping.com/6f1b2a1c-0d52-4a53-9f3b-0c8f2b3f9d11", True),
        ("https://eo1x2y3z4w5v6u7t.m.pipedream.net", True),
        ("https://prod.logic.azure.com/workflows/ometria?sig=abc", True),
        ("https://alerts.example.com/hooks/ometria-replication-of-shops", False),
        ("https://alerts.example.com/v2/ometria", False),
    ],
)
def test_an_address_with_a_token_is_not_written_in_the_settings(value: str, *, holds: bool) -> None:
    """Files of settings are shared. One without may be written there, and is not shown either."""
    assert holds_token(value) == holds
    toml = f'notify = "{value}"\n'
    if holds:
        with pytest.raises(ConfigError, match="looks as if it holds a token") as refused:
            loaded(toml, {"OMETRIA_API_KEY": "x"})
        assert value not in str(refused.value)
    else:
        settings = loaded(toml, {"OMETRIA_API_KEY": "x"})
        assert ("notify", "set", "ometria.toml") in explain(settings)
        assert value not in repr(settings) + str(explain(settings))


def loaded(toml: str, environ: dict[str, str]) -> Config:
    with TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("ometria.toml").write_text(toml, encoding="utf-8")
        return load_config(None, environ)
