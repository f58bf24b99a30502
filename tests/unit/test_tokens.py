"""Which tokens are authentic, and how long the keys that tell are kept."""

import base64
import hashlib
import hmac
import json
import time
from types import SimpleNamespace

import jwt
import pytest

from chalicelib.api.access import Scope
from chalicelib.api.tokens import SigningKeys, Tokens
from chalicelib.errors import NotAuthenticatedError, ServiceUnavailableError
from tests.fakes import service_error

OLD, NEW, NEXT = "o" * 32, "n" * 64, "x" * 40
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


def without(name):
    claims = {claim: value for claim, value in CLAIMS.items() if claim != name}
    return f"Bearer {jwt.encode(claims, NEW, 'HS256', {'kid': 'new'})}"


def encoded(part):
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def signed_by_hand(claims, **header):
    """A token with a right signature that no library would write."""
    text = f"{encoded({'alg': 'HS256', 'kid': 'new', **header})}.{encoded(claims)}"
    signature = hmac.new(NEW.encode(), text.encode(), hashlib.sha256).digest()
    return f"Bearer {text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def with_other_claims(authorization, **claims):
    header, _, signature = authorization.split(".")
    return f"{header}.{encoded({**CLAIMS, **claims})}.{signature}"


@pytest.mark.parametrize(
    "authorization", [signed(), signed(OLD, "old"), signed(OLD, None), signed(NEW, None), signed(aud="somebody")]
)
def test_a_token_that_any_current_key_has_signed_tells_what_it_allows(tokens, authorization):
    access = tokens.authenticate(authorization)
    assert (access.subject, access.expires_at) == ("gateway-7", 100.0)
    assert access.scopes == {"readings:write", "reports:read"}
    assert access.locations == {"a", "7"}


@pytest.mark.parametrize("scope", Scope)
def test_every_scope_that_a_route_may_ask_for_can_be_claimed(tokens, scope):
    tokens.authenticate(signed(scope=scope)).require(scope, now_seconds=0.0)


def test_of_a_tokens_scopes_those_count_that_a_route_knows(tokens):
    assert tokens.authenticate(signed(scope=" reports:read  admin reports:read\n")).scopes == {"reports:read"}


@pytest.mark.parametrize("years", [-40, 40])
def test_the_time_is_not_the_authorizers_to_judge_since_the_gateway_remembers_its_answer(tokens, years):
    away = time.time() + years * 365 * 86_400
    access = tokens.authenticate(signed(exp=away, nbf=away, iat=away))
    assert (access.expires_at, access.not_before, access.issued_at) == (away, away, away)


def test_the_scheme_may_be_written_in_any_way(tokens):
    assert tokens.authenticate(f" {signed().replace('Bearer', 'bEARER')} ").subject == "gateway-7"


@pytest.mark.parametrize("locations", [["*"], ["x", "*"], [1, "a"]])
def test_locations_are_texts_or_numbers_or_all(tokens, locations):
    assert tokens.authenticate(signed(locations=locations)).allows("a")


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer ", signed().removeprefix("Bearer "), "Basic YTpi", "Token x"]
)
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


UNSIGNED = "no current key has signed it"
FORGED = {
    "another key": (signed("a key that somebody else has thought of"), UNSIGNED),
    "an unknown key id": (signed(key_id="other"), UNSIGNED),
    "a key under another key's id": (signed(OLD), UNSIGNED),
    "changed claims": (with_other_claims(signed(), locations=["*"]), UNSIGNED),
    "no signature": (signed().rpartition(".")[0] + ".", UNSIGNED),
    "no algorithm": (f"Bearer {encoded({'alg': 'none', 'kid': 'new'})}.{encoded(CLAIMS)}.", "not valid: "),
    "no algorithm, signed": (signed_by_hand(CLAIMS, alg="none"), "not valid: InvalidAlgorithmError"),
    "another algorithm": (f"Bearer {jwt.encode(CLAIMS, NEW, 'HS512', {'kid': 'new'})}", "not valid: InvalidAlgorithm"),
    "an asymmetric algorithm": (signed_by_hand(CLAIMS, alg="RS256"), "not valid: InvalidAlgorithmError"),
    "no expiry": (without("exp"), "exp: required, but missing"),
    "no subject": (without("sub"), "sub: required, but missing"),
    "no scope": (without("scope"), "scope: required, but missing"),
    "no locations": (without("locations"), "locations: required, but missing"),
    "an expiry that is text": (signed_by_hand({**CLAIMS, "exp": "later"}), "exp: "),
    "an endless expiry": (signed(exp=float("inf")), "exp: "),
    "an expiry that is no number": (signed(exp=float("nan")), "exp: "),
    "an expiry in milliseconds": (signed(exp=1_772_000_000_000), "exp: "),
    "an expiry that is true": (signed(exp=True), "exp: "),
    "an enormous expiry": (signed_by_hand({**CLAIMS, "exp": 10**400}), "exp: "),
    "an endless beginning": (signed(nbf=float("inf")), "nbf: "),
    "a beginning that is no number": (signed(nbf=float("nan")), "nbf: "),
    "a beginning that is null": (signed(nbf=None), "nbf: "),
    "a beginning that is text": (signed(nbf="7"), "nbf: "),
    "a time of issue without end": (signed_by_hand({**CLAIMS, "iat": float("-inf")}), "iat: "),
    "a time of issue that is no number": (signed(iat=[1]), "iat: "),
    "an empty subject": (signed(sub=""), "sub: "),
    "a subject that is no text": (signed_by_hand({**CLAIMS, "sub": 7}), "sub: "),
    "locations as text": (signed(locations="a"), "locations: "),
    "all locations as text": (signed(locations="*"), "locations: "),
    "claims that are no object": (signed_by_hand([1]), "Expected `object`, got `array`"),
    "half a character": (signed(sub="\ud800"), "not valid UTF-8"),
    "half a character elsewhere": (signed(more=["\udfff"]), "not valid UTF-8"),
    "a location of no measure": (signed(locations=[10**25]), r"locations\[0\]: "),
    "a location that is true": (signed(locations=[True]), r"locations\[0\]: "),
    "a key id that is no text": (signed_by_hand(CLAIMS, kid=["new"]), "not valid: "),
    "an unknown critical header": (signed_by_hand(CLAIMS, crit=["x"], x=1), "not valid: "),
    "nonsense": ("Bearer nonsense", "not valid: "),
    "dots": ("Bearer ....", "not valid: "),
}  # fmt: skip


@pytest.mark.parametrize(("authorization", "reason"), FORGED.values(), ids=FORGED)
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
    ssm.value = json.dumps({"next": NEXT})
    clock.now += 29.9
    with pytest.raises(NotAuthenticatedError):
        tokens.authenticate(signed(NEXT, "next"))
    assert ssm.reads == 1
    clock.now = 1_030.0
    assert tokens.authenticate(signed(NEXT, "next")).subject == "gateway-7"
    assert ssm.reads == 2
    with pytest.raises(NotAuthenticatedError):
        tokens.authenticate(signed())


def test_a_flood_of_unknown_key_ids_is_no_flood_of_calls(tokens, ssm):
    for number in range(20):
        with pytest.raises(NotAuthenticatedError):
            tokens.authenticate(signed(key_id=f"made-up-{number}"))
    assert ssm.reads == 1


def test_a_key_that_was_taken_out_is_refused_five_minutes_later(tokens, ssm, clock):
    tokens.authenticate(signed())
    ssm.value = json.dumps({"old": OLD})
    clock.now += 300
    with pytest.raises(NotAuthenticatedError, match=UNSIGNED):
        tokens.authenticate(signed())


def test_while_ssm_does_not_answer_nobody_is_refused(tokens, ssm):
    ssm.error = service_error()
    with pytest.raises(ServiceUnavailableError, match=r"^the signing keys cannot be read$"):
        tokens.authenticate(signed())
    ssm.error = None
    assert tokens.authenticate(signed()).subject == "gateway-7"


@pytest.mark.parametrize("value", ["no json", "{", "[]", '{"new": 5}', '{"new": null}'])
def test_by_keys_that_cannot_be_understood_nobody_is_refused(tokens, ssm, value):
    ssm.value = value
    with pytest.raises(ServiceUnavailableError, match=r"^the signing keys cannot be read$") as raised:
        tokens.authenticate(signed())
    assert str(raised.value.__cause__).startswith("/keys: ")


@pytest.mark.parametrize("value", ["{}", json.dumps({"new": NEW[:31]})])
def test_without_any_key_that_is_one_nobody_is_refused_or_let_in(tokens, ssm, clock, value):
    tokens.authenticate(signed())
    ssm.value = value
    clock.now += 300
    for _ in range(2):
        with pytest.raises(ServiceUnavailableError, match=r"^/keys: no key has 32 characters$"):
            tokens.authenticate(signed())
    ssm.value = json.dumps({"new": NEW})
    assert tokens.authenticate(signed()).subject == "gateway-7"


def test_keys_that_cannot_be_read_again_are_used_on_and_asked_for_once_in_half_a_minute(tokens, ssm, clock):
    tokens.authenticate(signed())
    clock.now += 1_000
    ssm.error = service_error()
    for seconds in (0, 0, 29.9):
        clock.now += seconds
        assert tokens.authenticate(signed()).subject == "gateway-7"
    assert ssm.reads == 2, "and not asked for by every token"
    clock.now = 2_030.0
    tokens.authenticate(signed())
    assert ssm.reads == 3


@pytest.mark.parametrize("authorization", [signed(NEXT, "next"), signed(NEXT, None), signed(NEXT, "new")])
@pytest.mark.parametrize("damaged", [None, "{"])
def test_by_keys_that_cannot_be_read_again_nobody_is_refused(tokens, ssm, clock, authorization, damaged):
    tokens.authenticate(signed())
    clock.now += 1_000
    ssm.value, ssm.error = damaged, None if damaged else service_error()
    for _ in range(2):
        with pytest.raises(ServiceUnavailableError, match=r"^the signing keys cannot be read again$"):
            tokens.authenticate(authorization)
    assert ssm.reads == 2
    ssm.value, ssm.error = json.dumps({"next": NEXT, "new": NEXT}), None
    clock.now += 30
    assert tokens.authenticate(authorization).subject == "gateway-7"
