"""Which tokens are authentic, and how long the keys that tell are kept."""

import json
from types import SimpleNamespace

import jwt
import pytest

from chalicelib.api.tokens import SigningKeys, Tokens
from chalicelib.errors import NotAuthenticatedError, ServiceUnavailableError
from tests.fakes import service_error

OLD, NEW = "o" * 32, "n" * 64
CLAIMS = {"sub": "gateway-7", "exp": 100, "scope": "readings:write reports:read", "locations": ["a", 7]}


class Parameter:
    """SSM with one parameter, or out of order."""

    def __init__(self, **keys):
        self.value = json.dumps(keys)
        self.error = None
        self.reads = 0

    def get_parameter(self, *, Name, WithDecryption):
        self.reads += 1
        assert (Name, WithDecryption) == ("/keys", True)
        if self.error:
            raise self.error
        return {"Parameter": {"Value": self.value}}


@pytest.fixture
def clock():
    return SimpleNamespace(now=1_000.0)


@pytest.fixture
def ssm():
    return Parameter(old=OLD, new=NEW)


@pytest.fixture
def tokens(ssm, clock):
    return Tokens(SigningKeys("/keys", ssm, lambda: clock.now))


def signed(secret=NEW, key_id="new", **claims):
    token = jwt.encode({**CLAIMS, **claims}, secret, "HS256", {"kid": key_id} if key_id else None)
    return f"Bearer {token}"


@pytest.mark.parametrize(
    "authorization", [signed(), signed(OLD, "old"), signed(OLD, None), signed(NEW, None), signed(aud="somebody")]
)
def test_a_token_that_any_current_key_has_signed_tells_what_it_allows(tokens, authorization):
    access = tokens.authenticate(authorization)
    assert (access.subject, access.expires_at) == ("gateway-7", 100.0)
    assert access.scopes == {"readings:write", "reports:read"}
    assert access.locations == {"a", "7"}


def test_the_scheme_may_be_written_in_any_way(tokens):
    assert tokens.authenticate(f" {signed().replace('Bearer', 'bEARER')} ").subject == "gateway-7"


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", signed().removeprefix("Bearer "), "Basic a"])
def test_what_is_no_bearer_token_is_told_how_to_be_one(tokens, ssm, authorization):
    with pytest.raises(NotAuthenticatedError, match=r"^token: must be given as `Authorization: Bearer <token>`$"):
        tokens.authenticate(authorization)
    assert ssm.reads == 0


def test_a_token_has_at_most_8192_characters(tokens):
    longest = signed(more="x" * (8_192 * 3 // 4 - 300))
    padded = signed(more="x" * (8_192 * 3 // 4))
    assert tokens.authenticate(longest).subject == "gateway-7"
    with pytest.raises(NotAuthenticatedError, match="must be given as"):
        tokens.authenticate(padded)
    with pytest.raises(NotAuthenticatedError, match="not valid"):
        tokens.authenticate("Bearer " + "x" * 8_192)
    with pytest.raises(NotAuthenticatedError, match="must be given as"):
        tokens.authenticate("Bearer " + "x" * 8_193)
    with pytest.raises(NotAuthenticatedError, match="not valid"):
        tokens.authenticate("Bearer x")


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        (signed(OLD), "no current key has signed it"),
        (signed(key_id="other"), "no current key has signed it"),
        (signed(sub=""), "sub: "),
        (signed(exp=float("inf")), "exp: must be finite"),
        (signed(locations="a"), "locations: "),
        (f"Bearer {jwt.encode({'sub': 'x'}, NEW, 'HS256', {'kid': 'new'})}", "exp: required, but missing"),
        (f"Bearer {jwt.encode(CLAIMS, NEW, 'HS512', {'kid': 'new'})}", "not valid: InvalidAlgorithmError"),
    ],
)
def test_a_token_that_is_not_authentic_is_refused_with_the_reason(tokens, authorization, reason):
    with pytest.raises(NotAuthenticatedError, match=f"^token: {reason}"):
        tokens.authenticate(authorization)


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_a_key_shorter_than_its_hash_is_no_key(ssm, tokens):
    ssm.value = json.dumps({"short": "s" * 31, "new": NEW})
    with pytest.raises(NotAuthenticatedError, match="no current key"):
        tokens.authenticate(signed("s" * 31, "short"))
    assert tokens.authenticate(signed()).subject == "gateway-7"


def test_keys_are_read_once_in_five_minutes(tokens, ssm, clock):
    for seconds in (0, 100, 199.9):
        clock.now += seconds
        tokens.authenticate(signed())
        tokens.authenticate(signed(OLD, None))
    assert ssm.reads == 1
    clock.now = 1_300.0
    tokens.authenticate(signed())
    assert ssm.reads == 2


def test_a_key_that_is_not_known_is_looked_for_once_in_half_a_minute(tokens, ssm, clock):
    tokens.authenticate(signed())
    ssm.value = json.dumps({"next": "x" * 40})
    clock.now += 29.9
    with pytest.raises(NotAuthenticatedError):
        tokens.authenticate(signed("x" * 40, "next"))
    assert ssm.reads == 1
    clock.now = 1_030.0
    assert tokens.authenticate(signed("x" * 40, "next")).subject == "gateway-7"
    assert ssm.reads == 2


def test_without_keys_nobody_is_refused_for_good(tokens, ssm):
    ssm.error = service_error()
    with pytest.raises(ServiceUnavailableError, match=r"^the signing keys cannot be read$"):
        tokens.authenticate(signed())
    ssm.error = None
    ssm.value = "no json"
    with pytest.raises(ServiceUnavailableError, match=r"^the signing keys cannot be read$") as raised:
        tokens.authenticate(signed())
    assert str(raised.value.__cause__).startswith("/keys: ")


def test_keys_that_cannot_be_read_again_are_used_on(tokens, ssm, clock):
    tokens.authenticate(signed())
    clock.now += 1_000
    ssm.error = service_error()
    assert tokens.authenticate(signed()).subject == "gateway-7"
    tokens.authenticate(signed())
    assert ssm.reads == 2, "and not asked for by every token"
