"""Measurements in the queue: what is sent comes out again, and anything else is named by its index and reason."""

import json
import math
from datetime import UTC

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.errors import ValidationError
from chalicelib.fields import to_milliseconds
from chalicelib.ingest.measurement_queue import pack
from chalicelib.measurements import Measurement, decode_measurements
from chalicelib.thermistor import Status
from tests.factories import measurement_fields
from tests.strategies import IDS, JSON_VALUES, outcome

MEASUREMENTS = st.builds(
    Measurement,
    sensor_id=IDS,
    location_id=IDS,
    temperature=st.floats(-273.15, 999_999),
    status=st.sampled_from(list(Status)),
    timestamp=st.datetimes(timezones=st.just(UTC)).map(to_milliseconds),
    value=st.floats(1.0, 20_000.0),
)


@given(st.lists(MEASUREMENTS, max_size=5))
def test_measurements_survive_the_queue_unchanged(measurements):
    assert [decode_measurements(body) for body in pack(measurements)] == (
        [(dict(enumerate(measurements)), [])] if measurements else []
    )


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"sensor_id": "a b"}, "[1].sensor_id: "),
        ({"location_id": 5}, "[1].location_id: "),
        ({"temperature": "35"}, "[1].temperature: "),
        ({"temperature": None}, "[1].temperature: "),
        ({"temperature": math.nan}, "[1].temperature: "),
        ({"temperature": 1e6}, "[1].temperature: "),
        ({"temperature": -1e6}, "[1].temperature: "),
        ({"status": "WARM"}, "[1].status: "),
        ({"timestamp": "2026-03-01T12:00:00"}, "[1].timestamp: "),
        ({"value": None}, "[1].value: "),
        ({"value": math.nan}, "[1].value: "),
        ({"value": math.inf}, "[1].value: "),
        ({"value": -math.inf}, "[1].value: "),
    ],
)
def test_a_bad_measurement_is_told_by_place_and_field_beside_good_ones(fields, reason):
    body = json.dumps([measurement_fields(), measurement_fields(**fields), measurement_fields(sensor_id="2")])
    good, reasons = decode_measurements(body)
    assert {place: measurement.sensor_id for place, measurement in good.items()} == {0: "1", 2: "2"}
    assert len(reasons) == 1
    assert reasons[0].startswith(reason)


def test_a_message_without_the_fields_that_came_later_is_understood():
    good, reasons = decode_measurements(json.dumps([measurement_fields()]))
    assert (good[0].sensor_id, reasons) == ("1", [])


def test_an_element_that_is_no_object_is_named_by_its_index():
    assert decode_measurements(json.dumps([measurement_fields(), 5]))[1] == ["[1]: Expected `object`, got `int`"]


@pytest.mark.parametrize("body", ["", "{}", "null", "5", "[", '{"a": 1}', "\ud800", '"' + "x" * 10 + '"'])
def test_a_message_that_is_no_array_is_an_error_as_a_whole(body):
    with pytest.raises(ValidationError, match=r"^body: "):
        decode_measurements(body)


@settings(max_examples=200)
@given(st.text() | JSON_VALUES.map(json.dumps) | st.lists(JSON_VALUES).map(json.dumps))
def test_any_message_is_decoded_or_refused(body):
    decoded, error = outcome(decode_measurements, body)
    if decoded is None:
        assert error.startswith("body: ")
    else:
        good, reasons = decoded
        assert all(isinstance(one, Measurement) for one in good.values())
        bad = {int(reason[1 : reason.index("]")]) for reason in reasons}
        assert sorted([*good, *bad]) == list(range(len(json.loads(body))))


@pytest.mark.parametrize("body", ["[" * 100_000, '[{"more": ' + "[" * 100_000 + "]" * 100_000 + "}]"])
def test_a_message_nested_too_deeply_is_an_error_as_a_whole(body):
    with pytest.raises(ValidationError, match=r"^body: "):
        decode_measurements(body)
