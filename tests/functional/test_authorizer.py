"""What the authorizer answers the gateway about tokens with right signatures, whatever they claim."""

import hmac
import json
import re
from base64 import urlsafe_b64encode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chalicelib.api.access import access_of
from tests.functional.conftest import SIGNING_KEYS

CLAIMS = {"sub": "gateway-7", "exp": 9e9, "scope": "readings:write", "locations": ["a"]}


def sign_by_hand(header, claims):
    """A token with a right signature over texts that no library would write."""
    signed = ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in (header, claims))
    signature = hmac.digest(SIGNING_KEYS["now"].encode(), signed.encode(), "sha256")
    return f"{signed}.{urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def authorizer_answer(token):
    """What the authorizer answers API Gateway about a token."""
    import app

    arn = "arn:aws:execute-api:us-east-1:123456789012:abcdefghij/production/DELETE/locations"
    event = {"type": "TOKEN", "authorizationToken": f"Bearer {token}", "methodArn": arn}
    return app.authorize(event, None)


# Whatever JSON can say, and a little more: halves of surrogate pairs, numbers without end and beyond measure.
_TEXTS = st.text(st.characters(), max_size=8) | st.sampled_from(["", "*", "a", "reports:read", "\ud800", "\0\n\x1b[1m"])
_NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -(10**25), 1e308, 2**63, True, False])
_VALUES = st.recursive(
    st.none() | _NUMBERS | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=5,
)
_CLAIMS = st.fixed_dictionaries(
    {
        "sub": st.just("x") | _TEXTS | _VALUES,
        "exp": st.just(9e9) | _NUMBERS | _VALUES,
        "scope": st.just("reports:read") | _TEXTS | _VALUES,
        "locations": st.just(["a"]) | st.lists(_TEXTS | _NUMBERS, max_size=3) | _VALUES,
    },
    optional={"nbf": _NUMBERS | _VALUES, "iat": _NUMBERS | _VALUES, "aud": _VALUES, "jti": _VALUES, "iss": _VALUES},
)
_RAW_CLAIMS = (
    (_CLAIMS | st.dictionaries(_TEXTS, _VALUES, max_size=3) | _VALUES).map(json.dumps)
    | _CLAIMS.map(lambda claims: json.dumps(claims).replace("Infinity", "1e400"))
    | _CLAIMS.map(lambda claims: json.dumps({**CLAIMS, **claims})[:-1] + ', "sub": "twice"}')
    | st.integers(1, 3_000).map(lambda depth: json.dumps(CLAIMS)[:-1] + ', "x": ' + "[" * depth + "]" * depth + "}")
).map(str.encode) | st.binary(max_size=20)  # fmt: skip
_RAW_HEADERS = st.just(b'{"alg": "HS256", "kid": "now"}') | (
    st.fixed_dictionaries(
        {"alg": st.just("HS256") | _VALUES},
        optional={"kid": _VALUES, "crit": _VALUES, "b64": _VALUES, "typ": _VALUES, "": _VALUES},
    )
    | _VALUES
).map(json.dumps).map(str.encode)


@settings(max_examples=300)
@given(_RAW_HEADERS, _RAW_CLAIMS)
@example(b'{"alg": "HS256"}', json.dumps({**CLAIMS, "sub": "\ud800"}).encode())
@example(b'{"alg": "HS256"}', json.dumps({**CLAIMS, "scope": "\udfff"}).encode())
@example(b'{"alg": "HS256"}', json.dumps({**CLAIMS, "x\ud800": ["\ud800"]}).encode())
@example(b'{"alg": "HS256"}', json.dumps({**CLAIMS, "sub": '"\\\0\n\x1b\u2028ü🌡'}).encode())
def test_whatever_a_signed_token_claims_the_authorizer_says_yes_or_no(stage, header, claims):
    import app

    answer = authorizer_answer(sign_by_hand(header, claims))
    (statement,) = answer["policyDocument"]["Statement"]
    if not statement["Resource"]:
        assert (answer["principalId"], answer["context"]) == ("nobody", {})
        return
    # Texts in ASCII, without what would have to be escaped anywhere on their way.
    for text in (answer["principalId"], *answer["context"].values()):
        assert re.fullmatch(r"[A-Za-z0-9_.:*/%~ +-]*", text)
    access = access_of(json.loads(json.dumps(answer["context"])))
    assert access == app.services.tokens.authenticate(f"Bearer {sign_by_hand(header, claims)}")
    assert access.subject


_LARGEST = {
    "numbers": [*range(1_000, 2_000)],
    "short names": [f"{number:x}" for number in range(1_000)],
    "long names": [f"{number:064}" for number in range(1_000)],
}


@pytest.mark.parametrize("locations", _LARGEST.values(), ids=_LARGEST)
@pytest.mark.parametrize("subject", ["🌡", "\x7f", "ü", '"'], ids=ascii)
@pytest.mark.parametrize("scope", ["", " ".join(f"{number:x}" for number in range(1_200))], ids=["", "unknown scopes"])
def test_what_the_gateway_is_told_of_the_largest_token_is_within_8_kb(stage, locations, subject, scope):
    token = " " * 9_000
    locations = [*locations]
    while len(token) > 8_192:
        claims = {**CLAIMS, "sub": subject * 128, "scope": scope, "locations": locations}
        text = json.dumps(claims, ensure_ascii=False, separators=(",", ":"))
        token = sign_by_hand(b'{"alg":"HS256"}', text.encode())
        locations.pop()
    answer = authorizer_answer(token)
    assert answer["context"]
    assert len(json.dumps(answer)) < 8_192
