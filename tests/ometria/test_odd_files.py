"""Names, links and folders that cannot be read as others are: the rest of the feed is read."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer
from obstore.store import LocalStore

from ometria_replica.config import FeedSettings, Secret
from ometria_replica.errors import ConfigError, OmetriaError
from ometria_replica.ometria.bucket import open_bucket
from ometria_replica.ometria.export import ExportFiles
from ometria_replica.ometria.file_names import from_text, to_text
from ometria_replica.records import FeedFile, Unreadable
from ometria_replica.tables import EMAIL_EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mypy_boto3_s3 import S3Client

CSV = b"to_address,event_type,dt_occurred\na@x.test,open,2026-01-01\n"


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
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1",
        aws_access_key_id="key", aws_secret_access_key="secret",
    )  # fmt: skip
    client.create_bucket(Bucket="exports")
    yield client
    for found in client.list_objects_v2(Bucket="exports", MaxKeys=1000).get("Contents", []):
        client.delete_object(Bucket="exports", Key=found["Key"])
    client.delete_bucket(Bucket="exports")


def settings(endpoint: str, prefix: str = "acme") -> FeedSettings:
    return FeedSettings(
        f"s3://exports/{prefix}",
        endpoint_url=endpoint,
        access_key_id=Secret("key", "the test"),
        secret_access_key=Secret("secret", "the test"),
    )


def read(feed: ExportFiles, folder: Path) -> dict[str, bytes | str]:
    """Read all files: the text of each by name, or the reason why it is set aside for later."""
    found: dict[str, bytes | str] = {}
    with feed:
        for file in feed.fetch(sorted(feed.list()), folder):
            match file:
                case FeedFile():
                    found[file.origin.name] = file.path.read_bytes()
                case Unreadable(origin, reason, again=False, later=True):
                    found[origin.name] = reason
    return found


# --- In a bucket -------------------------------------------------------------------------------


def test_keys_that_the_driver_cannot_name_are_read(
    s3: S3Client, endpoint: str, tmp_path: Path
) -> None:
    """With an empty part or a control character, before and after others of the same page."""
    odd = ["/1.csv", "a//2.csv", "b\x01.csv", "c\x7f+ %.csv", "z//"]
    for name in ["0.csv", *odd, "a b+c%25é=&.csv", "y.csv"]:
        s3.put_object(Bucket="exports", Key=f"acme/{name}", Body=CSV + name.encode())
    s3.put_object(Bucket="exports", Key="acme/../dots.csv", Body=CSV)
    s3.put_object(Bucket="exports", Key="acme-2//other.csv", Body=CSV)
    feed = ExportFiles(settings(endpoint), EMAIL_EVENTS)

    found = read(feed, tmp_path)

    dots = found.pop("../dots.csv")
    assert "'..'" in str(dots)
    assert sorted(found) == sorted(["0.csv", *odd, "a b+c%25é=&.csv", "y.csv"])
    for name in (name for name in found if name != "z//"):
        assert found[name] == CSV + name.encode()
    assert sorted(file.name for file in feed.list("a//2.csv")) == [
        "b\x01.csv",
        "c\x7f+ %.csv",
        "y.csv",
        "z//",
    ]


def test_a_key_with_the_text_of_an_escape_is_read_by_either_listing(
    s3: S3Client, endpoint: str, tmp_path: Path
) -> None:
    """It has one name, whether or not another key has a character that the driver cannot name."""
    for name in (r"c\x00.csv", r"d\e.csv"):
        s3.put_object(Bucket="exports", Key=f"acme/{name}", Body=CSV + name.encode())
    expected = {
        r"c\\x00.csv": CSV + rb"c\x00.csv",
        r"d\e.csv": CSV + rb"d\e.csv",
    }
    assert read(ExportFiles(settings(endpoint), EMAIL_EVENTS), tmp_path / "1") == expected

    s3.put_object(Bucket="exports", Key="acme//odd.csv", Body=CSV)
    found = read(ExportFiles(settings(endpoint), EMAIL_EVENTS), tmp_path / "2")
    assert found == {**expected, "/odd.csv": CSV}


@given(st.binary(), st.binary())
def test_no_two_names_have_one_text(one: bytes, other: bytes) -> None:
    """Each is read back from its text, whatever its bytes are."""
    assert from_text(to_text(one)) == one
    for name in (other, to_text(other).encode(), other.replace(b"x", rb"\x0a"), one + rb"\xff"):
        assert from_text(to_text(name)) == name


def test_a_key_that_ends_with_a_slash_is_read(s3: S3Client, endpoint: str, tmp_path: Path) -> None:
    """The driver lists it without the slash, also beside the key that has none."""
    for key, body in (("acme/a", CSV), ("acme/a/", CSV + CSV), ("acme/b/", CSV)):
        s3.put_object(Bucket="exports", Key=key, Body=body)
    with ExportFiles(settings(endpoint), EMAIL_EVENTS) as export:
        files = list(export.fetch(sorted(export.list()), tmp_path))

    sizes = [file.path.stat().st_size for file in files if isinstance(file, FeedFile)]
    assert sorted(sizes) == [len(CSV), len(CSV), 2 * len(CSV)]


def test_versions_are_the_same_by_either_listing(s3: S3Client, endpoint: str) -> None:
    """One odd key makes no other file new: ETag, size and time are the same."""
    for name in ("1.csv", "2.csv"):
        s3.put_object(Bucket="exports", Key=f"acme/{name}", Body=CSV)
    before = sorted(ExportFiles(settings(endpoint), EMAIL_EVENTS).list())
    s3.put_object(Bucket="exports", Key="acme//odd.csv", Body=CSV)

    after = sorted(ExportFiles(settings(endpoint), EMAIL_EVENTS).list())

    assert [file for file in after if file.name != "/odd.csv"] == before


def test_a_listing_with_odd_keys_goes_beyond_a_page(
    s3: S3Client, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page after page, each after the last key of the one before."""
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")
    odd = ["/1", "/2", "a//3", "b\x01", "b\x02"]
    for name in odd:
        s3.put_object(Bucket="exports", Key=f"acme/{name}", Body=CSV)

    assert sorted(f.name for f in ExportFiles(settings(endpoint), EMAIL_EVENTS).list()) == odd


def test_a_prefix_that_the_driver_cannot_name(s3: S3Client, endpoint: str, tmp_path: Path) -> None:
    """An empty part in the middle is part of the keys; dots are an error of the settings."""
    s3.put_object(Bucket="exports", Key="acme//x/1.csv", Body=CSV)
    s3.put_object(Bucket="exports", Key="acme/x/2.csv", Body=CSV)

    assert read(ExportFiles(settings(endpoint, "acme//x"), EMAIL_EVENTS), tmp_path) == {
        "1.csv": CSV
    }
    with pytest.raises(ConfigError, match="no S3 prefix"):
        list(ExportFiles(settings(endpoint, "acme/../x"), EMAIL_EVENTS).list())


@pytest.mark.parametrize("path", ["acme//a%01b.csv?x-id=GetObject", "?list-type=2&prefix=a%2F"])
def test_the_address_of_an_odd_key_is_signed_as_amazon_does(path: str, endpoint: str) -> None:
    """Amazon's own library makes the same signature for the same address and time."""
    odd = open_bucket(settings(endpoint)).odd_keys
    assert odd is not None
    signed = odd.sign(path)
    address, _, _ = signed.partition("&X-Amz-")
    query = parse_qs(urlsplit(signed).query)

    class Then(S3SigV4QueryAuth):
        def add_auth(self, request: AWSRequest) -> None:
            request.context["timestamp"] = query["X-Amz-Date"][0]
            self._modify_request_before_signing(request)  # type: ignore[attr-defined] # Unknown to its stubs.
            text = self.string_to_sign(request, self.canonical_request(request))
            self.signature_of = self.signature(text, request)

    theirs = Then(Credentials("key", "secret"), "s3", "us-east-1", expires=3600)
    request = AWSRequest(method="GET", url=address.replace("x-feed=/1", "x-feed=%2F1"))
    theirs.add_auth(request)

    assert query["X-Amz-Signature"] == [theirs.signature_of]


# --- In a folder -------------------------------------------------------------------------------


def folder_feed(folder: Path, **options: bool) -> ExportFiles:
    return ExportFiles(FeedSettings(str(folder), settle_seconds=0, **options), EMAIL_EVENTS)  # type: ignore[arg-type]


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    folder = tmp_path / "feed"
    (folder / "sub").mkdir(parents=True)
    (folder / "good.csv").write_bytes(CSV)
    (folder / "sub" / "good.csv").write_bytes(CSV)
    return folder


GOOD = {"good.csv": CSV, "sub/good.csv": CSV}


def test_a_version_is_written_as_older_releases_did(feed: Path) -> None:
    """The file log stays valid: names, versions, sizes and times are those of the driver."""
    (feed / "%20 é#x~.csv").write_bytes(CSV)
    found = {
        (file.name, file.etag, file.size, file.modified_at) for file in folder_feed(feed).list()
    }

    assert found == {
        (meta["path"], meta["e_tag"], meta["size"], meta["last_modified"])
        for chunk in LocalStore(feed).list()
        for meta in chunk
    }


def test_names_that_are_no_text_are_read(feed: Path, tmp_path: Path) -> None:
    """With control characters as they are, and bytes that are no UTF-8 escaped."""
    for name in (b"a\x01.csv", b"b\n.csv", b"c\xff.csv", b"d\\e?*.csv"):
        with open(os.path.join(os.fsencode(feed), name), "wb") as file:  # noqa: PTH118, PTH123 -- Bytes are no Path.
            file.write(CSV)

    odd = {"a\x01.csv": CSV, "b\n.csv": CSV, "c\\xff.csv": CSV, "d\\e?*.csv": CSV}
    assert read(folder_feed(feed), tmp_path / "in") == GOOD | odd


def test_two_names_of_one_text_are_two_files(feed: Path, tmp_path: Path) -> None:
    r"""One has the byte, the other the text ``\xff``: each is read, under a name of its own."""
    for name, content in ((b"c\xff.csv", CSV), (rb"c\xff.csv", CSV + CSV)):
        with open(os.path.join(os.fsencode(feed), name), "wb") as file:  # noqa: PTH118, PTH123 -- Bytes are no Path.
            file.write(content)
    settings = FeedSettings(str(feed), pattern="c*")
    with ExportFiles(settings, EMAIL_EVENTS, settle_seconds=0) as export:
        files = list(export.fetch(sorted(export.list()), tmp_path / "in"))

    sizes = {f.origin.name: f.path.stat().st_size for f in files if isinstance(f, FeedFile)}
    assert sizes == {r"c\xff.csv": len(CSV), r"c\\xff.csv": 2 * len(CSV)}


def test_links_out_of_the_folder_are_followed_only_if_a_setting_asks(
    feed: Path, tmp_path: Path
) -> None:
    """Those within it always are; a folder to which several links lead is listed once."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.csv").write_bytes(CSV)
    (feed / "file.csv").symlink_to(outside / "secret.csv")
    (feed / "folder").symlink_to(outside)
    (feed / "again").symlink_to(outside)
    (feed / "inside.csv").symlink_to("good.csv")
    (feed / "within").symlink_to("sub")

    found = read(folder_feed(feed), tmp_path / "in")

    assert {name: text for name, text in found.items() if isinstance(text, bytes)} == GOOD | {
        "inside.csv": CSV
    }
    for name in ("file.csv", "folder", "again"):
        assert "follow_symlinks" in str(found[name])
    followed = read(folder_feed(feed, follow_symlinks=True), tmp_path / "in")
    assert followed.pop("again/secret.csv", followed.pop("folder/secret.csv", None)) == CSV
    assert followed == GOOD | {"inside.csv": CSV, "file.csv": CSV}


def test_a_link_that_is_swapped_after_the_listing_is_not_followed(
    feed: Path, tmp_path: Path
) -> None:
    """A listed file may become a link before it is read."""
    (tmp_path / "secret.csv").write_bytes(CSV)
    files = folder_feed(feed)
    asked = [file for file in files.list() if file.name == "good.csv"]
    (feed / "good.csv").unlink()
    (feed / "good.csv").symlink_to(tmp_path / "secret.csv")
    with files:
        (found,) = files.fetch(asked, tmp_path / "in")

    assert isinstance(found, Unreadable)
    assert "follow_symlinks" in found.reason


def test_loops_and_dangling_links_end_nothing(feed: Path, tmp_path: Path) -> None:
    """They are set aside with the system's reason; a link to a folder above is no reason."""
    (feed / "loop").symlink_to("loop")
    (feed / "a").symlink_to("b")
    (feed / "b").symlink_to("a")
    (feed / "nowhere.csv").symlink_to("missing")
    (feed / "sub" / "up").symlink_to(feed)
    os.mkfifo(feed / "pipe.csv")

    found = read(folder_feed(feed), tmp_path / "in")

    loop = "it cannot be opened (too many levels of symbolic links)"
    assert found == GOOD | {
        "loop": loop,
        "a": loop,
        "b": loop,
        "nowhere.csv": "it cannot be opened (no such file or directory)",
    }


def test_what_may_not_be_read_ends_nothing(
    feed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file and a folder without permissions. Root may read all, so the system's calls refuse."""
    (feed / "closed").mkdir()
    (feed / "closed.csv").write_bytes(CSV)
    scandir, opened = os.scandir, os.open

    def open_only(path: str | Path) -> str | Path:
        if "closed" in str(path):
            raise PermissionError(13, "Permission denied")
        return path

    if os.geteuid():
        (feed / "closed").chmod(0)
        (feed / "closed.csv").chmod(0)
    else:
        monkeypatch.setattr(os, "scandir", lambda path: scandir(open_only(path)))
        monkeypatch.setattr(os, "open", lambda path, *more: opened(open_only(path), *more))

    found = read(folder_feed(feed), tmp_path / "in")

    assert found == GOOD | {
        "closed/": "the folder cannot be read (permission denied)",
        "closed.csv": "it cannot be opened (permission denied)",
    }


def test_a_feed_whose_own_folder_cannot_be_listed_is_an_error(feed: Path) -> None:
    """It may hold any file."""
    files = folder_feed(feed)
    _ = files.files
    feed.rename(feed.with_name("moved"))

    with pytest.raises(OmetriaError, match=r"listing its files failed \(no such file"):
        list(files.list())
