"""Posts readings to the API over one kept-alive connection and tells what came of each."""

import http.client
import re
import socket
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from chalicelib.errors import ValidationError
from chalicelib.thermistor import Status
from chalicelib.validation import shorten

CONNECT_TIMEOUT_SECONDS = 5.0
# API Gateway gives up after 29 s, so nobody answers later than this.
ANSWER_TIMEOUT_SECONDS = 30.0
SUCCESS = range(200, 300)
_ANSWER_BYTES_MAX = 1024 * 1024


class Endpoint(Struct, frozen=True):
    """Where readings are posted to, and the bearer token that goes along."""

    secure: bool
    host: str
    port: int | None
    path: str
    token: str | None


class PostedReading(Struct, frozen=True, kw_only=True):
    """A reading as a sensor sends it; the resistance `value` is in ohm."""

    sensor_id: str
    location_id: str
    value: float
    timestamp: str


class Answer(Struct, frozen=True):
    """What a sensor wants to know of the API's answer; the temperature is in °C."""

    status: Status
    temperature: float | None = None


class Exchange(Struct, frozen=True, kw_only=True):
    """A posted reading and what came back.

    `answer` is there only when the reading was taken; `error` tells why it was not.
    """

    reading: PostedReading
    http_status: int | None = None
    answer: Answer | None = None
    error: str | None = None


def parse_endpoint(url: str, token: str | None = None) -> Endpoint:
    """Check the API's base URL and the token; raises ValidationError naming the wrong one."""
    if token is not None and not re.fullmatch(r"[A-Za-z0-9._~+/=-]+", token):
        raise ValidationError("token: must be one line of letters, digits and ._~+/=-")
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

    def send(self, reading: PostedReading) -> Exchange:
        """Post one reading; whatever goes wrong on the way is told in the exchange."""
        try:
            http_status, body = self._post(msgspec.json.encode(reading))
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return Exchange(reading=reading, error=shorten(str(error) or type(error).__name__))
        if http_status not in SUCCESS:
            return Exchange(reading=reading, http_status=http_status, error=_error_message(body))
        try:
            answer = msgspec.json.decode(body, type=Answer)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return Exchange(reading=reading, http_status=http_status, error=shorten(str(error)))
        return Exchange(reading=reading, http_status=http_status, answer=answer)

    def abort(self) -> None:
        """End the request that another thread is waiting for, and refuse further ones."""
        self._aborted = True
        connected = self._connection.sock
        if connected is not None:
            try:
                # Past SSLSocket.shutdown, which would pull the session from under the waiting thread.
                socket.socket.shutdown(connected, socket.SHUT_RDWR)
            except OSError:
                return

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _post(self, body: bytes) -> tuple[int, bytes]:
        kept_alive = self._connection.sock is not None
        try:
            return self._request(body)
        except (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, TimeoutError) as error:
            # A server may close an idle connection just as it is used again, or be too busy to answer in time.
            # Sensor and timestamp identify the reading, so posting it again has no second effect.
            self._connection.close()
            if self._aborted or not (kept_alive or isinstance(error, TimeoutError)):
                raise
            return self._request(body)

    def _request(self, body: bytes) -> tuple[int, bytes]:
        if self._connection.sock is None:
            self._connect()
        if self._aborted:
            raise ConnectionAbortedError("interrupted")
        self._connection.request("POST", self._path, body, self._headers)
        response = self._connection.getresponse()
        answer = response.read(_ANSWER_BYTES_MAX)
        if not response.isclosed():
            self._connection.close()
        return response.status, answer

    def _connect(self) -> None:
        self._connection.connect()
        self._connection.sock.settimeout(ANSWER_TIMEOUT_SECONDS)


class _ErrorBody(Struct):
    message: str = msgspec.field(name="Message")


def _error_message(body: bytes) -> str:
    try:
        return shorten(msgspec.json.decode(body, type=_ErrorBody).message)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return shorten(body.decode("utf-8", "replace"))
