"""The plumbing of routes: takes requests apart and answers them. Beside app.py the one module that knows Chalice."""

import functools
import random
import re
from collections.abc import Callable, Container
from typing import Any, NamedTuple, TypeVar, cast

import msgspec
from aws_lambda_powertools import Logger
from botocore.exceptions import BotoCoreError, ClientError
from chalice.app import Chalice, Request, Response
from msgspec import Struct

from chalicelib import errors
from chalicelib.api.access import Access, Scope, access_of
from chalicelib.api.report_reader import Document
from chalicelib.aws import time_limit
from chalicelib.fields import parse_id
from chalicelib.validation import convert, shorten

T = TypeVar("T")

_LONGEST_MESSAGE = 200
_TAG = re.compile(r'(?:W/)?"([^"]*)"')


class Refusal(NamedTuple):
    """Status, code as Chalice spells it, and the seconds to choose one from after which trying again may help."""

    status: int
    code: str
    retry_seconds: range = range(0)


# One of several waits, since callers that failed together would come back together.
_REFUSALS: dict[type[Exception], Refusal] = {
    errors.ValidationError: Refusal(400, "BadRequestError"),
    errors.NotAuthenticatedError: Refusal(401, "UnauthorizedError"),
    errors.ForbiddenError: Refusal(403, "ForbiddenError"),
    errors.NotFoundError: Refusal(404, "NotFoundError"),
    errors.ReadingConflictError: Refusal(409, "ConflictError"),
    errors.ReadingInProgressError: Refusal(409, "ConflictError", range(1, 3)),
    errors.BodyTooLargeError: Refusal(413, "PayloadTooLargeError"),
    # Well within the window in which a reading without an id or a time is known as the same.
    errors.ServiceUnavailableError: Refusal(503, "ServiceUnavailableError", range(1, 4)),
}


class Routes:
    """Takes the current request of an application apart, and answers the errors of its views."""

    def __init__(
        self,
        app: Chalice,
        logger: Logger,
        clock: Callable[[], float],
        choose: Callable[[range], int] = random.choice,
    ) -> None:
        self._app = app
        self._logger = logger
        self._clock = clock
        self._choose = choose

    def answers_errors(self, view: Callable[..., Any]) -> Callable[..., Any]:
        """Answer the errors of a view in Chalice's shape, each with the status of its kind."""

        @functools.wraps(view)
        def answering_view(*args: Any, **kwargs: Any) -> Any:
            self._logger.set_correlation_id(self._request.context.get("requestId"))
            try:
                with time_limit(self._app.lambda_context.get_remaining_time_in_millis() / 1_000):
                    return view(*args, **kwargs)
            except (BotoCoreError, ClientError) as error:
                self._logger.exception("a service behind the request failed")
                unavailable = errors.ServiceUnavailableError("a service behind this one failed, try again")
                return self._refuse(unavailable, error)
            except tuple(_REFUSALS) as error:
                return self._refuse(error, error.__cause__)

        return answering_view

    def access_for(self, scope: Scope) -> Access:
        """Return what the request's token allows; raises NotAuthenticatedError or ForbiddenError."""
        access = access_of(self._request.context.get("authorizer") or {})
        access.require(scope, self._clock())
        return access

    def access_to(self, location_id: str, scope: Scope) -> tuple[str, Access]:
        """Return the id that a path gives to a location, and what the token allows there.

        Raises NotAuthenticatedError, ValidationError, or ForbiddenError when the token is not for the location.
        """
        access = self.access_for(scope)
        known_id = parse_id("location_id", location_id)
        access.require_location(known_id)
        return known_id, access

    def body(self) -> bytes:
        """Return the request's body; raises ValidationError for one in false Base64."""
        try:
            body = self._request.raw_body
        except ValueError:
            raise errors.ValidationError("body: not valid Base64 or UTF-8") from None
        # Chalice gives a missing body as text.
        return body.encode() if isinstance(body, str) else body

    def query(self, type_: type[T]) -> T:
        """Return what follows the question mark; raises ValidationError."""
        return convert(dict(self._request.query_params or {}), type_)

    def known_runs(self) -> Container[str]:
        """Return the runs that If-None-Match lists, weak tags and strong ones alike: the caller has their answer."""
        tags = self._request.headers.get("if-none-match", "")
        return AnyTag() if tags.strip() == "*" else frozenset(_TAG.findall(tags))

    @property
    def _request(self) -> Request:
        return cast("Request", self._app.current_request)

    def _refuse(self, error: Exception, cause: BaseException | None) -> Response:
        refusal = next(_REFUSALS[kind] for kind in type(error).__mro__ if kind in _REFUSALS)
        extra = {"status": refusal.status, "reason": str(error), "cause": repr(cause)}
        self._logger.warning("request refused", extra=extra)
        headers: dict[str, str | list[str]] = {}
        if refusal.retry_seconds:
            headers["Retry-After"] = str(self._choose(refusal.retry_seconds))
        return Response({"Code": refusal.code, "Message": str(error)}, headers, refusal.status)


class AnyTag:
    """Contains everything: the caller has some version of what it asks for, and any will do."""

    def __contains__(self, tag: object) -> bool:
        return True


def json_response(answer: Struct) -> Response:
    """Send an answer of a route."""
    # As text, since Chalice would encode anything but text once more, and slower.
    return Response(msgspec.json.encode(answer).decode(), {"Content-Type": "application/json"})


def document_response(document: Document) -> Response:
    """Send a document of a run, or 304 when the caller has it; its entity tag is the run's id."""
    headers: dict[str, str | list[str]] = {
        "Content-Type": "application/json",
        "ETag": f'"{document.run_id}"',
        # What a token may see is its own: no cache may share it, and every use is asked for again.
        "Cache-Control": "private, no-cache",
        "Vary": "Authorization",
    }
    if document.content is None:
        return Response("", headers, 304)
    return Response(document.content.decode(), headers)


def shorten_refusal(request: Request, answer: Callable[[Request], Response]) -> Response:
    """Cut what Chalice's own refusals (405, 415) repeat of the request."""
    response = answer(request)
    if isinstance(response.body, dict) and "Message" in response.body:
        response.body["Message"] = shorten(response.body["Message"], _LONGEST_MESSAGE)
    return response
