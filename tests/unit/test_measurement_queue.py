"""Measurements are packed into as few messages as hold them, each of which has an identity and a time."""

import itertools
import json
import secrets
import time
from hashlib import md5
from types import SimpleNamespace

import boto3
from botocore.awsrequest import AWSResponse
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.ingest.measurement_queue import MESSAGE_BYTES_MAX, MeasurementQueue, pack
from chalicelib.measurements import Measurement
from chalicelib.thermistor import Status
from tests.factories import MINUTE, NOW, to_ms
from tests.fakes import FakeSqs

# The id of a request, as API Gateway makes it, has 36.
CORRELATION_ID = "x" * 128


def measurement(number, sensor_id="s"):
    return Measurement(f"{sensor_id}{number}", "a", 35.0, Status.OK, NOW, 2000.0)


def test_nothing_is_no_message():
    assert list(pack([])) == []


def test_what_fits_is_one_message_and_one_byte_less_makes_two():
    measurements = [measurement(number) for number in range(10)]
    (whole,) = pack(measurements)
    assert list(pack(measurements, len(whole))) == [whole]
    assert len(list(pack(measurements, len(whole) - 1))) == 2


def test_a_message_is_at_most_256_kib_with_its_attributes():
    sqs = FakeSqs()
    queue = MeasurementQueue("queue", sqs, lambda: 99_999_999_999.9, lambda bits: 2**bits - 1, lambda: CORRELATION_ID)
    queue.send([measurement(number, "x" * 50) for number in range(3_000)])
    assert len(sqs.bodies) > 1
    largest = [sum(map(len, (name, *attribute.values()))) for one in sqs.attributes for name, attribute in one.items()]
    assert len(largest) == 3 * len(sqs.bodies)
    # Whatever the body, of which pack takes that many bytes.
    assert MESSAGE_BYTES_MAX + sum(largest[:3]) <= 262_144
    assert max(map(len, sqs.bodies)) <= MESSAGE_BYTES_MAX


def test_every_message_has_an_identity_of_its_own_and_its_time():
    sqs, times, identities = FakeSqs(), iter([NOW, NOW + MINUTE]), iter([0, 2**63 - 1])
    bits_asked = []
    queue = MeasurementQueue(
        "queue", sqs, lambda: next(times).timestamp(), lambda bits: bits_asked.append(bits) or next(identities)
    )
    queue.send([measurement(number, "x" * 50) for number in range(2_000)])
    assert [
        {name: (value["DataType"], value["StringValue"]) for name, value in one.items()} for one in sqs.attributes
    ] == [
        {"identity": ("Number", "0"), "first_queued_at_ms": ("Number", str(to_ms(NOW)))},
        {"identity": ("Number", "9223372036854775807"), "first_queued_at_ms": ("Number", str(to_ms(NOW + MINUTE)))},
    ]
    assert bits_asked == [63, 63]


def test_a_message_that_boto3_sends_again_is_the_same_message(monkeypatch):
    """Both are in the queue when the answer to the first is lost."""
    sent = []
    sqs = boto3.client("sqs", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")

    def lose_first(request, **_):
        sent.append(json.loads(request.body))
        answer = (
            b'{"MessageId": "m", "MD5OfMessageBody": "%s"}' % md5(sent[-1]["MessageBody"].encode()).hexdigest().encode()
        )
        return AWSResponse(request.url, 200 if len(sent) > 1 else 503, {}, SimpleNamespace(stream=lambda: [answer]))

    sqs.meta.events.register("before-send", lose_first)
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
    MeasurementQueue("https://queue", sqs, time.time, secrets.randbits).send([measurement(1)])
    assert len(sent) == 2
    assert sent[0] == sent[1]
    assert sent[0]["MessageAttributes"].keys() == {"identity", "first_queued_at_ms"}


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
