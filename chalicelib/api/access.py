"""The rights of a caller, as its token has them; judged by the routes, since they depend on time and location."""

from enum import StrEnum
from typing import Any
from urllib.parse import quote, unquote

from msgspec import Struct

from chalicelib.errors import ForbiddenError, NotAuthenticatedError

ALL_LOCATIONS = "*"
# Between the clock of whoever minted a token and this one.
LEEWAY_SECONDS = 60.0


class Scope(StrEnum):
    """A purpose that a token may serve."""

    WRITE_READINGS = "readings:write"
    READ_REPORTS = "reports:read"
    WRITE_SENSORS = "sensors:write"


class Access(Struct, frozen=True):
    """The rights of an authentic token, and when it is good, in seconds since the epoch.

    `not_before` and `issued_at` are 0 for a token that does not tell them.
    """

    subject: str
    expires_at: float
    scopes: frozenset[str]
    locations: frozenset[str]
    not_before: float = 0.0
    issued_at: float = 0.0

    def require(self, scope: Scope, now_seconds: float) -> None:
        """Raise NotAuthenticatedError for a token that is not good now, ForbiddenError for one without the scope."""
        if now_seconds >= self.expires_at + LEEWAY_SECONDS:
            raise NotAuthenticatedError("token: it has expired (exp)")
        if now_seconds < self.not_before - LEEWAY_SECONDS:
            raise NotAuthenticatedError("token: it is not valid yet (nbf)")
        if now_seconds < self.issued_at - LEEWAY_SECONDS:
            raise NotAuthenticatedError("token: it was issued in the future (iat)")
        if scope not in self.scopes:
            raise ForbiddenError(f"token: it lacks the scope {scope}")

    @property
    def only_locations(self) -> frozenset[str] | None:
        """The locations that the token is limited to; None when it is for all."""
        return None if ALL_LOCATIONS in self.locations else self.locations

    def allows(self, location_id: str) -> bool:
        """Return whether the token is for the location."""
        return location_id in self.locations or ALL_LOCATIONS in self.locations

    def require_location(self, location_id: str) -> None:
        """Raise ForbiddenError when the token is not for the location."""
        if not self.allows(location_id):
            raise ForbiddenError("location_id: the token is not for this location")

    def to_context(self) -> dict[str, str]:
        """Write the access as an authorizer's context: texts, in ASCII and without anything to escape on their way."""
        return {
            "subject": quote(self.subject),
            "expires_at": repr(self.expires_at),
            "not_before": repr(self.not_before),
            "issued_at": repr(self.issued_at),
            "scopes": " ".join(sorted(self.scopes)),
            "locations": " ".join(sorted(self.locations)),
        }


def access_of(authorizer_context: dict[str, Any]) -> Access:
    """Read the access that the authorizer found; raises NotAuthenticatedError when there is none."""
    try:
        return Access(
            subject=unquote(authorizer_context["subject"]),
            expires_at=float(authorizer_context["expires_at"]),
            not_before=float(authorizer_context["not_before"]),
            issued_at=float(authorizer_context["issued_at"]),
            scopes=frozenset(authorizer_context["scopes"].split()),
            locations=frozenset(authorizer_context["locations"].split()),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise NotAuthenticatedError("token: required, but missing") from None
