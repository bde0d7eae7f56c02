"""A pooler in transaction mode, as PgBouncer is: each transaction may get another connection."""

from __future__ import annotations

import selectors
import socket
import struct
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SOCKET = ".s.PGSQL.5432"


@contextmanager
def pooled(server: Path, folder: Path) -> Iterator[Path]:
    """Stand before the *server*'s socket, with a socket in *folder*, which is given back."""
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(folder / _SOCKET))
        door.listen()
        threading.Thread(target=_admit, args=(door, server), daemon=True).start()
        yield folder
        door.shutdown(socket.SHUT_RDWR)


def _admit(door: socket.socket, server: Path) -> None:
    while True:
        try:
            client, _ = door.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(client, server), daemon=True).start()


def _serve(client: socket.socket, server: Path) -> None:
    """Pass a client's transactions to two connections, in turn."""
    with (
        suppress(OSError),
        client,
        socket.socket(socket.AF_UNIX) as first,
        socket.socket(socket.AF_UNIX) as second,
        selectors.DefaultSelector() as ready,
    ):
        startup = _packet(client)
        pair = [_Connection(each, server, startup) for each in (first, second)]
        client.sendall(pair[0].greeting)
        ready.register(client, selectors.EVENT_READ)
        for connection in pair:
            ready.register(connection.socket, selectors.EVENT_READ, connection)
        _pass_on(client, pair, ready)


def _pass_on(client: socket.socket, pair: list[_Connection], ready: selectors.BaseSelector) -> None:
    used = 0
    while True:
        for key, _ in ready.select():
            if key.data is not None:
                client.sendall(key.data.receive())
                continue
            if pair[used].is_idle:
                used = 1 - used
            asked = client.recv(65536)
            if not asked:
                return
            pair[used].send(asked)


class _Connection:
    """A connection to the server, which *is_idle* between transactions."""

    def __init__(self, own: socket.socket, server: Path, startup: bytes) -> None:
        self.socket = own
        self.socket.connect(str(server / _SOCKET))
        self.is_idle = False
        self._unread = b""
        self.socket.sendall(startup)
        self.greeting = b""
        while not self.is_idle:
            self.greeting += self.receive()

    def send(self, asked: bytes) -> None:
        self.is_idle = False
        self.socket.sendall(asked)

    def receive(self) -> bytes:
        """Read what the server says, and note whether it ended a transaction."""
        said = self.socket.recv(65536)
        if not said:
            raise OSError
        self._unread += said
        while len(self._unread) >= 5:
            kind, size = struct.unpack("!cI", self._unread[:5])
            if len(self._unread) < 1 + size:
                break
            self.is_idle = kind == b"Z" and self._unread[5:6] == b"I"
            self._unread = self._unread[1 + size :]
        return said


def _packet(client: socket.socket) -> bytes:
    head = client.recv(4, socket.MSG_WAITALL)
    return head + client.recv(struct.unpack("!I", head)[0] - 4, socket.MSG_WAITALL)
