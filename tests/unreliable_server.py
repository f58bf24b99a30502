"""A server that answers HTTP on a real socket, drop by drop."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

PAUSE_SECONDS = 0.02
# Given drop by drop, it takes seconds.
LONG_BODY = b'{"Item": {"text": {"S": "' + b"x" * 300 + b'"}}}'


class DrippingServer:
    """Sends the first `at_once` bytes of its answer to any request at once, and then a byte after each pause.

    Before that it takes in `taken_slowly` bytes of the request's body, a little after each pause.
    """

    def __init__(self, answer: bytes, at_once: int, taken_slowly: int = 0) -> None:
        self.connections = self.requests = 0
        # Whether an answer was sent whole.
        self.finished = False
        self._answer = answer
        self._at_once = at_once
        self._taken_slowly = taken_slowly
        self._stopped = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]

    @contextlib.contextmanager
    def running(self, tls: ssl.SSLContext | None = None) -> Iterator["DrippingServer"]:
        """Answer, over TLS where given, until the block ends."""
        acceptor = threading.Thread(target=self._accept_all, args=[tls])
        acceptor.start()
        try:
            yield self
        finally:
            self._stopped.set()
            acceptor.join()
            self._listening.close()

    def _accept_all(self, tls: ssl.SSLContext | None) -> None:
        self._listening.settimeout(PAUSE_SECONDS)
        while not self._stopped.is_set():
            with contextlib.suppress(TimeoutError):
                accepted, _ = self._listening.accept()
                self.connections += 1
                # It ends with its connection, which clients keep alive for as long as they are.
                threading.Thread(target=self._serve, args=[accepted, tls], daemon=True).start()

    def _serve(self, accepted: socket.socket, tls: ssl.SSLContext | None) -> None:
        # A client that has given up resets its connection.
        with contextlib.suppress(OSError):
            connection = tls.wrap_socket(accepted, server_side=True) if tls else accepted
            with connection:
                while self._take_request(connection):
                    self.requests += 1
                    self._drip(connection)

    def _take_request(self, connection: socket.socket) -> bool:
        received = b""
        while b"\r\n\r\n" not in received:
            received += (more := connection.recv(65_536))
            if not more:
                return False
        if b"100-continue" in received:
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        left = self._taken_slowly
        while left > 0 and not self._stopped.wait(PAUSE_SECONDS):
            left -= len(connection.recv(65_536))
        return True

    def _drip(self, connection: socket.socket) -> None:
        connection.sendall(self._answer[: self._at_once])
        for position in range(self._at_once, len(self._answer)):
            if self._stopped.wait(PAUSE_SECONDS):
                return
            connection.sendall(self._answer[position : position + 1])
        self.finished = True


def http_answer(body: bytes) -> bytes:
    """Return an answer with status 200."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def make_certificate(folder: Path) -> Path:
    """Write a certificate for 127.0.0.1 and its key into one file; who trusts that file trusts the server."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path
