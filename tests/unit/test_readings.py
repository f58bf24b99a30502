"""The contract of one reading, rule by rule, and that nothing else than its errors ever comes out."""

import json
import math
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.errors import ValidationError
from chalicelib.fields import format_time, parse_id, to_milliseconds
from chalicelib.ingest.readings import (
    Delivery,
    PostedReading,
    Reading,
    parse_reading,
)
from chalicelib.validation import decode_body
from tests.factories import DAY, MINUTE, NOW, posted, reading
from tests.strategies import IDS, JSON_VALUES, outcome

FIELDS = ["sensor_id", "location_id", "value", "timestamp", "reading_id"]


def delivery(content, may_post=lambda _: True):
    return Delivery(content, may_post)


def parse(body):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse_reading(delivery(decode_body(body)), NOW, DAY)


def refusal(body):
    with pytest.raises(ValidationError) as error:
        parse(body)
    return str(error.value)


def test_a_full_reading_is_understood():
    assert parse(
        {"sensor_id": "s-1", "location_id": 7, "value": 1.5, "timestamp": "2026-03-01T11:00:00Z", "reading_id": "r"}
    ) == reading(
        sensor_id="s-1",
        location_id="7",
        resistance_ohm=1.5,
        timestamp="2026-03-01T11:00:00.000Z",
        reading_id="r",
    )


def test_every_field_that_may_be_posted_is_one_of_the_reading():
    posted_fields = set(PostedReading.__struct_fields__)
    assert posted_fields - {"value"} | {"resistance_ohm"} == set(Reading.__struct_fields__)


def test_timestamp_and_reading_id_may_be_absent_or_null():
    shortest = parse(posted())
    assert shortest == parse(posted(timestamp=None, reading_id=None))
    assert (shortest.sensor_id, shortest.location_id, shortest.resistance_ohm) == ("1", "a", 2000.0)
    assert (shortest.timestamp, shortest.reading_id) == (None, None)


@pytest.mark.parametrize("field", ["sensor_id", "location_id", "value"])
def test_a_missing_field_is_named(field):
    assert refusal(posted(**{field: ...})) == f"{field}: required, but missing"


@pytest.mark.parametrize("field", ["sensor_id", "location_id", "value"])
@pytest.mark.parametrize("value", [None, True, False, [], {}, [1], {"value": 1}])
def test_a_required_field_of_a_wrong_type_is_named(field, value):
    assert refusal(posted(**{field: value})).startswith(f"{field}: Expected")


@pytest.mark.parametrize("field", ["timestamp", "reading_id"])
@pytest.mark.parametrize("value", [True, 5, 1.5, [], {}])
def test_an_optional_field_of_a_wrong_type_is_named(field, value):
    assert refusal(posted(**{field: value})).startswith(f"{field}: Expected")


def test_an_unknown_field_is_named():
    assert refusal(posted(volume=1)) == "volume: unknown field"


def test_the_name_of_an_unknown_field_is_not_repeated_at_length():
    error = refusal(posted(**{"x" * 1_000: 1}))
    assert error.startswith("xxx")
    assert len(error) < 200


def test_a_field_given_twice_is_named():
    assert refusal(b'{"sensor_id":1,"location_id":"a","value":1,"value":2}') == "value: the field is given twice"


def test_a_field_given_twice_among_very_many_is_found_in_linear_time():
    comparisons = []

    class CountingName(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other):
            comparisons.append(1)
            return str.__eq__(self, other)

    from chalicelib import validation

    pairs = [(CountingName(number), 0) for number in range(300)]
    with pytest.raises(ValidationError, match="299: the field is given twice"):
        validation._unique_keys([*pairs, (CountingName(299), 1)])
    assert len(comparisons) < 10 * len(pairs)


@pytest.mark.parametrize("value", [0, -1, 0.1, 1e308, -0.0, 2000, 2**53 + 1])
def test_any_finite_number_is_a_value(value):
    assert parse(posted(value=value)).resistance_ohm == float(value)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e400", "-1e999", "1" + "0" * 400, "9" * 4300])
def test_a_number_that_is_not_finite_is_refused_by_name(text):
    assert refusal(f'{{"sensor_id":1,"location_id":"a","value":{text}}}'.encode()).startswith("value: ")


def test_text_is_no_value():
    assert refusal(posted(value="2000")).startswith("value: Expected `float`, got `str`")


def test_a_number_longer_than_python_reads_is_no_valid_json():
    assert refusal(b'{"sensor_id":1,"location_id":"a","value":' + b"1" * 5_000 + b"}").startswith(
        "body: not valid JSON"
    )


@pytest.mark.parametrize("field", ["sensor_id", "location_id"])
@pytest.mark.parametrize(
    "value",
    ["", "a b", "a\n", "\na", "a/b", "ä", "a\x00", "x" * 65, "a+b", "%41", "１", "'", '"', "a\r\n", 10**64, 1.0, 1.5],
)
def test_an_id_that_breaks_the_rule_is_named(field, value):
    assert refusal(posted(**{field: value})).startswith(f"{field}: ")


@given(IDS, st.integers(-(10**62), 10**63))
def test_ids_of_the_rule_are_taken_and_numbers_become_text(text, number):
    reading = parse(posted(sensor_id=text, location_id=number))
    assert (reading.sensor_id, reading.location_id) == (text, str(number))


@pytest.mark.parametrize("value", ["", "x" * 65])
def test_a_reading_id_has_between_1_and_64_characters(value):
    assert refusal(posted(reading_id=value)).startswith("reading_id: ")
    assert parse(posted(reading_id="ü" * 64)).reading_id == "ü" * 64


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-01T12:00:00", "2026-03-01", "12:00:00Z", "yesterday", "", "2026-02-30T12:00:00Z", "1772366400",
        "2026-03-01T12:00:00+25:00", "2026-03-01T12:00:60Z", "2026-03-01T24:00:00Z", "9999-12-31T23:59:59.9999999Z",
        "２026-03-01T12:00:00Z", "2026-03-01T12:00:00Z\n",
    ],
)  # fmt: skip
def test_a_timestamp_that_is_no_time_with_offset_is_named(text):
    assert refusal(posted(timestamp=text)).startswith("timestamp: ")


@pytest.mark.parametrize(
    "text",
    ["9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59Z", "2026-03-01T12:05:00.000001Z", "2026-03-01T14:06:00+02:00"],
)
def test_a_timestamp_over_5_minutes_ahead_is_refused(text):
    assert refusal(posted(timestamp=text)) == "timestamp: more than 5 minutes in the future"


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:59", "0001-01-01T00:00:00Z", "2026-02-28T11:59:59.999999Z"])
def test_a_timestamp_older_than_the_history_is_refused(text):
    assert refusal(posted(timestamp=text)) == "timestamp: more than 24 hours old"


@pytest.mark.parametrize("age", [-5 * MINUTE, 0 * MINUTE, DAY])
def test_timestamps_are_taken_up_to_both_ends(age):
    assert parse(posted(timestamp=format_time(NOW - age))).timestamp == format_time(NOW - age)


@given(st.timedeltas(-5 * MINUTE, DAY), st.timedeltas(-DAY + MINUTE, DAY - MINUTE))
def test_a_timestamp_of_any_offset_becomes_the_same_moment_in_utc(age, offset):
    offset = timedelta(minutes=offset // MINUTE)
    local = (NOW - age).astimezone(timezone(offset))
    assert parse(posted(timestamp=local.isoformat())).timestamp == format_time(NOW - age)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("2026-03-01T11:59:59.9999999Z", "2026-03-01T11:59:59.999Z"),
        ("2026-03-01T11:59:59.99999999999+00:00", "2026-03-01T11:59:59.999Z"),
        ("2026-03-01T11:59:59.000999Z", "2026-03-01T11:59:59.000Z"),
        ("2026-03-01T11:59:59.5Z", "2026-03-01T11:59:59.500Z"),
        ("2026-03-01T14:00:00.0005+02:00", "2026-03-01T12:00:00.000Z"),
    ],
)
def test_further_digits_of_a_time_are_cut_and_never_rounded(text, kept):
    assert parse(posted(timestamp=text)).timestamp == kept


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_are_written_in_one_form_with_z_and_read_back(time):
    text = format_time(time)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    assert datetime.fromisoformat(text) == to_milliseconds(time)
    assert timedelta(0) <= time - to_milliseconds(time) < timedelta(milliseconds=1)


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"{", b"{}x", b"{'a': 1}", b'{"a": 1,}', b"undefined", b"\xef\xbb\xbf{}", b'{"a": "\t"}',
     b"sensor_id=1", b"[" * 10, b"1" * 5_000],
)  # fmt: skip
def test_a_body_that_is_no_json_is_refused(body):
    assert refusal(body).startswith("body: not valid JSON: ")


@pytest.mark.parametrize(
    "body", [b"\xff", "{}".encode("utf-16"), '{"a": "ü"}'.encode("latin-1"), b'{"a": "\\ud800"}', b'{"\\udc00": 1}']
)
def test_a_body_that_is_no_utf8_is_refused(body):
    assert refusal(body) == "body: not valid UTF-8"


@pytest.mark.parametrize("body", [b"null", b"true", b"5", b"NaN", b'"text"', b"[]", b"[1]"])
def test_a_body_that_is_no_object_is_refused(body):
    assert refusal(body).startswith("body: Expected `object`")


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000])
def test_a_body_nested_too_deeply_is_refused(body):
    assert refusal(body) == "body: nested too deeply"


def test_an_escaped_pair_of_surrogates_is_one_character():
    assert parse(b'{"sensor_id":1,"location_id":"a","value":1,"reading_id":"\\ud83c\\udf21"}').reading_id == "🌡"


@settings(max_examples=200)
@given(st.binary(max_size=200) | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_parsed_or_refused(body):
    reading, error = outcome(parse, body)
    assert isinstance(reading, Reading) or ": " in error


@settings(max_examples=200)
@given(JSON_VALUES | st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, JSON_VALUES)))
def test_any_json_is_parsed_or_refused(value):
    reading, error = outcome(parse, json.dumps(value).encode())
    assert math.isfinite(reading.resistance_ohm) if reading else ": " in error


@settings(max_examples=200)
@given(
    st.sampled_from(FIELDS),
    JSON_VALUES
    | st.sampled_from([10**400, -(10**400), 1e308, "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"]),
)
def test_one_strange_field_in_a_good_reading_is_parsed_or_refused_by_its_name(field, value):
    reading, error = outcome(parse, posted(**{field: value}))
    assert isinstance(reading, Reading) or error.startswith(field)


@pytest.mark.parametrize("text", ["a b", "a%2Fb", "", "%00", "x" * 65, "a%0A", "é"])
def test_an_id_of_a_path_that_breaks_the_rule_is_named(text):
    with pytest.raises(ValidationError, match=r"^sensor_id: Expected `str` matching regex '\^\["):
        parse_id("sensor_id", text)


def test_an_id_of_a_path_may_be_encoded():
    assert parse_id("sensor_id", "a%3Ab") == "a:b"


@pytest.mark.parametrize("longest", ["x" * 64, 10**63])
def test_an_id_has_up_to_64_characters(longest):
    assert parse(posted(sensor_id=longest)).sensor_id == str(longest)
    assert refusal(posted(sensor_id=longest * 10)).startswith("sensor_id: ")
