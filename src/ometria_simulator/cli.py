# ruff: noqa: T201  # A command prints.
"""The command ``ometria-simulator``: data on standard output, messages on standard error."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ometria_simulator import moments
from ometria_simulator.account import Account
from ometria_simulator.dialect import Dialect
from ometria_simulator.feed import Feed
from ometria_simulator.quirks import Quirks
from ometria_simulator.server import (
    DELETION_REQUESTS_PER_MINUTE,
    REQUESTS_PER_SECOND,
    SIMULATED_KEY,
    serve,
)
from ometria_simulator.storage import S3Access, StorageError, s3_server

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ometria_simulator.records import Json
    from ometria_simulator.storage import S3Server


_Number = TypeVar("_Number", int, float)

_FILES_PER_DAY = 1 / 7
_MOST_REQUESTS = 1_000_000
_EARLIEST, _LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 for a failure, 2 for wrong arguments."""
    options = _parser().parse_args(arguments)
    try:
        return _feed(options) if options.command == "feed" else _serve(options)
    except BrokenPipeError:  # The reader of standard output closed it, as `head` does.
        _discard_output()
        return 128 + 13  # SIGPIPE, which Windows does not name.
    except (StorageError, OSError) as error:
        _discard_output()
        _say(f"ometria-simulator: {error}")
        return 1


def _discard_output() -> None:
    """Write what is left in standard output to nowhere, so that the end of Python does not fail."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
        return
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ometria-simulator",
        description="Simulate a retailer's Ometria account: its API and its S3 export.",
        formatter_class=_Help,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser(
        "serve",
        help="serve the API, and with --feed an export, until stopped",
        description="Serve the API; print one JSON line with all addresses and keys when ready.",
        formatter_class=_Help,
    )
    _add_account(serving)
    serving.add_argument("--host", default="127.0.0.1", help="address to listen at")
    serving.add_argument(
        "--port", type=_whole(0, 65_535), default=0, metavar="N", help="port; 0 means any free one"
    )
    serving.add_argument(
        "--requests-per-second",
        type=_number(0, _MOST_REQUESTS),
        default=REQUESTS_PER_SECOND,
        metavar="N",
        help="rate limit of the account; 0 means no limit",
    )
    serving.add_argument(
        "--deletion-requests-per-minute",
        type=_number(0, _MOST_REQUESTS),
        metavar="N",
        default=DELETION_REQUESTS_PER_MINUTE,
        help="rate limit of /data-deletion-requests; 0 means no limit",
    )
    serving.add_argument(
        "--key-env", metavar="NAME", help="environment variable that contains the API key"
    )
    serving.add_argument(
        "--latency",
        type=_number(0, 3_600),
        default=0.0,
        metavar="SECONDS",
        help="duration of every response",
    )
    serving.add_argument(
        "--feed",
        metavar="TARGET",
        help="a folder, s3://bucket/prefix, or s3 to start an S3 server",
    )
    serving.add_argument(
        "--until-stdin-closes", action="store_true", help="stop when the parent process ends"
    )
    _add_feed(serving)
    feeding = commands.add_parser(
        "feed",
        help="write an export of the whole history, without a server",
        description="Write an export of the whole history; print the names of its files as JSON.",
        formatter_class=_Help,
    )
    feeding.add_argument("target", help="a folder, or s3://bucket/prefix")
    _add_account(feeding)
    _add_feed(feeding)
    return parser


def _add_account(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("account")
    whole = _whole(0, 100_000_000)
    for option, default, meaning in (
        ("--seed", 7, "another seed gives another account"),
        ("--profiles", 20_000, "profiles of the account"),
        ("--lists", 30, "lists of the account"),
        ("--events", 100_000, "email events of the account"),
    ):
        group.add_argument(option, type=whole, default=default, metavar="N", help=meaning)
    group.add_argument(
        "--history-days",
        type=_whole(1, 3_650),
        default=180,
        metavar="N",
        help="period of the mails and lists",
    )
    group.add_argument(
        "--now", type=_time, metavar="ISO", help="simulated time; without it, the current hour"
    )


def _add_feed(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("feed")
    group.add_argument(
        "--format", choices=("csv", "jsonl", "parquet"), default="csv", help="format of the files"
    )
    group.add_argument(
        "--compression",
        choices=("none", "gzip", "zstd", "zip"),
        default="gzip",
        help="compression of the files",
    )
    group.add_argument(
        "--files-per-day",
        type=_number(0.001, 1_440),
        metavar="N",
        help="files per day of the history; without it, one per week",
    )
    group.add_argument("--endpoint-url", help="address of the S3 server for an s3:// target")


class _Help(argparse.HelpFormatter):
    """Shows the default of each option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        has_default = action.default not in {None, False, argparse.SUPPRESS}
        return f"{action.help} (default: %(default)s)" if has_default else str(action.help)


def _whole(lowest: int, highest: int) -> Callable[[str], int]:
    """Parse a whole number within limits."""
    return lambda text: _within(int, text, "a whole number", lowest, highest)


def _number(lowest: float, highest: float) -> Callable[[str], float]:
    """Parse a number within limits."""
    return lambda text: _within(float, text, "a number", lowest, highest)


def _within(
    kind: Callable[[str], _Number], text: str, name: str, lowest: _Number, highest: _Number
) -> _Number:
    with contextlib.suppress(ValueError):
        if lowest <= (number := kind(text)) <= highest:  # Not for NaN.
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is not {name} from {lowest:g} to {highest:g}")


def _time(text: str) -> datetime:
    with contextlib.suppress(ValueError, OverflowError):
        if _EARLIEST <= (moment := moments.read(text)) < _LATEST:
            return moment
    raise argparse.ArgumentTypeError(
        f"{text!r} is not a time in ISO 8601 from {_EARLIEST:%Y} to {_LATEST:%Y}"
    )


def _account(options: argparse.Namespace) -> Account:
    now = options.now or datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    return Account.create(
        options.seed,
        profiles=options.profiles,
        lists=options.lists,
        email_events=options.events,
        now=now,
        history_days=options.history_days,
    )


def _open_feed(
    options: argparse.Namespace,
    account: Account,
    target: str,
    s3: S3Access,
) -> Feed:
    compression = None if options.compression == "none" else options.compression
    return Feed(account, target, Dialect(format=options.format, compression=compression), s3)


def _feed(options: argparse.Namespace) -> int:
    feed = _open_feed(options, _account(options), options.target, S3Access(options.endpoint_url))
    names = feed.export_history(files_per_day=options.files_per_day or _FILES_PER_DAY)
    _say(f"Wrote {len(names)} files with {len(feed.delivered)} records to {options.target}.")
    print(json.dumps({"feed_url": _url(options.target), "files": names}), flush=True)
    return 0


def _serve(options: argparse.Namespace) -> int:
    key = os.environ.get(options.key_env) if options.key_env else SIMULATED_KEY
    if not key:
        _say(
            f"ometria-simulator: the variable {options.key_env} is not set. Set it to the API key."
        )
        return 2
    stopped = threading.Event()
    with contextlib.ExitStack() as stack:
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.signal(number, lambda *_: stopped.set())
            stack.callback(signal.signal, number, before)
        account = _account(options)
        own_s3 = stack.enter_context(s3_server()) if options.feed == "s3" else None
        feed = _start_feed(options, account, own_s3)
        server = stack.enter_context(
            serve(
                account,
                host=options.host,
                port=options.port,
                key=key,
                requests_per_second=options.requests_per_second or None,
                deletion_requests_per_minute=options.deletion_requests_per_minute or None,
                quirks=Quirks(latency_seconds=options.latency),
                feed=feed,
            )
        )
        ready: dict[str, Json] = {"api_url": server.url, "api_key": key}
        ready |= {"control_url": f"{server.root_url}/_simulator", "now": moments.iso(account.now)}
        ready |= _feed_facts(options, feed, own_s3)
        print(json.dumps({**ready, **account.counts()}), flush=True)
        if not options.until_stdin_closes:
            _say(f"Serving {server.url}. Press Ctrl-C to stop.")
        if options.until_stdin_closes:
            threading.Thread(target=_wait_for_stdin, args=(stopped,), daemon=True).start()
        stopped.wait()
    return 0


def _start_feed(
    options: argparse.Namespace,
    account: Account,
    own_s3: S3Server | None,
) -> Feed | None:
    if not options.feed:
        return None
    if own_s3:
        feed = _open_feed(options, account, f"{own_s3.url}/simulated/", own_s3.access)
    else:
        feed = _open_feed(options, account, options.feed, S3Access(options.endpoint_url))
    feed.export_history(files_per_day=options.files_per_day or _FILES_PER_DAY)
    return feed


def _feed_facts(
    options: argparse.Namespace,
    feed: Feed | None,
    own_s3: S3Server | None,
) -> dict[str, Json]:
    if not feed:
        return {}
    facts: dict[str, Json] = {"feed_url": _url(str(feed.target)), "records": len(feed.delivered)}
    if own_s3:
        facts |= {
            "s3_endpoint_url": own_s3.endpoint_url,
            "aws_access_key_id": own_s3.access_key,
            "aws_secret_access_key": own_s3.secret_key,
            "aws_region": own_s3.region,
        }
    elif options.endpoint_url:
        facts["s3_endpoint_url"] = options.endpoint_url
    return facts


def _url(target: str) -> str:
    return target if "://" in target else Path(target).resolve().as_uri()


def _wait_for_stdin(stopped: threading.Event) -> None:
    while sys.stdin.buffer.read(4096):
        pass
    stopped.set()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
