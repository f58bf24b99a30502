"""Measurements are packed into as few messages as hold them."""

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.ingest.measurement_queue import MESSAGE_BYTES_MAX, pack
from chalicelib.measurements import Measurement
from chalicelib.thermistor import Status
from tests.factories import NOW


def measurement(number, sensor_id="s"):
    return Measurement(f"{sensor_id}{number}", "a", 35.0, Status.OK, NOW, 2000.0)


def test_nothing_is_no_message():
    assert list(pack([])) == []


def test_what_fits_is_one_message_and_one_byte_less_makes_two():
    measurements = [measurement(number) for number in range(10)]
    (whole,) = pack(measurements)
    assert list(pack(measurements, len(whole))) == [whole]
    assert len(list(pack(measurements, len(whole) - 1))) == 2


def test_a_message_is_at_most_256_kib():
    bodies = list(pack([measurement(number, "x" * 50) for number in range(3_000)]))
    assert len(bodies) > 1
    assert max(map(len, bodies)) <= MESSAGE_BYTES_MAX < 262_144 - 100


@given(st.integers(0, 40), st.integers(200, 2_000))
def test_every_measurement_is_in_one_message_in_order_and_no_message_is_too_long(count, bytes_max):
    bodies = list(pack([measurement(number) for number in range(count)], bytes_max))
    assert [one["sensor_id"] for body in bodies for one in json.loads(body)] == [
        f"s{number}" for number in range(count)
    ]
    assert all(len(body.encode()) <= bytes_max for body in bodies)
    for body, following in itertools.pairwise(bodies):
        first = json.dumps(json.loads(following)[0], separators=(",", ":"))
        assert len(body) + len(first) + 1 > bytes_max
