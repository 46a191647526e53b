"""Serve a WSGI application over HTTPS on loopback, with a certificate authority of our own."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import trustme
from cheroot import wsgi
from cheroot.ssl.builtin import BuiltinSSLAdapter

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

HOST = "localhost"
AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER without patience: closing resets the connection


class Gateway(wsgi.Gateway_10):
    """An application that raises ConnectionResetError gets its connection reset."""

    def respond(self) -> None:
        try:
            super().respond()
        except ConnectionResetError:
            connection = self.req.conn
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            connection.linger = True  # cheroot would end it in good order
            socket.close(connection.socket.detach())
            raise


def certificate_authority(folder: Path) -> Path:
    """Make the authority and one server certificate in *folder*, once; return the path of `ca.pem`.

    Point `REQUESTS_CA_BUNDLE` at that file and requests, msal and azure-identity trust the emulators.
    """
    authority = folder / "ca.pem"
    if not authority.exists():
        folder.mkdir(parents=True, exist_ok=True)
        ca = trustme.CA(organization_name="Opportunity Sync emulators")
        certificate = ca.issue_cert(HOST, "127.0.0.1", "::1")
        certificate.private_key_pem.write_to_path(folder / "server.key")
        for index, blob in enumerate(certificate.cert_chain_pems):
            blob.write_to_path(folder / "server.pem", append=index > 0)
        ca.cert_pem.write_to_path(authority)
    return authority


@contextmanager
def serving(app: WSGIApplication, *, folder: Path, port: int = 0, threads: int = 16) -> Iterator[str]:
    """Serve *app* until the block ends; yields its base URL, `https://localhost:PORT`. Port 0 takes a free one."""
    certificate_authority(folder)
    server = wsgi.Server(("127.0.0.1", port), app, numthreads=threads, request_queue_size=64, timeout=60)
    server.ssl_adapter = BuiltinSSLAdapter(str(folder / "server.pem"), str(folder / "server.key"))
    server.gateway = Gateway
    server.prepare()
    thread = threading.Thread(target=server.serve, name="emulator", daemon=True)
    thread.start()
    try:
        yield f"https://{HOST}:{server.bind_addr[1]}"
    finally:
        server.stop()
        thread.join(5)
