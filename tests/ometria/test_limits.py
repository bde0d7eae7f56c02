"""An answer may be endless in time, in size, or in what it decompresses to: a request ends."""

from __future__ import annotations

import gzip
import socket
import subprocess
import sys
import threading
import time
import zlib
from contextlib import contextmanager
from itertools import chain, repeat
from typing import TYPE_CHECKING

import pytest

from ometria_replica.errors import AccessDenied, Unavailable, UnexpectedResponse
from ometria_replica.ometria.client import Client
from tests.ometria.listener import KEY, Reply, client_of, listening

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
GZIPPED = OK + b"Content-Encoding: gzip\r\n\r\n"
DRIP_SECONDS = 0.02
BOMB_BYTES = 600_000_000


@contextmanager
def sending(parts: Callable[[], Iterable[bytes]], pause: float = 0.0) -> Iterator[str]:
    """Serve *parts* as they are, to each connection, with *pause* seconds between them."""
    closing = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection:
            connection.settimeout(5)
            try:
                connection.recv(65_536)
                for part in parts():
                    connection.sendall(part)
                    if closing.wait(pause) if pause else closing.is_set():
                        return
            except OSError:
                return

    def accept() -> None:
        while not closing.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=[connection], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v2"
        closing.set()
        listener.shutdown(socket.SHUT_RDWR)


def impatient(url: str, folder: Path) -> Client:
    """Make a client on a real clock that allows an attempt 0.5 s, of which a byte may take 0.4."""
    return Client(
        api_url=url,
        api_key=KEY,
        requests_per_second=1000,
        timeout_seconds=0.4,
        deadline_seconds=0.5,
        give_up_after_seconds=0.5,
        rate_limit_folder=folder,
    )


def empty_gzip() -> Iterator[bytes]:
    """Give a gzip stream that never ends and expands to nothing."""
    compressor = zlib.compressobj(wbits=31)
    yield GZIPPED
    while True:
        yield compressor.flush(zlib.Z_FULL_FLUSH) or b"\x00\x00\x00\xff\xff"


ENDLESS_IN_TIME: dict[str, Callable[[], Iterable[bytes]]] = {
    "a status line that drips": lambda: (bytes([byte]) for byte in OK * 1000),
    "headers that drip": lambda: chain([OK, b"X"], repeat(b"-")),
    "interim answers": lambda: repeat(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"),
    "a body that drips": lambda: chain([OK + b"\r\n["], repeat(b" ")),
    "a chunked body that drips": lambda: chain(
        [OK + b"Transfer-Encoding: chunked\r\n\r\n"], repeat(b"1\r\n \r\n")
    ),
    "gzip that expands to nothing": empty_gzip,
    "empty members of gzip": lambda: chain([GZIPPED], repeat(gzip.compress(b"", mtime=0))),
}


@pytest.mark.parametrize("parts", ENDLESS_IN_TIME.values(), ids=ENDLESS_IN_TIME)
@pytest.mark.parametrize("pause", [DRIP_SECONDS, 0.0], ids=["slowly", "at full speed"])
def test_an_answer_that_never_ends_is_given_up_at_the_deadline(
    parts: Callable[[], Iterable[bytes]], pause: float, tmp_path: Path
) -> None:
    """A server that keeps sending, and never says anything, does not hold a run for ever."""
    began = time.monotonic()
    with (
        sending(parts, pause) as url,
        impatient(url, tmp_path) as client,
        pytest.raises((Unavailable, UnexpectedResponse)) as caught,
    ):
        client.get("profiles")

    assert time.monotonic() - began < 3
    assert "GET /profiles" in str(caught.value)
    if pause:
        assert "did not end within 0.5 seconds" in str(caught.value)
        assert caught.value.exit_code == 75


def test_a_name_lookup_ends_at_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that does not respond does not hold a run: the system waits without limit."""
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(20))
    began = time.monotonic()
    with (
        impatient("https://ometria.invalid/v2", tmp_path) as client,
        pytest.raises(Unavailable, match="could not be reached"),
    ):
        client.get("profiles")

    assert time.monotonic() - began < 3
    released.set()


def test_a_host_is_reached_at_the_first_address_that_accepts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host may have several, as IPv6 without a route beside IPv4; a connection is then kept."""
    looked_up: list[str] = []

    def addresses(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        looked_up.append(host)
        return [(0, 0, 0, "", (each, port)) for each in ("127.0.0.2", "127.0.0.1", "127.0.0.1")]

    with (
        listening(lambda _: Reply(b'[{"id":"1"}]')) as server,
        client_of(server.url.replace("127.0.0.1", "ometria.invalid"), tmp_path) as client,
    ):
        real = socket.getaddrinfo
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda host, port, *more, **options: (
                addresses(host, port)
                if host == "ometria.invalid"
                else real(host, port, *more, **options)
            ),
        )
        assert [client.get("lists").records for _ in range(2)] == [[{"id": "1"}]] * 2

    assert looked_up == ["ometria.invalid"]


def test_a_deadline_applies_through_a_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy from the environment opens other connections, which end in time too."""
    with sending(ENDLESS_IN_TIME["headers that drip"], DRIP_SECONDS) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.removesuffix("/v2"))
        began = time.monotonic()
        with (
            impatient("http://ometria.invalid/v2", tmp_path) as client,
            pytest.raises(Unavailable, match="did not end within"),
        ):
            client.get("profiles")

    assert time.monotonic() - began < 3


def test_a_refusal_whose_body_never_ends_is_a_refusal(tmp_path: Path) -> None:
    """The status of an answer counts, whatever follows it."""
    refused = b"HTTP/1.1 403 Forbidden\r\n\r\n"
    with (
        sending(lambda: chain([refused], repeat(b"x" * 65_536))) as url,
        impatient(url, tmp_path) as client,
        pytest.raises(AccessDenied),
    ):
        client.get("profiles")


def bomb() -> bytes:
    """Compress the beginning of an array and a lot of spaces."""
    compressor = zlib.compressobj(9, wbits=31)
    spaces = b" " * 1_000_000
    packed = compressor.compress(b"[")
    packed += b"".join(compressor.compress(spaces) for _ in range(BOMB_BYTES // len(spaces)))
    return packed + compressor.flush()


LARGE: dict[str, Callable[[], Iterable[bytes]]] = {
    "an endless body": lambda: chain([OK + b"\r\n["], repeat(b" " * 65_536)),
    "an endless chunked body": lambda: chain(
        [OK + b"Transfer-Encoding: chunked\r\n\r\n"], repeat(b"10000\r\n" + b" " * 65_536 + b"\r\n")
    ),
    "two gigabytes": lambda: chain(
        [OK + b"Content-Length: 2000000000\r\n\r\n"], repeat(b" " * 65_536, 40_000)
    ),
}


@pytest.mark.parametrize("parts", LARGE.values(), ids=LARGE)
def test_a_body_beyond_the_limit_is_an_error(
    parts: Callable[[], Iterable[bytes]], tmp_path: Path
) -> None:
    """Reading stops soon after the limit, and the error names the setting."""
    with (
        sending(parts) as url,
        client_of(url, tmp_path, max_answer_bytes=1_000_000) as client,
        pytest.raises(UnexpectedResponse, match=r"1,000,000 bytes \(max_answer_bytes\)") as caught,
    ):
        client.get("profiles")

    assert client.requests == 1
    assert "GET /profiles" in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("values", [b"0," * 100_000, b"[]," * 50_000, b'{"a":1},' * 20_000])
def test_many_short_values_count_for_more_than_their_bytes(values: bytes, tmp_path: Path) -> None:
    """Each takes a hundred bytes once it is parsed, so an answer of few bytes may hold millions."""
    with (
        listening(lambda _: Reply(b"[" + values + b"0]")) as server,
        client_of(server.url, tmp_path, max_answer_bytes=1_000_000) as client,
    ):
        with pytest.raises(UnexpectedResponse, match=r"1,000,000 bytes \(max_answer_bytes\)"):
            client.get("profiles")
        assert len(values) < 1_000_000


READ_A_BOMB = """
import resource, sys
from pathlib import Path
from ometria_replica.errors import UnexpectedResponse
from ometria_replica.ometria.client import Client
client = Client(api_url=sys.argv[1], api_key="key", rate_limit_folder=Path(sys.argv[2]),
                max_answer_bytes=50_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    client.get("profiles")
except UnexpectedResponse as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_gzip_of_600_megabytes_uses_little_memory(tmp_path: Path) -> None:
    """The memory for an answer depends on the limit, not on what it would decompress to."""
    packed = bomb()
    head = OK + b"Content-Encoding: gzip\r\nContent-Length: " + str(len(packed)).encode()
    with sending(lambda: [head + b"\r\n\r\n", packed]) as url:
        done = subprocess.run(
            [sys.executable, "-c", READ_A_BOMB, url, str(tmp_path)],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip

    kilobytes = int(done.stdout)
    assert kilobytes < 200_000


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(b'[{"id":"1"}]', mtime=0)),
        ("x-gzip", gzip.compress(b'[{"id":"1"}]', mtime=0)),
        ("GZIP", gzip.compress(b'[{"id"', mtime=0) + gzip.compress(b':"1"}]', mtime=0)),
        ("deflate", zlib.compress(b'[{"id":"1"}]')),
        ("identity", b'[{"id":"1"}]'),
        ("", b'[{"id":"1"}]'),
    ],
)
def test_a_compressed_body_is_decompressed(encoding: str, packed: bytes, tmp_path: Path) -> None:
    """The API may compress its answers with gzip, also in several members."""
    reply = Reply(packed, headers={"Content-Encoding": encoding})
    with listening(lambda _: reply) as server, client_of(server.url, tmp_path) as client:
        assert client.get("lists").records == [{"id": "1"}]

    assert server.asked[0].headers["Accept-Encoding"] == "gzip"


@pytest.mark.parametrize(
    ("encoding", "packed", "reason"),
    [
        ("gzip", b'[{"id":"1"}]', "damaged"),
        ("gzip", gzip.compress(b'[{"id":"1"}]', mtime=0)[:-9], "cut"),
        ("gzip", gzip.compress(b'[{"id":"1"}]', mtime=0) + b"\xff\xff\xff", "damaged"),
        ("br", b"\x0b\x02\x80[]\x03", "not requested"),
        ("gzip, gzip", gzip.compress(gzip.compress(b"[]", mtime=0), mtime=0), "not requested"),
        ("ann@example.com", b"[]", "not requested"),
    ],
)
def test_a_body_that_cannot_be_decompressed_is_retried(
    encoding: str, packed: bytes, reason: str, tmp_path: Path
) -> None:
    """It may have been damaged on its way; in the end the message says why."""
    reply = Reply(packed, headers={"Content-Encoding": encoding})
    with (
        listening(lambda _: reply) as server,
        client_of(server.url, tmp_path) as client,
        pytest.raises(Unavailable, match=reason) as caught,
    ):
        client.get("lists")

    assert client.requests > 1
    assert "ann@" not in str(caught.value)
