"""Posts to the API over one kept-alive connection, and returns the reply or the error."""

import contextlib
import http.client
import re
import socket
from urllib.parse import urlsplit

from msgspec import Struct, structs

from chalicelib.errors import ValidationError
from chalicelib.validation import shorten
from ops.tokens import check_token

CONNECT_TIMEOUT_SECONDS = 5.0
# API Gateway answers after 29 s whatever happens; the local cloud has all the time that a busy machine needs.
ANSWER_TIMEOUT_SECONDS = 120.0
_ANSWER_BYTES_MAX = 1024 * 1024


class Endpoint(Struct, frozen=True):
    """The address that readings are posted to, and the bearer token that goes along."""

    secure: bool
    host: str
    port: int | None
    path: str
    token: str | None


class Reply(Struct, frozen=True):
    """The reply to a post: HTTP status and body, or without a status the error that kept it away.

    `was_retried` is set when the first attempt was not answered, although it may have arrived.
    """

    http_status: int | None
    body: bytes = b""
    error: str | None = None
    was_retried: bool = False


def parse_endpoint(url: str, token: str | None = None) -> Endpoint:
    """Check the API's base URL and the token; raises ValidationError naming the wrong one."""
    if token is not None:
        check_token(token)
    try:
        parts = urlsplit(url)
        port = parts.port
        (parts.hostname or "").encode("idna")
    except ValueError as error:
        raise ValidationError(f"url: {error}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise ValidationError("url: must look like http://host:port/path")
    if parts.query or parts.fragment or not re.fullmatch(r"[!-~]+", url):
        raise ValidationError("url: must be an address only, without query, fragment or spaces")
    path = parts.path.rstrip("/") + "/readings"
    return Endpoint(parts.scheme == "https", parts.hostname, port, path, token)


class ReadingsClient:
    """One worker's connection to the API."""

    def __init__(self, endpoint: Endpoint) -> None:
        kind = http.client.HTTPSConnection if endpoint.secure else http.client.HTTPConnection
        self._connection = kind(endpoint.host, endpoint.port, timeout=CONNECT_TIMEOUT_SECONDS)
        self._path = endpoint.path
        self._headers = {"Content-Type": "application/json", "User-Agent": "thermonet-simulator"}
        if endpoint.token is not None:
            self._headers["Authorization"] = f"Bearer {endpoint.token}"
        self._aborted = False

    def post(self, body: bytes) -> Reply:
        """Post a body; whatever goes wrong on the way is in the reply."""
        try:
            return self._post(body)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return Reply(None, error=shorten(str(error) or type(error).__name__))

    def abort(self) -> None:
        """End the request that another thread is waiting for, and refuse further ones."""
        self._aborted = True
        connected = self._connection.sock
        if connected is not None:
            # Past SSLSocket.shutdown, which would pull the session from under the waiting thread.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connected, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _post(self, body: bytes) -> Reply:
        kept_alive = self._connection.sock is not None
        try:
            return self._request(body)
        except (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, TimeoutError) as error:
            # A server may close an idle connection just as it is used again, or be too busy to answer in time.
            # Sensor and timestamp identify each reading, so posting the same again has no second effect.
            self._connection.close()
            if self._aborted or not (kept_alive or isinstance(error, TimeoutError)):
                raise
            return structs.replace(self._request(body), was_retried=True)

    def _request(self, body: bytes) -> Reply:
        if self._connection.sock is None:
            self._connect()
        if self._aborted:
            raise ConnectionAbortedError("interrupted")
        self._connection.request("POST", self._path, body, self._headers)
        response = self._connection.getresponse()
        answer = response.read(_ANSWER_BYTES_MAX)
        if not response.isclosed():
            self._connection.close()
        return Reply(response.status, answer)

    def _connect(self) -> None:
        self._connection.connect()
        self._connection.sock.settimeout(ANSWER_TIMEOUT_SECONDS)
