"""Provisions sensors over the API, a group of one location at a time, and tries again what a busy API refuses."""

import random
import re
import urllib.request
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from chalicelib.errors import ThermonetError, ValidationError
from chalicelib.validation import shorten
from ops.running_cloud import HOST
from ops.tokens import check_token

ATTEMPTS = 6
_LONGEST_WAIT_SECONDS = 30.0
# API Gateway answers after 29 s whatever happens.
_TIMEOUT_SECONDS = 35
_ANSWER_BYTES_MAX = 1024 * 1024
_UNAVAILABLE = {None, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
_TRANSIENT = _UNAVAILABLE | {HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT}
_WRONG_ADDRESS = {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}


class ApiError(ThermonetError):
    """No sensor can be provisioned now. The message says whether trying again helps; it is safe in any case."""


class Result(Struct, frozen=True):
    """What has become of a sensor: the `error` for which it was not provisioned, None when it was."""

    error: str | None = None
    broken: bool = False


class _Answer(Struct, frozen=True):
    """Status and body of an answer; without a status, the body says why there is none."""

    status: int | None
    body: bytes
    retry_after_seconds: float = 0.0


class _SensorResult(Struct):
    sensor_id: str | None = None
    broken: bool = False
    error: str | None = None


class _Results(Struct):
    results: list[_SensorResult]


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Follows no redirection, which would make a GET of the request, and take the token elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


class SensorsApi:
    """The API's route for sensors; several threads may use it at once.

    `wait` waits for some seconds, and returns whether it was interrupted.
    """

    def __init__(self, url: str, token: str, wait: Callable[[float], bool]) -> None:
        host = _checked_host(url)
        check_token(token)
        self._url = url.rstrip("/")
        self._headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        self._wait = wait
        # What is on this machine is asked without the proxies that are set.
        direct = [urllib.request.ProxyHandler({})] if host in {HOST, "localhost"} else []
        self._open = urllib.request.build_opener(_StayHere, *direct).open

    def provision(self, location_id: str, sensors: Sequence[dict[str, Any]]) -> list[Result]:
        """Make up to 100 sensors of a location what is given, each as the API takes it; return each one's result.

        Raises ApiError when others would fare no better: the token or the address is not the right one, or the API is
        not available.
        """
        body = msgspec.json.encode({"sensors": sensors})
        answer = self._post(location_id, body)
        for attempt in range(1, ATTEMPTS):
            if answer.status not in _TRANSIENT:
                break
            if self._wait(_pause_seconds(attempt, answer)):
                raise ApiError("interrupted")
            answer = self._post(location_id, body)
        if answer.status == HTTPStatus.OK:
            return _read_results(answer.body, sensors)
        _raise_if_general(answer, self._url)
        return [Result(f"{answer.status}: {_message(answer.body)}")] * len(sensors)

    def _post(self, location_id: str, body: bytes) -> _Answer:
        request = urllib.request.Request(f"{self._url}/locations/{location_id}/sensors", body, self._headers)  # noqa: S310 - its scheme is checked
        try:
            try:
                response = self._open(request, timeout=_TIMEOUT_SECONDS)
            except HTTPError as error:
                response = error
            with response:
                retry_after = response.headers.get("Retry-After") or ""
                content = response.read(_ANSWER_BYTES_MAX)
                return _Answer(response.status, content, float(retry_after) if retry_after.isdecimal() else 0.0)
        except (OSError, HTTPException) as error:
            reason = error.reason if isinstance(error, URLError) else error
            return _Answer(None, str(reason or type(error).__name__).encode())


def _checked_host(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ValidationError(f"url: {error}") from None
    plain = not (parts.query or parts.fragment or parts.username) and re.fullmatch(r"[!-~]+", url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not plain:
        raise ValidationError("url: must look like https://host/path")
    return parts.hostname


def _pause_seconds(attempt: int, answer: _Answer) -> float:
    """Return a random time, at least as long as the API has asked for, on average twice as long each time."""
    longest = min(max(2.0**attempt / 2, 2 * answer.retry_after_seconds), _LONGEST_WAIT_SECONDS)
    return random.uniform(longest / 2, longest)


def _read_results(body: bytes, sensors: Sequence[dict[str, Any]]) -> list[Result]:
    try:
        results = msgspec.json.decode(body, type=_Results).results
        return [_read_result(*pair) for pair in zip(results, sensors, strict=True)]
    except ValueError as error:
        return [Result(f"the answer cannot be read: {shorten(str(error))}")] * len(sensors)


def _read_result(result: _SensorResult, sensor: dict[str, Any]) -> Result:
    if result.error is None and result.sensor_id != sensor["sensor_id"]:
        raise ValueError("results are not in order")
    return Result(result.error, result.broken)


def _raise_if_general(answer: _Answer, url: str) -> None:
    """Raise ApiError unless the answer is about the group alone."""
    message = _message(answer.body)
    if answer.status in _UNAVAILABLE:
        said = f"answers {answer.status}" if answer.status else "does not answer"
        raise ApiError(f"{url} {said}: {message}; try again later")
    # A refusal that names another field than the token is about the location.
    about_token = answer.status == HTTPStatus.FORBIDDEN and not re.match(r"(?!token\b)[\w.\[\]]+: ", message)
    if answer.status == HTTPStatus.UNAUTHORIZED or about_token:
        raise ApiError(f"{url} refuses the token with {answer.status}: {message}; it needs the scope sensors:write")
    if answer.status in _WRONG_ADDRESS:
        raise ApiError(f"url: {url} answers {answer.status}: {message}; is it the API's address?")


def _message(body: bytes) -> str:
    """Return what an answer says: the routes' `Message`, the gateway's `message`, or its text."""
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        content = None
    named = (content.get("Message") or content.get("message")) if isinstance(content, dict) else None
    return shorten(str(named or body.decode("utf-8", "replace")), 200)
