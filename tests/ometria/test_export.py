from __future__ import annotations

import gzip
import logging
import os
import signal
import socket
import threading
import time
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar

import boto3
import pytest
from moto.server import ThreadedMotoServer

from ometria_replica.config import Config, FeedSettings, Secret, WarehouseSettings
from ometria_replica.doctor.run import check
from ometria_replica.errors import (
    AccessDenied,
    ConfigError,
    OmetriaError,
    ReplicaError,
    Unavailable,
)
from ometria_replica.ometria.bucket_files import BucketFiles
from ometria_replica.ometria.export import ExportFiles
from ometria_replica.ometria.refusals import MovedOn
from ometria_replica.records import FeedFile, FeedObject, Unreadable
from ometria_replica.tables import EMAIL_EVENTS
from tests import replicas

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mypy_boto3_s3 import S3Client

    from ometria_replica.ometria.bucket import Bucket

KEY = ("to_address", "event_type", "dt_occurred")
CSV = b"to_address,event_type,dt_occurred\na@x.test,open,2026-01-01\n"
SECRET = "CANARY-of-a-secret"


@pytest.fixture(autouse=True)
def _no_credentials_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(endpoint: str) -> Iterator[S3Client]:
    """Connect to the store, which holds one empty bucket."""
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key=SECRET,
    )
    client.create_bucket(Bucket="exports")
    yield client
    tell(f"{endpoint}/moto-api/reset")


def tell(url: str, body: bytes = b"") -> None:
    """Control the store by one of its own endpoints."""
    request = urllib.request.Request(url, body, {"Content-Type": "text/plain"})
    urllib.request.urlopen(request).close()


def s3_feed(endpoint: str, prefix: str = "acme/", **options: str) -> ExportFiles:
    keys = {"access_key_id": "key", "secret_access_key": SECRET} | options
    settings = settings_of(f"s3://exports/{prefix}", endpoint_url=endpoint, **keys)
    return ExportFiles(settings, EMAIL_EVENTS)


def settings_of(url: str, **options: str | None) -> FeedSettings:
    """Make a feed's settings, with secrets as Secret."""
    secret = {"access_key_id", "secret_access_key", "session_token"}
    given = {
        name: Secret(value, "the test") if name in secret and value else value
        for name, value in options.items()
    }
    return FeedSettings(url, **given)  # type: ignore[arg-type]


def folder_feed(folder: Path, *, settle_seconds: float = 0, **options: str) -> ExportFiles:
    return ExportFiles(
        FeedSettings(str(folder), **options),  # type: ignore[arg-type]
        EMAIL_EVENTS,
        settle_seconds=settle_seconds,
    )


def bucket_of(feed: ExportFiles) -> Bucket:
    assert isinstance(feed.files, BucketFiles)
    return feed.files.bucket


def names(feed: ExportFiles, start_after: str | None = None) -> list[str]:
    return sorted(file.name for file in feed.list(start_after))


# --- Listing -----------------------------------------------------------------------------------


def test_a_prefix_matches_whole_segments(s3: S3Client, endpoint: str) -> None:
    """A run for one customer never lists another's files or names."""
    for key in ("acme/1.csv", "acme/2026/2.csv", "acme-2/3.csv", "acme2.csv", "4.csv"):
        s3.put_object(Bucket="exports", Key=key, Body=CSV)

    for prefix in ("acme", "acme/", "/acme/"):
        assert names(s3_feed(endpoint, prefix)) == ["1.csv", "2026/2.csv"]
    assert names(s3_feed(endpoint, "acm")) == []
    assert len(names(s3_feed(endpoint, ""))) == 5


@pytest.mark.parametrize("last", ["1.csv", "*.csv", "[0-9].csv"])
def test_a_url_may_name_files(last: str, s3: S3Client, endpoint: str, tmp_path: Path) -> None:
    """One file, or a pattern as the last part of the url, in a folder and in a bucket."""
    for name in ("1.csv", "other.json"):
        s3.put_object(Bucket="exports", Key=f"acme/{name}", Body=CSV)
        (tmp_path / name).write_bytes(CSV)

    assert names(s3_feed(endpoint, f"acme/{last}")) == ["1.csv"]
    assert names(folder_feed(tmp_path / last)) == ["1.csv"]
    with pytest.raises(ConfigError, match="Leave out one of them"):
        folder_feed(tmp_path / last, pattern="*")


def test_a_feed_without_a_file_says_where_it_looked(tmp_path: Path) -> None:
    """It names the place, the pattern, and files that are there instead."""
    (tmp_path / "notes.txt").write_bytes(CSV)
    feed = folder_feed(tmp_path, pattern="*.csv")

    assert names(feed) == []
    assert feed.nothing_found() == (
        f"{tmp_path}: no file has a name that matches '*.csv'. There are other files, such as"
        " notes.txt. Check the feed's url and pattern."
    )


def test_check_warns_of_a_feed_as_a_sync_does(s3: S3Client, endpoint: str, tmp_path: Path) -> None:
    """Of a store that is asked over http, and of a pattern that no file matches."""
    s3.put_object(Bucket="exports", Key="acme/1.txt", Body=CSV)
    elsewhere = endpoint.replace("127.0.0.1", "127.1")  # Not known as an address of this machine.
    feed = s3_feed(elsewhere, pattern="*.csv").options
    settings = replicas.account(folder=tmp_path)
    config = Config((replace(settings, feed=feed),), WarehouseSettings(str(tmp_path / "w.duckdb")))

    over_http, nothing = [each for each in check(config) if each.code.startswith("feed.")]
    assert (over_http.code, over_http.level) == ("feed.address", "warn")
    assert f"the store at {elsewhere.removeprefix('http://')} is asked over http" in over_http.text
    assert (nothing.code, nothing.level) == ("feed.files", "warn")
    assert nothing.text.endswith("no file has a name that matches '*.csv'.")
    assert str(nothing.mend).startswith("There are other files, such as 1.txt. Check the feed's")


def test_a_listing_starts_after_a_name_and_goes_beyond_a_page(
    s3: S3Client, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All files are listed, even if they exceed S3's page; start_after gives the later ones."""
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "100")  # A page of S3 has a thousand.
    for number in range(150):
        s3.put_object(Bucket="exports", Key=f"acme/{number:05}.csv", Body=b"x")
    feed = s3_feed(endpoint)

    assert len(names(feed)) == 150
    assert names(feed, "00146.csv") == ["00147.csv", "00148.csv", "00149.csv"]


def test_names_sizes_and_versions_come_from_the_store(s3: S3Client, endpoint: str) -> None:
    """The key of the file log: any characters in the name, the ETag, the size; the time in UTC."""
    name = "a b+c%25é=&.csv"
    etag = s3.put_object(Bucket="exports", Key=f"acme/{name}", Body=CSV)["ETag"]
    (found,) = s3_feed(endpoint).list()

    assert (found.name, found.etag, found.size) == (name, etag, len(CSV))
    assert found.modified_at.utcoffset() == timedelta(0)


def test_folder_markers_and_empty_files_are_not_listed(s3: S3Client, endpoint: str) -> None:
    """They hold no rows; a file that is filled later has another version."""
    for key in ("acme/", "acme/dir/", "acme/empty.csv"):
        s3.put_object(Bucket="exports", Key=key, Body=b"")

    assert names(s3_feed(endpoint)) == []


def test_a_folder_lists_as_a_bucket_does(tmp_path: Path) -> None:
    """By path or file:// url, in subfolders too, without files that are being written."""
    folder = tmp_path / "the export"
    (folder / "2026").mkdir(parents=True)
    for name in ("1.csv", "2026/2 %20.csv", "_3", ".4.csv", "5.csv.part", "6.tmp", "7.csv~"):
        (folder / name).write_bytes(CSV)

    expected = ["1.csv", "2026/2 %20.csv", "_3"]
    assert names(folder_feed(folder)) == expected
    assert names(folder_feed(folder), "1.csv") == expected[1:]
    feed = ExportFiles(FeedSettings(folder.as_uri(), settle_seconds=0), EMAIL_EVENTS)
    assert names(feed) == expected


def test_a_pattern_selects_by_the_whole_name(tmp_path: Path) -> None:
    """Other datasets of the same export are not listed."""
    (tmp_path / "2026").mkdir()
    for name in ("2026/email_events-1.csv", "email_events.csv", "orders.csv"):
        (tmp_path / name).write_bytes(CSV)

    assert names(folder_feed(tmp_path, pattern="*email_events*")) == [
        "2026/email_events-1.csv",
        "email_events.csv",
    ]


# --- Fetching ----------------------------------------------------------------------------------


def test_files_arrive_as_plain_text_in_the_requested_order(
    s3: S3Client, endpoint: str, tmp_path: Path
) -> None:
    """Downloads overlap, but the order is kept; the caller deletes the files it took."""
    for number in range(9):
        body = gzip.compress(CSV) if number % 2 else CSV
        s3.put_object(Bucket="exports", Key=f"acme/{number}", Body=body)
    with s3_feed(endpoint) as feed:
        asked = sorted(feed.list(), key=lambda file: file.name, reverse=True)
        for origin, file in zip(asked, feed.fetch(asked, tmp_path / "in"), strict=True):
            assert isinstance(file, FeedFile)
            assert file.origin == origin
            assert file.path.read_bytes() == CSV
            assert file.dialect.columns == KEY
            file.path.unlink()

    assert list((tmp_path / "in").iterdir()) == []


def test_files_that_are_not_taken_are_deleted(s3: S3Client, endpoint: str, tmp_path: Path) -> None:
    """A caller that stops early finds only the file it took."""
    for number in range(9):
        s3.put_object(Bucket="exports", Key=f"acme/{number}", Body=CSV)
    with s3_feed(endpoint) as feed:
        files = feed.fetch(list(feed.list()), tmp_path / "in")
        taken = next(files)
        files.close()  # type: ignore[attr-defined]

    assert isinstance(taken, FeedFile)
    assert list((tmp_path / "in").iterdir()) == [taken.path]


class Dripping(BaseHTTPRequestHandler):
    """A store that sends ``quick`` at once, and all other files slowly."""

    protocol_version = "HTTP/1.1"
    size = 64_000_000
    dripping: ClassVar[threading.Event]
    dripped: ClassVar[threading.Event]

    def do_GET(self) -> None:
        """Send a file."""
        quick = self.path.endswith("/quick")
        self.send_response_only(200)
        self.send_header("Content-Length", str(len(CSV) if quick else self.size))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        if quick:
            self.dripping.wait(20)
            self.wfile.write(CSV)
            return
        with suppress(OSError):  # The client may leave.
            for _ in range(1000):
                self.wfile.write(b"x" * (self.size // 1000))
                self.dripping.set()
                time.sleep(0.02)
            self.dripped.set()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def dripping() -> Iterator[str]:
    """Serve a store whose files take twenty seconds to download."""
    Dripping.dripping, Dripping.dripped = threading.Event(), threading.Event()
    with store_of(Dripping) as url:
        yield url


@contextmanager
def store_of(handler: type[Dripping]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("how", ["closed", "left"])
def test_leaving_does_not_wait_for_downloads(how: str, dripping: str, tmp_path: Path) -> None:
    """A failure or Ctrl-C cancels all downloads and deletes their files."""
    asked = [
        FeedObject(name, '"1"', size, datetime(2026, 1, 1, tzinfo=UTC))
        for name, size in (("quick", len(CSV)), ("slow", Dripping.size))
    ]
    with s3_feed(dripping) as feed:
        files = feed.fetch(asked, tmp_path / "in")
        taken = next(files)
        if how == "closed":
            files.close()  # type: ignore[attr-defined]
    files.close()  # type: ignore[attr-defined]

    assert not Dripping.dripped.is_set()
    assert isinstance(taken, FeedFile)
    assert list((tmp_path / "in").iterdir()) == [taken.path]


class Spotty(Dripping):
    """A store that sends ``good``, and answers all other requests with an error."""

    status: ClassVar[int]

    def do_GET(self) -> None:
        """Send the file, or the error."""
        is_good = self.path.endswith("/good")
        self.send_response_only(200 if is_good else self.status)
        self.send_header("Content-Length", str(len(CSV) if is_good else 0))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(CSV if is_good else b"")


def test_a_large_file_is_downloaded_in_parts(
    s3: S3Client, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request reads a part of the listed version; together they are the whole file."""
    monkeypatch.setattr("ometria_replica.ometria.bucket_files.PART", 1000)
    body = CSV + b"".join(b"a@x.test,open,2026-01-%02d\n" % (day % 28 + 1) for day in range(300))
    s3.put_object(Bucket="exports", Key="acme/1.csv", Body=body)
    s3.put_object(Bucket="exports", Key="acme/2.csv", Body=body)
    with s3_feed(endpoint) as feed:
        asked = sorted(feed.list(), key=lambda file: file.name)
        s3.put_object(Bucket="exports", Key="acme/2.csv", Body=body[::-1])
        whole, changed = feed.fetch(asked, tmp_path / "in")

    assert isinstance(whole, FeedFile)
    assert whole.path.read_bytes() == body
    assert isinstance(changed, Unreadable)
    assert changed.again


def test_one_unreadable_file_does_not_stop_the_others(
    s3: S3Client, endpoint: str, tmp_path: Path
) -> None:
    """The others are read; the unreadable file yields its reason."""
    bodies = {"1": CSV, "2": gzip.compress(CSV)[:-4], "3": b"<html>no</html>", "4": CSV}
    for name, body in bodies.items():
        s3.put_object(Bucket="exports", Key=f"acme/{name}.gz", Body=body)
    with s3_feed(endpoint) as feed:
        asked = sorted(feed.list(), key=lambda file: file.name)
        files = list(feed.fetch(asked, tmp_path / "in"))

    assert [type(file) for file in files] == [FeedFile, Unreadable, Unreadable, FeedFile]
    assert [file.again for file in files if isinstance(file, Unreadable)] == [False, False]
    assert len(list((tmp_path / "in").iterdir())) == 2


def test_an_error_that_nobody_foresaw_concerns_one_file(tmp_path: Path) -> None:
    """Such as that of a codec that decodes no text; the others are read, and it is named."""
    (tmp_path / "1.csv").write_bytes(CSV)
    (tmp_path / "2.csv").write_bytes(b"\xef\xbb\xbf" + CSV)  # Which says that it is UTF-8.
    with folder_feed(tmp_path, encoding="hex") as feed:
        odd, plain = feed.fetch(sorted(feed.list(), key=lambda file: file.name), tmp_path / "in")

    assert isinstance(plain, FeedFile)

    assert isinstance(odd, Unreadable)
    assert (odd.reason, odd.again, odd.later) == (
        *("it cannot be read (Error); if other programs can read it, please report this",),
        *(False, False),
    )


def test_a_file_that_was_changed_or_deleted_is_left_for_the_next_run(
    s3: S3Client, endpoint: str, tmp_path: Path
) -> None:
    """Two versions are never mixed, and the file log has no entry."""
    for name in ("changed", "gone"):
        s3.put_object(Bucket="exports", Key=f"acme/{name}", Body=CSV)
    with s3_feed(endpoint) as feed:
        asked = sorted(feed.list(), key=lambda file: file.name)
        s3.put_object(Bucket="exports", Key="acme/changed", Body=CSV + CSV)
        s3.delete_object(Bucket="exports", Key="acme/gone")
        changed, gone = feed.fetch(asked, tmp_path)

    assert isinstance(changed, Unreadable)
    assert isinstance(gone, Unreadable)
    assert changed.again
    assert gone.again
    assert "changed" in changed.reason
    assert "deleted" in gone.reason


def test_a_young_file_in_a_folder_waits_for_the_next_run(tmp_path: Path) -> None:
    """It may still grow, also if its server's clock is ahead; one from far ahead is listed."""
    now = datetime.now(UTC)
    for name, age in (("young", 59), ("new", 0), ("skewed", -30), ("old", 60), ("ahead", -7200)):
        path = tmp_path / name
        path.write_bytes(CSV)
        os.utime(path, ((now.timestamp() - age),) * 2)

    def waiting(at: datetime, **options: float) -> tuple[list[str], int]:
        settings = FeedSettings(str(tmp_path), **options)  # type: ignore[arg-type]
        feed = ExportFiles(settings, EMAIL_EVENTS, clock=lambda: at)
        return names(feed), feed.waiting

    assert waiting(now) == (["ahead", "old"], 3)
    assert waiting(now + timedelta(seconds=1)) == (["ahead", "old", "young"], 2)
    assert waiting(now, settle_seconds=0) == (["ahead", "new", "old", "skewed", "young"], 0)
    assert waiting(now, settle_seconds=3600) == (["ahead"], 4)


def test_an_object_in_a_bucket_does_not_wait(s3: S3Client, endpoint: str) -> None:
    """It appears complete or not at all."""
    s3.put_object(Bucket="exports", Key="acme/1.csv", Body=CSV)

    assert names(s3_feed(endpoint)) == ["1.csv"]


@pytest.mark.parametrize("how", ["before", "during", "replaced"])
def test_a_file_that_changes_after_the_listing_is_left_for_the_next_run(
    how: str, tmp_path: Path
) -> None:
    """Before or while it is read, in its size or only its time, or as another file."""
    path = tmp_path / "growing"
    path.write_bytes(CSV)
    with folder_feed(tmp_path) as feed:
        listed = list(feed.list())
        pieces = feed.files.pieces(listed[0])
        if how == "during":
            assert next(pieces) == CSV
            os.utime(path, (1, 1))
        elif how == "before":
            path.write_bytes(CSV + CSV)
        else:
            assert next(pieces) == CSV
            (tmp_path / "other").write_bytes(CSV)
            (tmp_path / "other").replace(path)
        with pytest.raises(MovedOn, match="changed since it was listed"):
            list(pieces)
        (file,) = feed.fetch(listed, tmp_path / "in")

    assert isinstance(file, Unreadable)
    assert (file.again, file.later) == (True, False)


def test_a_large_file_is_decompressed_in_pieces(tmp_path: Path) -> None:
    """Memory does not grow with the file: of 64 MB, a few are in memory at a time."""
    import resource  # noqa: PLC0415 -- Not on every system.

    with gzip.open(tmp_path / "big.gz", "wb", compresslevel=1) as file:
        file.write(CSV)
        for _ in range(64):
            file.write(b"a@x.test,open,2026-01-01\n" * 42_000)
    feed = folder_feed(tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with feed:
        (fetched,) = feed.fetch(list(feed.list()), tmp_path / "in")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    assert isinstance(fetched, FeedFile)
    assert fetched.path.stat().st_size > 64_000_000
    assert grown < 32 << 10  # KiB


# --- Refusals ----------------------------------------------------------------------------------


def refusal(feed: ExportFiles, kind: type[ReplicaError]) -> str:
    with pytest.raises(kind) as caught:
        list(feed.list())
    assert type(caught.value) is kind
    text = repr((caught.value, caught.value.__cause__, feed.options))
    assert SECRET not in text
    return str(caught.value)


def test_a_bucket_that_does_not_exist(endpoint: str) -> None:
    """The message names it, with its address and what to check."""
    options = settings_of(
        "s3://nowhere/x", endpoint_url=endpoint, access_key_id="key", secret_access_key=SECRET
    )
    message = refusal(ExportFiles(options, EMAIL_EVENTS), OmetriaError)

    assert message == (
        f"s3://nowhere/x at {endpoint.removeprefix('http://')}: listing its files failed:"
        " there is no such bucket. Check the feed's url."
    )


def test_one_object_that_is_archived_does_not_stop_the_others(
    s3: S3Client, endpoint: str, tmp_path: Path
) -> None:
    """It is tried again later, with the store's reason, even if there is no other object."""
    for name in ("1", "2", "3"):
        storage = "GLACIER" if name == "2" else "STANDARD"
        s3.put_object(Bucket="exports", Key=f"acme/{name}", Body=CSV, StorageClass=storage)  # type: ignore[arg-type]
    with s3_feed(endpoint) as feed:
        asked = sorted(feed.list(), key=lambda file: file.name)
        files = list(feed.fetch(asked, tmp_path / "in"))
        (alone,) = feed.fetch([asked[1]], tmp_path / "in")

    assert [type(file) for file in files] == [FeedFile, Unreadable, FeedFile]
    assert files[1] == alone
    assert isinstance(alone, Unreadable)
    assert (alone.again, alone.later) == (False, True)
    assert alone.reason == "it is archived, and has to be restored first (InvalidObjectState)"
    assert len(list((tmp_path / "in").iterdir())) == 2


@pytest.mark.parametrize("status", [400, 403, 416, pytest.param(500, marks=pytest.mark.slow)])
def test_one_object_that_the_store_cannot_give_does_not_stop_the_others(
    status: int, tmp_path: Path
) -> None:
    """It is tried again later, if another can be read, in this run or of those listed."""
    good_one, bad_one = (
        FeedObject(name, '"1"', len(CSV), datetime(2026, 1, 1, tzinfo=UTC))
        for name in ("good", "bad")
    )
    Spotty.status = status
    with store_of(Spotty) as endpoint, s3_feed(endpoint) as feed:
        good, bad = feed.fetch([good_one, bad_one], tmp_path / "in")
        (known,) = feed.fetch([bad_one], tmp_path / "in", [good_one])

    assert isinstance(good, FeedFile)
    assert bad == known
    assert isinstance(bad, Unreadable)
    assert (bad.again, bad.later) == (False, True)
    assert bad.reason in {f"the store answers {status}", f"the store denies access ({status})"}


def test_if_every_object_is_denied_the_credentials_are_the_cause(tmp_path: Path) -> None:
    """The first denial ends the feed, and the error says which access to allow."""
    asked = [
        FeedObject(f"bad/{number}", '"1"', len(CSV), datetime(2026, 1, 1, tzinfo=UTC))
        for number in range(20)
    ]
    Spotty.status = 403
    for objects in (asked, asked[:1]):
        with store_of(Spotty) as endpoint, s3_feed(endpoint) as feed:
            files = feed.fetch(objects, tmp_path / "in")
            with pytest.raises(AccessDenied, match="s3:GetObject") as caught:
                next(files)

    assert SECRET not in repr((caught.value, caught.value.__cause__))
    assert list((tmp_path / "in").iterdir()) == []


def test_a_line_break_at_the_end_of_a_variable_does_no_harm(
    s3: S3Client, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret of Kubernetes often has one; elsewhere in the text it is an error that names it."""
    s3.put_object(Bucket="exports", Key="acme/1.csv", Body=CSV)
    variables = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
    }
    for name, text in variables.items():
        monkeypatch.setenv(name, f"{text}\n")

    assert names(ExportFiles(FeedSettings("s3://exports/acme"), EMAIL_EVENTS)) == ["1.csv"]
    for name, text in variables.items():
        with monkeypatch.context() as broken:
            broken.setenv(name, f"{text[:2]}\n{text[2:]}")
            message = refusal(
                ExportFiles(FeedSettings("s3://exports/acme"), EMAIL_EVENTS), ConfigError
            )
        assert name in message
        assert text not in message


def test_keys_that_are_unknown_wrong_or_not_allowed(
    s3: S3Client, endpoint: str, tmp_path: Path
) -> None:
    """Three mistakes have three messages, none of which contains a key; so does a check."""
    iam = boto3.client(
        "iam",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key=SECRET,
    )
    iam.create_user(UserName="reader")
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    reset = f"{endpoint}/moto-api/reset-auth"
    settings = replicas.account(folder=tmp_path)
    warehouse = WarehouseSettings(str(tmp_path / "w.duckdb"))
    tell(reset, b"0")
    try:
        unknown = refusal(s3_feed(endpoint, access_key_id="AKIANOBODY"), AccessDenied)
        wrong = refusal(s3_feed(endpoint, access_key_id=key["AccessKeyId"]), AccessDenied)
        right = {"access_key_id": key["AccessKeyId"], "secret_access_key": key["SecretAccessKey"]}
        denied = refusal(s3_feed(endpoint, **right), AccessDenied)
        feed = s3_feed(endpoint, **right).options
        findings = list(check(Config((replace(settings, feed=feed),), warehouse)))
    finally:
        tell(reset, b"inf")

    assert (
        "the store does not know the access key (signed with the feed's access_key_id)" in unknown
    )
    assert "the secret does not match the access key" in wrong
    assert "access denied (403" in denied
    assert "s3:ListBucket" in denied
    assert key["AccessKeyId"] not in unknown + wrong + denied
    assert [(each.code, each.mend) for each in findings if each.level == "fail"] == [
        ("feed.files", denied)
    ]


def test_a_closed_port_and_an_unknown_host() -> None:
    """Unavailable, within seconds, with the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for host in (f"127.0.0.1:{port}", "nobody.invalid"):
        started = time.monotonic()
        message = refusal(s3_feed(f"http://{host}"), Unavailable)

        assert message.startswith(f"s3://exports/acme/ at {host}: listing its files failed")
        assert time.monotonic() - started < 30


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    """It is a ConfigError: a setting must change."""
    message = refusal(folder_feed(tmp_path / "nowhere"), ConfigError)

    assert message == f"{tmp_path}/nowhere: there is no such folder. Check the feed's url."


def test_a_file_that_does_not_fit_on_the_disk_does_not_stop_the_others(tmp_path: Path) -> None:
    """It is tried again later. The limit here is the largest size of a file."""
    resource = pytest.importorskip("resource")
    feed_folder = tmp_path / "feed"
    feed_folder.mkdir()
    (feed_folder / "a.csv.gz").write_bytes(gzip.compress(CSV * 10_000))
    (feed_folder / "b.csv.gz").write_bytes(gzip.compress(CSV))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with folder_feed(feed_folder) as feed:
            large, small = feed.fetch(sorted(feed.list()), tmp_path / "in")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)

    assert isinstance(small, FeedFile)
    assert isinstance(large, Unreadable)
    assert large.later
    assert "warehouse.temp_directory" in large.reason
    assert list((tmp_path / "in").iterdir()) == [small.path]


def test_a_disk_that_cannot_be_written_is_not_the_files_fault(tmp_path: Path) -> None:
    """No file is set aside; the run stops with the reason."""
    for number in range(9):
        (tmp_path / f"{number}.csv").write_bytes(CSV)
    with folder_feed(tmp_path) as feed:
        files = feed.fetch(list(feed.list()), tmp_path / "in")
        next(files)
        (tmp_path / "in").rename(tmp_path / "gone")
        with pytest.raises(ReplicaError, match="Check the free disk space"):
            list(files)


# --- Credentials -------------------------------------------------------------------------------


def test_missing_credentials_are_reported_at_once() -> None:
    """The message names every place that was searched."""
    started = time.monotonic()
    message = refusal(ExportFiles(FeedSettings("s3://exports/x"), EMAIL_EVENTS), AccessDenied)

    assert time.monotonic() - started < 3
    for place in ("access_key_id", "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "web identity", "instance"):
        assert place in message


def test_a_metadata_service_that_does_not_answer_causes_no_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Outside Amazon's machines there is no answer at the metadata address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{port}")

    message = refusal(ExportFiles(FeedSettings("s3://exports/x"), EMAIL_EVENTS), AccessDenied)
    assert "no AWS credentials were found" in message


def signed_by(feed: ExportFiles) -> tuple[str, str]:
    """Give the source of the credentials, and the key id that signs."""
    provider = bucket_of(feed).store.credential_provider  # type: ignore[union-attr]
    return bucket_of(feed).signed_by, provider()["access_key_id"]  # type: ignore[index, misc]


def test_credentials_are_found_in_the_order_of_the_chain(
    s3: S3Client, endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Settings, environment, named profile, default profile: the first of them signs."""
    s3.put_object(Bucket="exports", Key="acme/1.csv", Body=CSV)
    (tmp_path / "aws-credentials").write_text(
        "[default]\naws_access_key_id=of-default\naws_secret_access_key=x\n"
        "[acme]\naws_access_key_id=of-acme\naws_secret_access_key=x\n"
    )
    (tmp_path / "aws-config").write_text("[profile acme]\nregion = eu-west-1\n")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)

    def feed(**options: str) -> ExportFiles:
        found = ExportFiles(settings_of("s3://exports/acme", **options), EMAIL_EVENTS)
        assert names(found) == ["1.csv"]
        return found

    assert signed_by(feed()) == ("the profile (default)", "of-default")
    monkeypatch.setenv("AWS_PROFILE", "acme")
    assert signed_by(feed()) == ("AWS_PROFILE (acme)", "of-acme")
    assert bucket_of(feed()).store.config["region"] == "eu-west-1"  # type: ignore[union-attr]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-env")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "x")
    assert signed_by(feed()) == ("AWS_ACCESS_KEY_ID", "of-env")
    assert signed_by(feed(profile="acme")) == ("the feed's profile (acme)", "of-acme")
    keys = {"access_key_id": "of-feed", "secret_access_key": "x"}
    assert signed_by(feed(**keys)) == ("the feed's access_key_id", "of-feed")


def test_a_profile_that_does_not_exist_is_named() -> None:
    """It is a ConfigError: a setting must change."""
    message = refusal(
        ExportFiles(FeedSettings("s3://exports/x", profile="acme"), EMAIL_EVENTS),
        ConfigError,
    )
    assert "no profile 'acme'" in message


def test_a_role_is_assumed(s3: S3Client, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session from the token service signs."""
    s3.put_object(Bucket="exports", Key="acme/1.csv", Body=CSV)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    feed = s3_feed(endpoint, role_arn="arn:aws:iam::123456789012:role/reader")

    assert names(feed) == ["1.csv"]
    assert signed_by(feed)[1].startswith("ASIA")


def test_options_hide_their_secrets() -> None:
    """They may end up in a log or a traceback."""
    options = settings_of(
        "s3://b/", access_key_id="AKIAHIDDEN", secret_access_key=SECRET, session_token="TOKEN"
    )

    assert "HIDDEN" not in repr(options)
    assert SECRET not in repr(options)
    assert "TOKEN" not in repr(options)
