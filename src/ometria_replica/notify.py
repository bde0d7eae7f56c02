"""
Post a short JSON to a webhook when a run fails, works again, or has set something aside.

It takes a few seconds at most, and is never the failure of a run. The address is a secret, as
those of Slack and Teams are: nothing logs it, and no redirect is followed, to which it would show.
What is posted holds the sentence of an error, which never quotes a person or a key; a word in it
that could be an address, such as the name of a file, is masked.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

import httpx2

from ometria_replica.config.urls import is_loopback
from ometria_replica.errors import Busy, RejectedRecords, ReplicaError
from ometria_replica.log_context import context_of
from ometria_replica.observing.texts import shown
from ometria_replica.ometria.certificates import trusted
from ometria_replica.ometria.deadlines import DeadlineBackend
from ometria_replica.ometria.http_loggers import silence_http_loggers
from ometria_replica.ometria.response import certificate_problem
from ometria_replica.ometria.transport import USER_AGENT
from ometria_replica.posted_failures import forget_failures, note_failure, noted_failures
from ometria_replica.report import duration, report_from_dict
from ometria_replica.state_commands import opened
from ometria_replica.stopping import Stopped
from ometria_replica.text import counted, encodable, printable
from ometria_replica.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ometria_replica.config import Config
    from ometria_replica.metrics import EndedRun
    from ometria_replica.report import RunReport

logger = logging.getLogger(__name__)

Event = Literal["failed", "recovered", "rejects"]

SECONDS = 5.0
"""For all that is posted of a run."""

STOPPED_SECONDS = 3.0
"""After a SIGTERM, because Docker kills ten seconds after it."""

PAUSE_SECONDS = 1.0  # Before the one other attempt.
RECENT_RUNS = 50

_FOR_CHATS: Final = str.maketrans({"<": "\u2039", ">": "\u203a"})
"""In Slack, such brackets make a link, or call everybody in the room."""


def notify(config: Config, run: EndedRun) -> None:
    """
    Post what is to be told of a run of the accounts of *config*, if it has an address for it.

    A failure to do so is a warning.
    """
    if config.notify is None:
        return
    try:
        events = list(_events(config, run))
        if "failed" in events:
            note_failure(config, _run_id(run))
        elif run.error is None or isinstance(run.error, RejectedRecords):
            forget_failures(config)
        notices = [_notice(event, config, run) for event in events]
        seconds = STOPPED_SECONDS if isinstance(run.error, Stopped) else SECONDS
        problem = _post(config.notify.reveal(), notices, seconds) if notices else None
    except Exception as error:  # noqa: BLE001 -- Whatever it is, the run has ended before.
        problem = f"it failed with {type(error).__name__}"
    if problem:
        logger.warning(
            "The address in `notify` could not be told how the run ended: %s. The run itself is not"
            " affected.",
            problem,
        )


def _events(config: Config, run: EndedRun) -> Iterator[Event]:
    """Say what is to be told: nothing of a run that a person stopped, or that had to wait."""
    match run.error:
        case None:
            if _failed_before(config, run):
                yield "recovered"
        case RejectedRecords():
            if _failed_before(config, run):
                yield "recovered"
            yield "rejects"
        case Busy() if not (run.report and run.report.tables):
            return  # Another run is at work, or another program reads the file.
        case Stopped(number=signal.SIGINT):
            return
        case Stopped() | Exception():
            yield "failed"


def _failed_before(config: Config, run: EndedRun) -> bool:
    """
    Look up in the history whether, of one of these accounts, the last run before failed.

    Or whether one was told to have failed that is not in the history.
    """
    sources = {account.source_id for account in config.accounts}
    try:
        with opened(config, dry_run=True) as warehouse:
            recorded = warehouse.runs.newest(RECENT_RUNS)
    except ReplicaError:
        return False
    if noted_failures(config) - {each.run_id for each in recorded}:
        return True
    reports = (report_from_dict(json.loads(each.report)) for each in recorded)
    before = [each for each in reports if run.report is None or each.run_id != run.report.run_id]
    lasts = {source: next((r for r in before if _counts(r, source)), None) for source in sources}
    return any(last is not None and _failed(last, source) for source, last in lasts.items())


def _counts(report: RunReport, source: str) -> bool:
    """Whether a run says whether *source* can be read."""
    if not report.tables:  # It found another at work, or was killed or stopped before a table.
        return report.outcome != "failed" and not _was_stopped_by_a_person(report)
    is_of_it = any(table.source_id == source for table in report.tables)
    return is_of_it and not _was_stopped_by_a_person(report)


def _failed(report: RunReport, source: str) -> bool:
    """Whether a run failed for *source*, and not only for other accounts."""
    if report.outcome != "failed":
        return report.outcome in {"stopped", "did not end"}
    failed = {table.source_id for table in report.tables if table.error}
    return not failed or source in failed


def _was_stopped_by_a_person(report: RunReport) -> bool:
    return report.outcome == "stopped" and "SIGTERM" not in (report.reason or "")


def _notice(event: Event, config: Config, run: EndedRun) -> dict[str, Any]:
    """Make the JSON object. Its field ``text`` is what Slack, Teams and others show."""
    accounts = [account.source_id for account in config.accounts]
    run_id = _run_id(run)
    seconds = (run.ended_at - run.started_at).total_seconds()
    reason = None if event == "recovered" else shown(run.reason or "")
    which = f"the run {run_id}" if run_id else "a run"
    named = ", ".join(accounts) if len(accounts) <= 5 else counted(len(accounts), "account")
    notice = {
        "event": event,
        "text": _text(event, f"{which} of {named}", duration(seconds), reason),
        "run": run_id,
        "accounts": accounts,
        "exit_code": run.exit_code,
        "error": type(run.error).__name__ if run.error and event != "recovered" else None,
        "reason": reason,
        "started_at": run.started_at.isoformat(),
        "seconds": round(seconds, 3),
        "version": __version__,
    }
    return {
        name: encodable(each) if isinstance(each, str) else each for name, each in notice.items()
    }


def _run_id(run: EndedRun) -> str | None:
    if run.report is None and run.error is not None:
        return context_of(run.error).run
    return run.report.run_id if run.report else None


def _text(event: Event, which: str, took: str, reason: str | None) -> str:
    match event:
        case "failed":
            text = f"ometria-replica: {which} failed after {took}. {reason}"
        case "recovered":
            text = f"ometria-replica: {which} succeeded in {took}; the one before it had failed."
        case "rejects":
            text = f"ometria-replica: {which} set something aside. {reason}"
    return printable(text).translate(_FOR_CHATS)


def _post(url: str, notices: Sequence[dict[str, Any]], seconds: float) -> str | None:
    """Post *notices* within so many *seconds*; say what went wrong, None if nothing."""
    silence_http_loggers()
    deadlines = DeadlineBackend()
    parts = urlsplit(url)
    with httpx2.Client(
        headers={"Content-Type": "application/json", "User-Agent": USER_AGENT},
        timeout=seconds,
        verify=trusted(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")),
        follow_redirects=False,
        trust_env=parts.scheme == "https" or not is_loopback(parts.hostname or ""),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
    ) as client:
        deadlines.apply_to(client)
        with deadlines.within(seconds):
            until = time.monotonic() + seconds - PAUSE_SECONDS
            problems = [_post_one(client, url, each, until) for each in notices]
    return next(filter(None, problems), None)


def _post_one(client: httpx2.Client, url: str, notice: dict[str, Any], until: float) -> str | None:
    """Post a notice, and once more before *until* if that may help; say what went wrong."""
    body = json.dumps(notice).encode("ascii")
    problem, passes = _attempt(client, url, body)
    if not problem or not passes or time.monotonic() > until:
        return problem
    time.sleep(PAUSE_SECONDS)
    return _attempt(client, url, body)[0]


def _attempt(client: httpx2.Client, url: str, body: bytes) -> tuple[str | None, bool]:
    """Post *body* once; say what went wrong, None if nothing, and whether it may pass by itself."""
    try:
        with client.stream("POST", url, content=body) as response:  # Its body tells nothing more.
            status = response.status_code
    except httpx2.TimeoutException:
        return "it did not answer in time", False
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        if certificate_problem(error) is not None:  # It names the host, which may be a secret.
            return "its certificate is not trusted", False
        return "it could not be reached, or the connection broke", True
    if 200 <= status < 300:
        return None, False
    if 300 <= status < 400:
        return f"it answered with a redirect ({status}), which is not followed", False
    return f"it answered {status}", status == 429 or status >= 500
