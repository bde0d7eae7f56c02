"""The certificates that connections to the API trust."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import httpx2

if TYPE_CHECKING:
    import ssl


@functools.cache
def trusted(cert_file: str | None, cert_folder: str | None) -> ssl.SSLContext:  # noqa: ARG001 -- httpx reads these variables itself; another value means other certificates.
    """
    Read the certificates of this machine, once for all clients: 20 ms of CPU time.

    *cert_file* and *cert_folder* are the values of ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``.
    """
    return httpx2.create_ssl_context()
