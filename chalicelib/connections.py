"""HTTP connections on which an attempt at a call ends in time, whatever the network does.

botocore's own time-outs are those of each read from a socket and of each address of a name: a body that trickles, or a
name with eight dead addresses, holds a call many times longer.
"""

import math
import socket
import ssl
from collections.abc import Iterable
from contextvars import ContextVar
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

from botocore import awsrequest
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import allowed_gai_family

if TYPE_CHECKING:
    _SocketBase = socket.socket
    _ConnectionBase = awsrequest.AWSHTTPConnection
else:
    # What is mixed into two kinds of sockets and connections.
    _SocketBase = _ConnectionBase = object

# A time-out of 0 would mean not to wait at all, which ends with another error.
_SHORTEST_SECONDS = 0.001

_attempt_ends_at: ContextVar[float] = ContextVar("attempt_ends_at", default=math.inf)


def limit_attempt(seconds: float) -> None:
    """Let all that this thread sends and receives end within so many seconds from now, until it is told anew.

    What does not is a TimeoutError, which botocore takes for a time-out of its own.
    """
    _attempt_ends_at.set(monotonic() + seconds)


def use_limited_connections(client: Any) -> None:
    """Give a client of boto3 connections that heed `limit_attempt`; to be called before the client's first call."""
    # What direct connections and those through proxies are made by; botocore has no public way to it.
    client._endpoint.http_session._pool_classes_by_scheme.update(http=_HttpPool, https=_HttpsPool)


class _LimitedSocket(_SocketBase):
    """Waits no longer than its own time-out, and never past the end of the attempt."""

    def recv_into(self, *arguments: Any) -> int:
        self._heed_limit()
        return super().recv_into(*arguments)

    def send(self, *arguments: Any) -> int:
        self._heed_limit()
        return super().send(*arguments)

    def sendall(self, *arguments: Any) -> None:
        self._heed_limit()
        super().sendall(*arguments)

    def _heed_limit(self) -> None:
        seconds = _seconds_left()
        if seconds <= 0:
            raise TimeoutError("the time for this attempt is over")
        # Never to be raised again here: urllib3 sets its own time-outs for every request.
        if seconds < (self.gettimeout() or math.inf):
            self.settimeout(seconds)


class _PlainSocket(_LimitedSocket, socket.socket):
    pass


class _TlsSocket(_LimitedSocket, ssl.SSLSocket):
    pass


class _LimitedConnection(_ConnectionBase):
    """Looks up its host and tries all of its addresses within one time-out."""

    def _new_conn(self) -> socket.socket:
        seconds = min(self.timeout or math.inf, _seconds_left())
        try:
            # Brackets are around IPv6 addresses.
            return _connect(self._dns_host.strip("[]"), self.port, seconds, self.socket_options or [])
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"no connection to {self.host} within {seconds:.3g} s") from error
        except OSError as error:
            raise NewConnectionError(self, str(error)) from error


class _HttpConnection(_LimitedConnection, awsrequest.AWSHTTPConnection):  # type: ignore[misc]
    pass


class _HttpsConnection(_LimitedConnection, awsrequest.AWSHTTPSConnection):  # type: ignore[misc]
    def connect(self) -> None:
        if self.ssl_context is not None:
            self.ssl_context.sslsocket_class = _TlsSocket
        super().connect()


class _HttpPool(awsrequest.AWSHTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(awsrequest.AWSHTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


def _seconds_left() -> float:
    return _attempt_ends_at.get() - monotonic()


def _connect(host: str, port: int, seconds: float, options: Iterable[tuple[int, int, int | bytes]]) -> _PlainSocket:
    """Connect to the first address that answers; each has its share of the time, so that a dead one leaves some."""
    ends_at = monotonic() + seconds
    addresses = _look_up(host, port, seconds)
    for tried, (family, kind, protocol, _, address) in enumerate(addresses, 1):
        connecting = None
        try:
            connecting = _PlainSocket(family, kind, protocol)
            for option in options:
                connecting.setsockopt(*option)
            left_seconds = ends_at - monotonic()
            connecting.settimeout(max(left_seconds / (len(addresses) + 1 - tried), _SHORTEST_SECONDS))
            connecting.connect(address)
        except OSError:
            if connecting is not None:
                connecting.close()
            if tried == len(addresses):
                raise
        else:
            # For the handshake of TLS, which comes next.
            connecting.settimeout(seconds)
            return connecting
    raise OSError(f"{host} has no address")


def _look_up(host: str, port: int, seconds: float) -> list[Any]:
    """Return a host's addresses as socket.getaddrinfo does, whose wait nothing can end: so it gets a thread of its own.

    Raises TimeoutError, and what getaddrinfo raises.
    """
    answers: SimpleQueue[list[Any] | Exception] = SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, allowed_gai_family(), socket.SOCK_STREAM))
        except Exception as error:
            answers.put(error)

    Thread(target=ask, name=f"look up {host}", daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"nobody knows {host}") from None
    if isinstance(answer, Exception):
        raise answer
    return answer
