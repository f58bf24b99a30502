"""How the errors of the application are told over HTTP."""

from typing import NamedTuple

from chalicelib import errors


class Refusal(NamedTuple):
    """Status, code as Chalice spells it, and headers of an answer."""

    status: int
    code: str
    headers: dict[str, str]


_REFUSALS: dict[type[Exception], Refusal] = {
    errors.ValidationError: Refusal(400, "BadRequestError", {}),
    errors.NotAuthenticatedError: Refusal(401, "UnauthorizedError", {}),
    errors.ForbiddenError: Refusal(403, "ForbiddenError", {}),
    errors.NotFoundError: Refusal(404, "NotFoundError", {}),
    errors.ReadingConflictError: Refusal(409, "ConflictError", {}),
    errors.ReadingInProgressError: Refusal(409, "ConflictError", {"Retry-After": "1"}),
    errors.BodyTooLargeError: Refusal(413, "PayloadTooLargeError", {}),
    # Well within the window in which a reading without an id or a time is known as the same.
    errors.ServiceUnavailableError: Refusal(503, "ServiceUnavailableError", {"Retry-After": "2"}),
}

HTTP_ERRORS = tuple(_REFUSALS)


def http_refusal(error: Exception) -> Refusal:
    """Return how one of HTTP_ERRORS, or of their kinds, is told."""
    return next(_REFUSALS[kind] for kind in type(error).__mro__ if kind in _REFUSALS)
