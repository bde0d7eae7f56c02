"""
A deadline for a whole request, which the HTTP library has only for each read of a socket.

A server that sends a byte now and then, or interim answers (1xx) without end, never lets such a
read time out. So each read, write and connection of a request gets at most the time that is left,
and so does the lookup of the host's name, which the system offers without a limit of time.
"""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpcore2
import httpx2

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator


class DeadlineBackend(httpcore2.NetworkBackend):
    """Opens connections whose operations end by the deadline of the thread that uses them."""

    def __init__(self) -> None:
        self._backend = httpcore2.SyncBackend()
        self._deadline = threading.local()

    def apply_to(self, client: httpx2.Client) -> None:
        """Open the connections of *client* here, also those through a proxy."""
        # httpx2 has no setting for it; tests/ometria/test_limits.py fails if this has no effect.
        for transport in (client._transport, *client._mounts.values()):  # noqa: SLF001
            if isinstance(transport, httpx2.HTTPTransport):
                transport._pool._network_backend = self  # noqa: SLF001

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """End the block's requests *seconds* from now: they raise httpx2.TimeoutException."""
        self._deadline.at = time.monotonic() + seconds
        try:
            yield
        finally:
            del self._deadline.at

    def left(self, timeout: float | None) -> float | None:
        """Return *timeout*, or the time that is left if that is less. None means no limit."""
        at = getattr(self._deadline, "at", None)
        if at is None:
            return timeout
        left = float(at) - time.monotonic()
        if left <= 0:
            raise httpcore2.ReadTimeout("the deadline of the request has passed")
        return left if timeout is None else min(timeout, left)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """Connect to *host*, at the first of its addresses that accepts."""
        failure: Exception = httpcore2.ConnectError(f"{host} has no address")
        for address in self._addresses(host, port, timeout):
            try:
                stream = self._backend.connect_tcp(
                    address, port, self.left(timeout), local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
            else:
                return _DeadlineStream(stream, self)
        raise failure

    def _addresses(self, host: str, port: int, timeout: float | None) -> list[str]:
        """Look up *host* in a thread, which is left to itself if it takes too long."""
        found: Future[list[str]] = Future()
        threading.Thread(target=_look_up, args=[host, port, found], daemon=True).start()
        try:
            return found.result(self.left(timeout))
        except TimeoutError:
            raise httpcore2.ConnectTimeout(f"the lookup of {host} did not end") from None
        except OSError as error:
            raise httpcore2.ConnectError(f"{host} cannot be looked up") from error


def _look_up(host: str, port: int, found: Future[list[str]]) -> None:
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        found.set_result(list(dict.fromkeys(str(address[0]) for *_, address in answers)))
    except BaseException as error:  # noqa: BLE001 -- The thread that waits for it raises it.
        found.set_exception(error)


class _DeadlineStream(httpcore2.NetworkStream):
    """A connection whose operations end by the deadline of *backend*."""

    def __init__(self, stream: httpcore2.NetworkStream, backend: DeadlineBackend) -> None:
        self._stream = stream
        self._backend = backend

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._backend.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._backend.left(timeout))

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        left = self._backend.left(timeout)
        return _DeadlineStream(
            self._stream.start_tls(ssl_context, server_hostname, left), self._backend
        )

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
