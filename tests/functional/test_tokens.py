"""Who may post: tokens through the gateway, the authorizer and the route, as `chalice local` plays them."""

import json
import re
import time

import jwt
import pytest

from chalicelib.errors import ServiceUnavailableError
from tests.factories import NOW, landed, posted
from tests.fakes import service_error
from tests.functional.conftest import SIGNING_KEYS
from tests.functional.test_post_readings import assert_refused
from tests.runs import land, player_on

KEYS = "/thermonet/dev/signing-keys"
CLAIMS = {"sub": "gateway-7", "exp": time.time() + 86_400, "scope": "readings:write", "locations": ["a"]}


def sign(claims, key=SIGNING_KEYS["now"], algorithm="HS256", **headers):
    return jwt.encode(claims, key, algorithm, {"kid": "now", **headers})


def put_keys(stage, keys):
    stage.aws("ssm").put_parameter(Name=KEYS, Type="SecureString", Value=keys, Overwrite=True)


def post(stage, token, **fields):
    return stage.post(posted(**fields), Authorization=f"Bearer {token}")


def test_without_a_token_nobody_is_let_in(stage):
    response = stage.http.post("/readings", headers={"Content-Type": "application/json"}, body=json.dumps(posted()))
    assert response.status_code == 401
    assert stage.queued() == []


NOT_AUTHENTIC = {
    "another key": f"Bearer {sign(CLAIMS, 'a key that somebody else has thought of')}",
    "an algorithm of its own": f"Bearer {jwt.encode(CLAIMS, '', 'none')}",
    "no subject": f"Bearer {sign({**CLAIMS, 'sub': ''})}",
    "great length": f"Bearer {'x' * 9_000}",
    "another scheme": "Basic YTpi",
    "the token alone": sign(CLAIMS),
}


def test_a_token_that_is_not_authentic_opens_nothing(stage, subtests):
    for name, header in NOT_AUTHENTIC.items():
        with subtests.test(name):
            response = stage.post(posted(), Authorization=header)
            assert response.status_code == 403
            assert b"Traceback" not in response.body
            assert stage.queued() == []


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer "])
def test_a_header_without_a_token_opens_nothing(stage, header):
    assert stage.post(posted(), Authorization=header).status_code in {401, 403}


EXPIRED = "token: it has expired (exp)"


def test_a_token_that_has_expired_is_told_so(stage):
    assert post(stage, sign({**CLAIMS, "exp": time.time() - 30})).status_code == 200
    assert_refused(post(stage, sign({**CLAIMS, "exp": time.time() - 60})), 401, EXPIRED)


def test_a_token_may_expire_while_the_gateway_still_remembers_it(stage, monkeypatch):
    token = sign(CLAIMS)
    assert post(stage, token).status_code == 200
    monkeypatch.setattr("app.routes._clock", lambda: CLAIMS["exp"] + 60)
    assert_refused(post(stage, token, value=3000), 401, EXPIRED)


@pytest.mark.parametrize(
    ("claim", "reason"), [("nbf", "it is not valid yet (nbf)"), ("iat", "it was issued in the future (iat)")]
)
def test_a_token_from_a_clock_that_is_ahead_is_taken_or_told_why_not(stage, monkeypatch, claim, reason):
    now = time.time()
    monkeypatch.setattr("app.routes._clock", lambda: now)
    assert post(stage, sign({**CLAIMS, claim: now + 60})).status_code == 200
    assert_refused(post(stage, sign({**CLAIMS, claim: now + 61})), 401, f"token: {reason}")


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


def test_the_answer_to_another_callers_reading_is_not_given_away(stage):
    stage.post(posted(location_id="b", reading_id="r"))
    assert post(stage, sign(CLAIMS), location_id="b", reading_id="r").status_code == 403


def test_a_key_that_is_changed_in_ssm_is_found_and_its_predecessor_refused(stage, monkeypatch):
    import app

    new = sign(CLAIMS, "the key that comes after this one", kid="next")
    assert [post(stage, token).status_code for token in (sign(CLAIMS), new)] == [200, 403]
    put_keys(stage, json.dumps({"next": "the key that comes after this one"}))
    later = time.monotonic() + 31
    monkeypatch.setattr(app.services.tokens._keys, "_clock", lambda: later)
    assert [post(stage, token).status_code for token in (new, sign(CLAIMS))] == [200, 403]


@pytest.mark.parametrize("keys", [None, "{", "{}", '{"now": "too short"}'], ids=str)
def test_keys_that_cannot_be_read_are_an_error_of_that_call_and_open_nothing(stage, aws_calls, log_lines, keys):
    good = stage.aws("ssm").get_parameter(Name=KEYS, WithDecryption=True)["Parameter"]["Value"]
    if keys is None:
        aws_calls.fail("ssm:", service_error())
    else:
        put_keys(stage, keys)
    # What API Gateway answers with a 500 of its own, and does not keep.
    with pytest.raises(ServiceUnavailableError):
        post(stage, sign(CLAIMS))
    (line,) = log_lines
    assert json.loads(line)["message"] == "no token can be checked"
    aws_calls.heal()
    assert stage.queued() == []
    put_keys(stage, good)
    assert post(stage, sign(CLAIMS)).status_code == 200


def test_every_data_route_has_the_authorizer(stage):
    import app

    open_routes = {"/", "/assets/{name}", "/health"}
    for path, methods in app.app.routes.items():
        for entry in methods.values():
            assert (entry.authorizer is None) == (path in open_routes), path


def test_every_data_route_names_the_scope_that_a_token_lacks_for_it(stage, subtests):
    import app

    headers = {"Authorization": f"Bearer {sign({**CLAIMS, 'scope': ''})}", "Content-Type": "application/json"}
    for path, methods in app.app.routes.items():
        for method, entry in methods.items():
            if entry.authorizer is not None:
                with subtests.test(f"{method} {path}"):
                    asked = re.sub(r"\{\w+\}", "1", path)
                    body = b"" if method == "GET" else json.dumps(posted()).encode()
                    answer = stage.http.request(method, asked, headers=headers, body=body)
                    assert_refused(answer, 403, "scope")


READ_ROUTES = ["/locations/a/sensors/1", "/locations", "/locations/a/report", "/runs/latest"]


def test_reading_needs_a_token_that_has_not_expired_and_its_scope(stage, subtests):
    def get(path, token=None):
        return stage.http.get(path, headers={"Authorization": f"Bearer {token}"} if token else {})

    reading = {**CLAIMS, "scope": "reports:read"}
    for path in READ_ROUTES:
        with subtests.test(path):
            assert get(path).status_code == 401
            assert get(path, sign(reading, "a key that somebody else has thought of")).status_code == 403
            assert_refused(get(path, sign({**reading, "exp": time.time() - 60})), 401, EXPIRED)
            assert_refused(get(path, sign(CLAIMS)), 403, "reports:read")
            assert get(path, sign(reading)).status_code in {200, 404}


def test_the_report_of_another_location_is_forbidden_whether_there_is_one_or_not(stage):
    token = sign({**CLAIMS, "scope": "reports:read"})
    response = stage.http.get("/locations/b/report", headers={"Authorization": f"Bearer {token}"})
    assert_refused(response, 403, "location_id: ")


def test_the_locations_of_a_token_are_all_that_it_shows(stage):
    player = player_on(stage)
    token = sign({**CLAIMS, "scope": "reports:read", "locations": ["a", "nowhere", "c"]})

    def shown(*locations):
        lines = [landed(location, location, 20.0, NOW) for location in locations]
        land(player, *lines, number=len(locations))
        player.run(f"run-{len(locations)}", NOW)
        answer = stage.http.get("/locations", headers={"Authorization": f"Bearer {token}"})
        return [one["location_id"] for one in answer.json_body["locations"]]

    assert stage.http.get("/locations", headers={"Authorization": f"Bearer {token}"}).json_body == {"locations": []}
    assert shown("a", "b") == ["a"]
    assert shown("a", "b", "c") == ["a", "c"]


def test_a_sensor_is_shown_at_the_token_s_locations_and_the_last_run_to_every_reader(stage):
    stage.post({"readings": [posted(sensor_id="s", location_id="a"), posted(sensor_id="s", location_id="b")]})
    headers = {"Authorization": f"Bearer {sign({**CLAIMS, 'scope': 'reports:read'})}"}
    assert stage.http.get("/locations/a/sensors/s", headers=headers).json_body["broken"] is False
    for sensor in ("s", "unheard-of"):
        refused = stage.http.get(f"/locations/b/sensors/{sensor}", headers=headers)
        assert (refused.status_code, refused.json_body["Code"]) == (403, "ForbiddenError")
    assert stage.http.get("/runs/latest", headers=headers).json_body["Message"] == "no run has been committed yet"
