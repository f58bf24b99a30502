"""What a token allows: until when, for what, and where."""

import re

import pytest

from chalicelib.api.access import ALL_LOCATIONS, Access, Scope, access_of
from chalicelib.errors import ForbiddenError, NotAuthenticatedError


def access(*locations, expires_at=100.0, **times):
    return Access("gateway-7", expires_at, frozenset({Scope.WRITE_READINGS}), frozenset(locations), **times)


def test_a_token_is_good_until_a_minute_after_it_expires():
    access("a", expires_at=100.0).require(Scope.WRITE_READINGS, now_seconds=159.999)
    with pytest.raises(NotAuthenticatedError, match=r"^token: it has expired \(exp\)$"):
        access("a", expires_at=100.0).require(Scope.WRITE_READINGS, now_seconds=160.0)


@pytest.mark.parametrize(
    ("time", "reason"),
    [("not_before", "it is not valid yet (nbf)"), ("issued_at", "it was issued in the future (iat)")],
)
def test_a_token_is_good_from_a_minute_before_it_says(time, reason):
    early = access("a", expires_at=5_000.0, **{time: 1_000.0})
    early.require(Scope.WRITE_READINGS, now_seconds=940.0)
    with pytest.raises(NotAuthenticatedError, match=f"^token: {re.escape(reason)}$"):
        early.require(Scope.WRITE_READINGS, now_seconds=939.999)


def test_a_token_without_the_scope_is_told_which_it_lacks():
    with pytest.raises(ForbiddenError, match=r"^token: it lacks the scope reports:read$"):
        access("a").require(Scope.READ_REPORTS, now_seconds=0.0)


def test_a_token_opens_its_own_locations_only():
    access("a", "b").require_location("b")
    with pytest.raises(ForbiddenError, match=r"^location_id: the token is not for this location$"):
        access("a", "b").require_location("c")


def test_a_token_for_all_locations_opens_any():
    access(ALL_LOCATIONS).require_location("anywhere")
    assert access(ALL_LOCATIONS).only_locations is None


def test_what_the_gateway_keeps_of_a_token_is_the_same_text_every_time_and_gives_the_same_access():
    context = access("c", "a", "b").to_context()
    assert context == access("b", "c", "a").to_context()
    assert access_of(context) == access("a", "b", "c")
    timed = access("a", not_before=5.5, issued_at=4.5)
    assert access_of(timed.to_context()) == timed


COMPLETE = access("a").to_context()


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"principalId": "x"},
        *({name: text for name, text in COMPLETE.items() if name != missing} for missing in COMPLETE),
        {**COMPLETE, "subject": None},
        {**COMPLETE, "expires_at": "soon"},
        {**COMPLETE, "locations": ["a"]},
    ],
)
def test_without_what_the_gateway_keeps_of_a_token_nobody_is_let_in(context):
    with pytest.raises(NotAuthenticatedError, match=r"^token: required, but missing$"):
        access_of(context)
