"""What nobody well-meaning sends: it is refused cheaply, with 4xx, and little of it is repeated anywhere."""

import base64
import gzip
import itertools
import json
import re
import time
from types import SimpleNamespace
from urllib.parse import quote

import pytest

from chalicelib.api.access import ALL_LOCATIONS, Access, Scope
from tests.factories import posted
from tests.functional.test_post_readings import ago

MEBIBYTE = 1024 * 1024
ANSWER_BYTES_MAX = 400
# Of which an authorizer's denial and a route's refusal need most for their fixed fields.
LOG_LINE_BYTES_MAX = 1_200

GOOD = json.dumps(posted()).encode()


def assert_brief(response, log_lines):
    # Chalice's local gateway repeats the token in its refusal of what is no route.
    repeated = len(response.body) - len(re.sub(rb"Bearer [\w.-]+", b"", response.body))
    assert len(response.body) - repeated <= ANSWER_BYTES_MAX
    for line in log_lines:
        assert len(line) <= LOG_LINE_BYTES_MAX
        assert line.isascii()
        assert line.isprintable()


def field(name, value):
    return GOOD[:-1] + b', "%s": %s}' % (name.encode(), value)


LONG = "x" * 100_000

BODIES = {
    "UTF-16": GOOD.decode().encode("utf-16"),
    "UTF-16 without a mark": GOOD.decode().encode("utf-16-le"),
    "UTF-32": GOOD.decode().encode("utf-32"),
    "Latin-1": json.dumps(posted(reading_id="ü"), ensure_ascii=False).encode("latin-1"),
    "a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "overlong UTF-8": field("reading_id", b'"\xc0\xaf"'),
    "half of a surrogate pair": field("reading_id", b'"\\ud800"'),
    "a null byte at the end": GOOD + b"\0",
    "a null byte in an id": GOOD.replace(b'"a"', b'"a\\u0000"'),
    "two documents": GOOD + GOOD,
    "JSON Lines": GOOD + b"\n" + GOOD,
    "a comment": GOOD + b"// good",
    "deep arrays": b"[" * 500_000,
    "deep objects": b'{"a":' * 150_000,
    "deep in a field": GOOD.replace(b"2000", b"[" * 100_000 + b"]" * 100_000),
    "deep in a batch": b'{"readings":' * 50_000,
    "a field twice": field("value", b"2001"),
    "a field twice, spelled otherwise": field("v\\u0061lue", b"2001"),
    "very many fields": json.dumps({str(number): 1 for number in range(80_000)}).encode(),
    "too great for a float": GOOD.replace(b"2000", b"1e400"),
    "a hundred thousand digits": GOOD.replace(b"2000", b"9" * 100_000),
    "as many digits as Python reads": GOOD.replace(b"2000", b"9" * 4_300),
    "an id of as many digits": GOOD.replace(b'"sensor_id": 1', b'"sensor_id": ' + b"9" * 4_300),
    "a hundred thousand digits behind the point": GOOD.replace(b"2000", b"NaN" + b"9" * 100_000),
    "an unknown field with a long name": field(LONG, b"1"),
    "an unknown field that means something to logs": field('\\n{\\"level\\":\\"INFO\\"}\\u2028\\u009b31m\\u202e', b"1"),
    "a long reading id": field("reading_id", f'"{LONG}"'.encode()),
    "a long location": GOOD.replace(b'"a"', f'"{LONG}"'.encode()),
    "a long timestamp": field("timestamp", f'"{LONG}"'.encode()),
    "a batch of too many": json.dumps({"readings": [1] * 300_000}).encode(),
    "a prototype": field("__proto__", b"{}"),
}  # fmt: skip


def test_a_body_made_to_hurt_is_refused_briefly_and_costs_no_call(stage, log_lines, aws_calls, subtests):
    stage.post(GOOD)
    for name, body in BODIES.items():
        with subtests.test(name):
            assert len(body) <= MEBIBYTE
            log_lines.clear()
            aws_calls.made.clear()
            response = stage.post(body)
            assert response.status_code == 400
            assert response.json_body.keys() == {"Code", "Message"}
            assert_brief(response, log_lines)
            assert any("request refused" in line for line in log_lines)
            assert aws_calls.made == []


TAKEN = {
    "exotic characters in a reading id": posted(reading_id="🌡️\u202e\u200b\u2028é"),
    "a negative zero": posted(value=-0.0),
    "the smallest number": posted(value=5e-324),
    "the greatest number": posted(value=1.7976931348623157e308),
    "an integer beyond 64 bits": posted(value=10**300),
    "an id that names a prototype": posted(sensor_id="__proto__"),
    "an id of dots": posted(location_id=".."),
    "a negative id": posted(sensor_id=-1),
}


def test_what_is_odd_but_within_the_rules_is_taken(stage, log_lines, subtests):
    for name, reading in TAKEN.items():
        with subtests.test(name):
            response = stage.post(reading)
            assert response.status_code == 200
            assert_brief(response, log_lines)


INJECTIONS = [
    "a'; DROP TABLE sensors;--", "../../etc/passwd", "..%2f", "a/b", "a\\b", "a\nb", "a\r\nSet-Cookie: x=y", "a\0b",
    "<script>", "${jndi:ldap://x}", "{{7*7}}", "$(id)", "`id`", "a b", "a\u2028b", "ａ", "a\u200b", "é", "*", "a#b",
    "a?b", "%00", "", '"}],"broken":true', "a=b", "a&b", "a,b", "@", "x" * 65,
]  # fmt: skip


def test_an_id_made_for_injection_is_refused_in_a_body(stage, log_lines, subtests):
    for name, text in itertools.product(("sensor_id", "location_id"), INJECTIONS):
        with subtests.test(name=name, text=text):
            response = stage.post(posted(**{name: text}))
            assert response.status_code == 400
            assert response.json_body["Message"].startswith(f"{name}: ")
            assert_brief(response, log_lines)


PATHS = [*filter(None, INJECTIONS), LONG[:8_000], "%ff", "%c0%af", "%2500", "%"]


@pytest.mark.parametrize(
    "route", ["/locations/a/sensors/{}", "/locations/{}/sensors/1", "/locations/{}/report", "/assets/{}"]
)
def test_an_id_made_for_injection_is_refused_in_a_path(stage, log_lines, subtests, route):
    for text, plain in itertools.product(PATHS, ("", "%")):
        with subtests.test(text=text, plain=plain):
            path = route.format(quote(text, safe=plain))
            response = stage.http.get(path, headers={**stage.headers, "Accept": "*/*"})
            assert response.status_code in {400, 403, 404}
            assert_brief(response, log_lines)


QUERIES = [
    "since=", "since=now", "since=2026-01-01", "since=9999-12-31T23:59:59-23:59", "since=0001-01-01T00:00:00%2B23:59",
    "since=%00", "since=%ff", f"since={LONG[:8_000]}", f"{LONG[:8_000]}=1", "since", "since=a&since=b", "&&&",
    "=1", "%0a=%0d", "since[]=1", "%ed%a0%80=1",
]  # fmt: skip


def test_a_query_made_to_hurt_is_answered_briefly(stage, log_lines, subtests):
    for query in QUERIES:
        with subtests.test(query):
            response = stage.http.get(f"/locations/a/report?{query}", headers=stage.headers)
            assert response.status_code in {400, 404}
            assert_brief(response, log_lines)


HEADERS = {
    "a type with parameters": (200, {"Content-Type": 'APPLICATION/JSON ; charset="utf-8"; boundary=x; a=b'}),
    "another charset than the body's": (200, {"Content-Type": "application/json; charset=utf-16"}),
    "a type that only looks like JSON": (415, {"Content-Type": "application/jsonp"}),
    "an empty type": (415, {"Content-Type": ""}),
    "a long type": (415, {"Content-Type": LONG}),
    "a type that means something to logs": (415, {"Content-Type": 'x"}\u2028\u009b31m'}),
    "an override of the method": (200, {"X-HTTP-Method-Override": "DELETE", "X-Method-Override": "GET"}),
    "a chunked body": (200, {"Transfer-Encoding": "chunked", "Content-Length": "5"}),
    "a length that is a lie": (200, {"Content-Length": "99999999999999999999"}),
    "another host": (200, {"Host": "elsewhere", "X-Forwarded-Host": "elsewhere", "Forwarded": "host=elsewhere"}),
    "somebody else's address": (200, {"X-Forwarded-For": "127.0.0.1, " * 1_000, "X-Real-IP": "127.0.0.1"}),
    "another path": (200, {"X-Original-URL": "/runs/latest", "X-Rewrite-URL": "/runs/latest"}),
    "an answer of another type": (200, {"Accept": "image/png", "Accept-Encoding": "gzip;q=x", "Accept-Charset": "x"}),
    "a long Authorization": (403, {"Authorization": f"Bearer {LONG}"}),
    "a long token of one's own": (403, {"Authorization": f"Bearer {LONG[:3_000]}.{LONG[:3_000]}.{LONG[:2_000]}"}),
    "two tokens": (403, {"Authorization": "Bearer a, Bearer b"}),
    "a token in another alphabet": (403, {"Authorization": "Bearer ✓.✓.✓"}),
    "a range": (200, {"Range": "bytes=0-1", "Expect": "100-continue", "If-None-Match": '"' * 5_000}),
}  # fmt: skip


def test_tricks_with_headers_change_nothing(stage, log_lines, subtests):
    for number, (name, (status, headers)) in enumerate(HEADERS.items()):
        with subtests.test(name):
            response = stage.post(posted(reading_id=str(number)), **headers)
            assert response.status_code == status
            assert_brief(response, log_lines)
            assert len(stage.queued()) == (status == 200)


def test_a_body_without_a_type_is_taken_as_json(stage):
    headers = {"Authorization": stage.headers["Authorization"]}
    assert stage.http.post("/readings", headers=headers, body=GOOD).status_code == 200


def test_a_method_that_the_route_has_not_is_refused_briefly(stage, log_lines):
    for method in ("PUT", "DELETE", "PATCH", "HEAD", "TRACE", "X" * 5_000):
        response = stage.http.request(method, "/readings", headers=stage.headers, body=GOOD)
        assert response.status_code in {403, 405}, method
        assert_brief(response, log_lines)


def answer_of(event_fields, **headers):
    """The answer to an event as API Gateway makes them, which `chalice local` cannot be brought to make."""
    import app

    access = Access("tests", time.time() + 60, frozenset(Scope), frozenset({ALL_LOCATIONS}))
    event = {
        "requestContext": {
            "httpMethod": "POST", "resourcePath": "/readings", "path": "/dev/readings", "requestId": "1",
            "authorizer": access.to_context(),
        },
        "headers": {"Content-Type": "application/json", **headers},
        "multiValueHeaders": {"Content-Type": ["text/plain", "application/json"]},
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "stageVariables": None,
        "isBase64Encoded": False,
        **event_fields,
    }  # fmt: skip
    context = SimpleNamespace(get_remaining_time_in_millis=lambda: 20_000)
    answer = app.app(event, context)
    return SimpleNamespace(status_code=answer["statusCode"], body=answer["body"].encode())


BOMB = gzip.compress(b'{"sensor_id": "' + b"x" * 50_000_000 + b'"}', compresslevel=1)
COMPRESSED = {"a reading": gzip.compress(GOOD), "a bomb": BOMB, "a bomb in a bomb": gzip.compress(BOMB)}


@pytest.mark.parametrize("body", COMPRESSED.values(), ids=COMPRESSED)
def test_a_compressed_body_is_refused_and_never_inflated(stage, log_lines, body):
    encoded = base64.b64encode(body).decode()
    mangled = body.decode("utf-8", "replace")
    for fields in ({"body": encoded, "isBase64Encoded": True}, {"body": mangled}, {"body": encoded}):
        response = answer_of(fields, **{"Content-Encoding": "gzip"})
        assert response.status_code == 400
        assert_brief(response, log_lines)
    assert stage.post(body, **{"Content-Encoding": "gzip"}).status_code == 400
    assert stage.queued() == []


EVENTS = {
    "a body in base64": (200, {"body": base64.b64encode(GOOD).decode(), "isBase64Encoded": True}),
    "no base64": (400, {"body": "!", "isBase64Encoded": True}),
    "base64 cut off": (400, {"body": base64.b64encode(GOOD).decode()[:-3], "isBase64Encoded": True}),
    "base64 in another alphabet": (400, {"body": "ä" * 8, "isBase64Encoded": True}),
    "text that is no UTF-8": (400, {"body": '"\ud800"'}),
    "no body": (400, {"body": None}),
    "no headers": (400, {"body": "", "headers": None}),
    "a mebibyte and one byte, in base64": (
        413, {"body": base64.b64encode(b" " * (MEBIBYTE + 1)).decode(), "isBase64Encoded": True}
    ),
    "ten mebibytes": (413, {"body": " " * 10 * MEBIBYTE}),
    "another type before the one that counts": (200, {"body": GOOD.decode()}),
}  # fmt: skip


def test_odd_events_of_the_gateway_are_answered_briefly(stage, log_lines, subtests):
    for name, (status, fields) in EVENTS.items():
        with subtests.test(name):
            response = answer_of(fields)
            assert response.status_code == status
            assert_brief(response, log_lines)


@pytest.mark.parametrize("text", ["x" * 5_000, "\n" * 100, "\u2028\u009b31m\u202e"], ids=ascii)
def test_what_a_batch_repeats_of_a_bad_reading_is_short(stage, text):
    bad = {**posted(), text: 1, "timestamp": text, "reading_id": text}
    response = stage.post({"readings": [bad] * 20})
    assert response.status_code == 200
    assert all(len(result["error"]) <= 200 for result in response.json_body["results"])


def test_a_subject_made_for_logs_stays_on_its_line(stage, log_lines):
    from ops.tokens import mint_token
    from tests.functional.conftest import SIGNING_KEYS

    token = mint_token(SIGNING_KEYS, '\n{"level": "INFO"}\u2028\u009b31m')
    assert_brief(stage.post(posted(timestamp=ago(minutes=1)), Authorization=f"Bearer {token}"), log_lines)
    assert any("u2028" in line for line in log_lines)
