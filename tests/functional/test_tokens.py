"""Who may post: tokens through the gateway, the authorizer and the route, as `chalice local` plays them."""

import base64
import hashlib
import hmac
import json
import time

import jwt
import pytest

from chalicelib.landing import encode_landing
from ops.tokens import mint_token
from tests.factories import NOW, landed, posted
from tests.fakes import service_error
from tests.functional.conftest import SIGNING_KEYS
from tests.functional.test_post_readings import assert_refused
from tests.runs import player_on

CLAIMS = {"sub": "gateway-7", "exp": time.time() + 86_400, "scope": "readings:write", "locations": ["a"]}


def sign(claims, key=SIGNING_KEYS["now"], algorithm="HS256", **headers):
    return jwt.encode(claims, key, algorithm, {"kid": "now", **headers})


def without(name):
    return {claim: value for claim, value in CLAIMS.items() if claim != name}


def post(stage, token, **fields):
    return stage.post(posted(**fields), Authorization=f"Bearer {token}")


def encoded(part):
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def signed_by_hand(header, claims, key):
    text = f"{encoded(header)}.{encoded(claims)}"
    signature = hmac.new(key.encode(), text.encode(), hashlib.sha256).digest()
    return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def with_other_claims(token, claims):
    header, _, signature = token.split(".")
    return f"{header}.{encoded(claims)}.{signature}"


@pytest.mark.parametrize("key_id", SIGNING_KEYS)
def test_a_token_of_any_current_key_is_taken(stage, key_id):
    assert post(stage, sign(CLAIMS, SIGNING_KEYS[key_id], kid=key_id)).status_code == 200


def test_a_token_that_names_no_key_is_checked_with_every_current_one(stage):
    assert post(stage, jwt.encode(CLAIMS, SIGNING_KEYS["before"], "HS256")).status_code == 200


def test_a_minted_token_is_taken(stage):
    token = mint_token(SIGNING_KEYS, "gateway-7", scopes=["readings:write"], locations=["3"], lifetime_seconds=60)
    assert post(stage, token, location_id=3).status_code == 200
    assert post(stage, token, location_id=4).status_code == 403


def test_without_a_token_nobody_is_let_in(stage):
    response = stage.http.post("/readings", headers={"Content-Type": "application/json"}, body=json.dumps(posted()))
    assert response.status_code == 401
    assert stage.queued() == []


HS256 = {"alg": "HS256", "kid": "now"}

FORGED = {
    "another key": sign(CLAIMS, "a key that somebody else has thought of"),
    "an unknown key id": sign(CLAIMS, kid="unknown"),
    "a key under another key's id": sign(CLAIMS, kid="before"),
    "no algorithm": f"{encoded({'alg': 'none', 'typ': 'JWT', 'kid': 'now'})}.{encoded(CLAIMS)}.",
    "no algorithm, signed": signed_by_hand({"alg": "none", "kid": "now"}, CLAIMS, SIGNING_KEYS["now"]),
    "another algorithm": sign(CLAIMS, SIGNING_KEYS["now"] * 2, algorithm="HS512"),
    "an asymmetric algorithm": signed_by_hand({"alg": "RS256", "kid": "now"}, CLAIMS, SIGNING_KEYS["now"]),
    "no expiry": sign(without("exp")),
    "no subject": sign(without("sub")),
    "no scope": sign(without("scope")),
    "no locations": sign(without("locations")),
    "an expiry that is text": signed_by_hand(HS256, {**CLAIMS, "exp": "later"}, SIGNING_KEYS["now"]),
    "an endless expiry": signed_by_hand(HS256, {**CLAIMS, "exp": 1e999}, SIGNING_KEYS["now"]),
    "an enormous expiry": signed_by_hand(HS256, {**CLAIMS, "exp": 10**400}, SIGNING_KEYS["now"]),
    "a subject that is no text": signed_by_hand(HS256, {**CLAIMS, "sub": 7}, SIGNING_KEYS["now"]),
    "locations as text": sign({**CLAIMS, "locations": "*"}),
    "claims that are no object": signed_by_hand(HS256, [1], SIGNING_KEYS["now"]),
    "a key id that is no text": signed_by_hand({"alg": "HS256", "kid": ["now"]}, CLAIMS, SIGNING_KEYS["now"]),
    "an unknown critical header": sign(CLAIMS, crit=["x"], x=1),
    "changed claims": with_other_claims(sign(CLAIMS), {**CLAIMS, "locations": ["*"]}),
    "no signature": sign(CLAIMS).rpartition(".")[0] + ".",
    "nonsense": "nonsense",
    "dots": "....",
    "great length": "x" * 9_000,
}  # fmt: skip


def test_a_token_that_is_not_authentic_opens_nothing(stage, subtests):
    for name, token in FORGED.items():
        with subtests.test(name):
            response = post(stage, token)
            assert response.status_code == 403
            assert b"Traceback" not in response.body
            assert stage.queued() == []


NOT_BEARER = {
    "nothing": "",
    "the scheme alone": "Bearer",
    "the scheme and a space": "Bearer ",
    "another scheme": "Basic YTpi",
    "a made-up scheme": "Token x",
    "the token alone": sign(CLAIMS),
}


def test_a_header_that_is_no_bearer_token_opens_nothing(stage, subtests):
    for name, header in NOT_BEARER.items():
        with subtests.test(name):
            assert stage.post(posted(), Authorization=header).status_code in {401, 403}


def test_a_token_that_has_expired_is_told_so(stage):
    assert_refused(post(stage, sign({**CLAIMS, "exp": time.time() - 1})), 401, "token: it has expired")


def test_a_token_may_expire_while_the_gateway_still_remembers_it(stage, monkeypatch):
    token = sign(CLAIMS)
    assert post(stage, token).status_code == 200
    monkeypatch.setattr("app.routes._clock", lambda: CLAIMS["exp"] + 1)
    assert_refused(post(stage, token, value=3000), 401, "token: it has expired")


def test_a_token_for_reading_reports_writes_nothing(stage):
    assert_refused(post(stage, sign({**CLAIMS, "scope": "reports:read"})), 403, "readings:write")


def test_a_token_of_another_location_writes_nothing(stage):
    assert_refused(post(stage, sign(CLAIMS), location_id="b"), 403, "location_id: ")
    assert stage.queued() == []


def test_in_a_batch_only_the_readings_of_other_locations_are_rejected(stage):
    body = {"readings": [posted(location_id="b"), posted(location_id="a", sensor_id=2)]}
    answer = stage.post(body, Authorization=f"Bearer {sign(CLAIMS)}").json_body
    assert answer["results"][0] == {"error": "readings[0].location_id: the token is not for this location"}
    assert (answer["accepted"], answer["rejected"]) == (1, 1)


@pytest.mark.parametrize("locations", [["*"], ["x", "*"], [1, "a"]])
def test_locations_are_texts_or_numbers_or_all(stage, locations):
    assert post(stage, sign({**CLAIMS, "locations": locations})).status_code == 200


def test_the_answer_to_another_callers_reading_is_not_given_away(stage):
    stage.post(posted(location_id="b", reading_id="r"))
    assert post(stage, sign(CLAIMS), location_id="b", reading_id="r").status_code == 403


def put_keys(stage, value):
    stage.aws("ssm").put_parameter(Name="/thermonet/dev/signing-keys", Type="SecureString", Value=value, Overwrite=True)


def test_a_new_key_is_found_when_a_token_first_names_it(stage, monkeypatch):
    import app

    assert post(stage, sign(CLAIMS)).status_code == 200
    put_keys(stage, json.dumps({"now": SIGNING_KEYS["now"], "next": "the key that comes after this one"}))
    new = sign(CLAIMS, "the key that comes after this one", kid="next")
    assert post(stage, new).status_code == 403
    keys = app.services.tokens._keys
    later = time.monotonic() + 31
    monkeypatch.setattr(keys, "_clock", lambda: later)
    assert post(stage, new).status_code == 200
    assert post(stage, sign(CLAIMS, SIGNING_KEYS["before"], kid="before")).status_code == 403


def test_a_flood_of_unknown_key_ids_is_no_flood_of_calls(stage, aws_calls):
    for number in range(20):
        post(stage, sign(CLAIMS, kid=f"made-up-{number}"))
    assert aws_calls.made.count("ssm:GetParameter") == 1


def test_a_key_that_was_taken_out_is_refused_some_minutes_later(stage, monkeypatch):
    import app

    assert post(stage, sign(CLAIMS)).status_code == 200
    put_keys(stage, json.dumps({"before": SIGNING_KEYS["before"]}))
    later = time.monotonic() + 301
    monkeypatch.setattr(app.services.tokens._keys, "_clock", lambda: later)
    assert post(stage, sign(CLAIMS)).status_code == 403


def test_keys_that_cannot_be_read_are_the_servers_fault_and_open_nothing(stage, aws_calls, restart):
    aws_calls.fail("ssm:", service_error())
    assert_refused(post(stage, sign(CLAIMS)), 503, "try again")
    aws_calls.heal()
    for value in ("{", "[]", '{"now": 5}'):
        restart()
        put_keys(stage, value)
        assert_refused(post(stage, sign(CLAIMS)), 503, "try again")


def test_keys_once_read_are_used_on_while_they_cannot_be_read_again(stage, aws_calls, monkeypatch):
    import app

    assert post(stage, sign(CLAIMS)).status_code == 200
    later = time.monotonic() + 301
    monkeypatch.setattr(app.services.tokens._keys, "_clock", lambda: later)
    aws_calls.fail("ssm:", service_error())
    assert post(stage, sign(CLAIMS), value=3000).status_code == 200


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_a_key_too_short_to_be_safe_is_no_key(stage):
    put_keys(stage, json.dumps({"now": "short"}))
    assert post(stage, jwt.encode(CLAIMS, "short", "HS256", {"kid": "now"})).status_code == 403


def test_a_route_that_the_gateway_would_let_through_without_an_access_is_closed(stage):
    from chalicelib.api.access import access_of
    from chalicelib.errors import NotAuthenticatedError

    for context in ({}, {"access": ""}, {"access": "{}"}, {"access": None}, {"principalId": "x"}):
        with pytest.raises(NotAuthenticatedError):
            access_of(context)


def test_every_data_route_has_the_authorizer(stage):
    import app

    open_routes = {"/", "/assets/{name}", "/health"}
    for path, methods in app.app.routes.items():
        for entry in methods.values():
            assert (entry.authorizer is None) == (path in open_routes), path


READ_ROUTES = ["/sensors/1", "/locations", "/locations/a/report", "/runs/latest"]


@pytest.mark.parametrize("path", READ_ROUTES)
def test_reading_needs_a_token_that_has_not_expired_and_its_scope(stage, path):
    def get(token=None):
        return stage.http.get(path, headers={"Authorization": f"Bearer {token}"} if token else {})

    reading = {**CLAIMS, "scope": "reports:read"}
    assert get().status_code == 401
    assert get(sign(reading, "a key that somebody else has thought of")).status_code == 403
    assert_refused(get(sign({**reading, "exp": time.time() - 1})), 401, "token: it has expired")
    assert_refused(get(sign(CLAIMS)), 403, "reports:read")
    assert get(sign(reading)).status_code in {200, 404}


def test_the_report_of_another_location_is_forbidden_whether_there_is_one_or_not(stage):
    token = sign({**CLAIMS, "scope": "reports:read"})
    response = stage.http.get("/locations/b/report", headers={"Authorization": f"Bearer {token}"})
    assert_refused(response, 403, "location_id: ")


def test_the_locations_of_a_token_are_all_that_it_shows(stage):
    player = player_on(stage)
    token = sign({**CLAIMS, "scope": "reports:read", "locations": ["a", "nowhere", "c"]})

    def shown(*locations):
        lines = [landed(location, location, 20.0, NOW) for location in locations]
        stage.put_object(f"landing/{len(locations)}.jsonl.gz", encode_landing(lines))
        player.run(f"run-{len(locations)}", NOW)
        answer = stage.http.get("/locations", headers={"Authorization": f"Bearer {token}"})
        return [one["location_id"] for one in answer.json_body["locations"]]

    assert stage.http.get("/locations", headers={"Authorization": f"Bearer {token}"}).json_body == {"locations": []}
    assert shown("a", "b") == ["a"]
    assert shown("a", "b", "c") == ["a", "c"]


def test_a_sensor_and_the_books_of_a_run_are_shown_to_every_reader(stage):
    stage.post(posted(sensor_id="s", location_id="b"))
    headers = {"Authorization": f"Bearer {sign({**CLAIMS, 'scope': 'reports:read'})}"}
    assert stage.http.get("/sensors/s", headers=headers).json_body == {"sensor_id": "s", "broken": False}
    assert stage.http.get("/runs/latest", headers=headers).json_body["Message"] == "no run has been committed yet"
