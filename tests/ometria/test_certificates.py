"""What happens to the key before it is sent: certificates, and proxies."""

from __future__ import annotations

import http.server
import ssl
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ometria_replica.errors import UnexpectedResponse
from tests.ometria.listener import client_of, json_reply, listening

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GOOD = json_reply([{"id": "1"}])


def _certificate(folder: Path, name: str) -> Path:
    """Write a certificate that a host called *name* has signed itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = folder / f"{name}.pem"
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return path


@contextmanager
def over_tls(folder: Path, name: str) -> Iterator[str]:
    """Answer 404 over TLS, with a certificate of *name*; give the address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(404)
            self.end_headers()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_certificate(folder, name))
    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"https://localhost:{server.server_port}/v2"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("name", "is_trusted", "problem"),
    [
        ("localhost", False, "The certificate of localhost is not trusted: self-signed cert"),
        ("elsewhere.test", True, "not trusted: Hostname mismatch"),
        ("localhost", True, "(404)"),
    ],
)
def test_a_certificate_that_is_not_trusted_is_named(
    name: str, is_trusted: bool, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no outage, so it is told at once; the file that the message names makes it trusted."""
    with over_tls(tmp_path, name) as url:
        if is_trusted:
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / f"{name}.pem"))
        with client_of(url, tmp_path) as client, pytest.raises(UnexpectedResponse) as caught:
            client.get("profiles")

    assert problem in str(caught.value)
    assert ("SSL_CERT_FILE" in str(caught.value)) == ("trusted" in problem)
    assert client.requests == 1


def test_no_proxy_receives_a_key_in_the_clear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A local API is asked directly, whatever proxy the environment names."""
    with listening(lambda _: GOOD) as proxy, listening(lambda _: GOOD) as server:
        for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(variable, proxy.url.removesuffix("/v2"))
        for variable in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(variable, raising=False)
        with client_of(server.url, tmp_path) as client:
            client.get("profiles")

    assert (len(server.asked), proxy.asked) == (1, [])
