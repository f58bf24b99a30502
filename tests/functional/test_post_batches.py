"""POST /readings with a batch through the real app: results, effects, and what they cost."""

import json
import math

from tests.factories import posted
from tests.fakes import service_error
from tests.functional.test_post_readings import ago, assert_refused


def batch(*readings):
    return {"readings": list(readings)}


def numbered(count, **fields):
    return [posted(**{"sensor_id": number, "reading_id": f"r{number}", **fields}) for number in range(count)]


def test_results_come_in_order_with_their_counts(stage):
    response = stage.post(batch(posted(value=2000, timestamp=ago(minutes=1)), posted(value="x"), posted(value=25_000)))
    assert response.status_code == 200
    good, refused, broken = response.json_body["results"]
    assert (good["status"], good["location_id"]) == ("OK", "a")
    assert math.isclose(good["temperature"], 35.027047412120, abs_tol=1e-9)
    assert refused == {"error": "readings[1].value: Expected `float`, got `str`"}
    assert (broken["status"], broken["temperature"]) == ("BROKEN", None)
    assert {name: response.json_body[name] for name in ("accepted", "broken", "rejected")} == {
        "accepted": 1, "broken": 1, "rejected": 1,
    }  # fmt: skip


def test_a_reading_in_a_batch_is_answered_and_queued_as_it_is_alone(stage):
    reading = posted(sensor_id="s:1", location_id=7, value=1234.5, timestamp=ago(minutes=1))
    alone = stage.post(reading).json_body
    (queued,) = stage.queued()
    assert stage.post(batch(reading, posted())).json_body["results"][0] == alone
    assert queued in stage.queued()


def test_a_batch_of_one_reading_is_the_same_request_as_the_reading_alone(stage):
    alone = stage.post(posted(reading_id="r")).json_body
    assert stage.post(batch(posted(reading_id="r"))).json_body["results"] == [alone]
    assert len(stage.queued()) == 1


def test_a_reading_known_by_its_id_keeps_the_time_of_its_first_delivery(stage):
    first, second = (batch(posted(reading_id="r", timestamp=ago(minutes=age)), posted(sensor_id=2)) for age in (2, 1))
    answer = stage.post(first).json_body
    assert stage.post(second).json_body == answer


BAD_ITEMS = [
    (5, ": Expected `object`"),
    ({}, ".sensor_id: required, but missing"),
    (posted(volume=1), ".volume: unknown field"),
    (posted(value=math.nan), ".value: must be finite"),
    (posted(timestamp="2000-01-01T00:00:00Z"), ".timestamp: more than 24 hours old"),
    (posted(sensor_id="a b"), ".sensor_id: "),
]


def test_a_bad_reading_is_told_by_its_place_and_fails_no_neighbour(stage):
    response = stage.post(batch(posted(), *(item for item, _ in BAD_ITEMS), posted(sensor_id=2)))
    first, *bad, last = response.json_body["results"]
    for place, (result, (_, reason)) in enumerate(zip(bad, BAD_ITEMS, strict=True), start=1):
        assert result["error"].startswith(f"readings[{place}]{reason}")
    assert (first["status"], last["status"]) == ("OK", "OK")
    assert len(stage.queued()) == 2


NO_BATCHES = {
    "empty": (batch(), "readings: "),
    "too many": (batch(*numbered(501)), "readings: "),
    "an object": ({"readings": {}}, "readings: "),
    "null": ({"readings": None}, "readings: "),
    "more": ({"readings": [posted()], "more": 1}, "more: unknown field"),
    "a reading too": ({"readings": [posted()], "sensor_id": 1}, "sensor_id: unknown field"),
}


def test_what_is_no_batch_is_refused_as_a_whole(stage, subtests):
    for name, (body, reason) in NO_BATCHES.items():
        with subtests.test(name):
            assert_refused(stage.post(body), 400, reason)
            assert stage.queued() == []


def test_five_hundred_of_the_longest_readings_are_one_message(stage):
    longest = [
        # Of a few sensors, since moto takes seconds to register hundreds.
        posted(
            sensor_id=f"{number % 5:064}", location_id="x" * 64, value=1234.567890123456, timestamp=ago(seconds=number)
        )
        for number in range(500)
    ]
    answer = stage.post(batch(*longest)).json_body
    assert answer["accepted"] == 500
    (message,) = stage.aws("sqs").receive_message(QueueUrl=stage.resources["queue_url"], MaxNumberOfMessages=10)[
        "Messages"
    ]
    assert len(json.loads(message["Body"])) == 500
    assert len(message["Body"]) <= 256 * 1024


def test_the_same_batch_twice_is_one_effect_and_one_answer(stage, aws_calls):
    one = batch(*numbered(3), posted(sensor_id=9, value=2001), posted(value="x"))
    first = stage.post(one)
    aws_calls.made.clear()
    again = stage.post(one)
    assert again.body == first.body
    assert aws_calls.made == ["dynamodb:PutItem"]
    assert len(stage.queued()) == 4


def test_a_batch_of_which_the_sensor_broke_since_is_answered_as_it_was(stage):
    one = batch(posted(timestamp=ago(minutes=1)))
    first = stage.post(one)
    stage.post(posted(value=25_000))
    assert stage.post(one).body == first.body


def test_the_same_batch_with_other_values_is_a_conflict(stage):
    stage.post(batch(*numbered(2)))
    assert_refused(stage.post(batch(*numbered(2, value=3000))), 409, "another value")
    assert len(stage.queued()) == 2


def test_batches_that_overlap_are_queued_under_the_same_times(stage):
    times = [ago(minutes=minute) for minute in range(1, 4)]
    stage.post(batch(*(posted(timestamp=time) for time in times[:2])))
    stage.post(batch(*(posted(timestamp=time) for time in times[1:])))
    queued = [measurement["timestamp"] for measurement in stage.queued()]
    assert sorted(queued) == sorted([times[0], times[1], times[1], times[2]])


def test_equal_readings_without_a_time_stay_two(stage):
    answer = stage.post(batch(posted(), posted(), posted(value=2001))).json_body
    assert answer["accepted"] == 3
    assert len({result["timestamp"] for result in answer["results"]}) == 3
    assert len({measurement["timestamp"] for measurement in stage.queued()}) == 3


def test_a_batch_of_a_hundred_known_sensors_costs_four_calls(stage, aws_calls):
    stage.post(batch(*numbered(100)))
    aws_calls.made.clear()
    stage.post(batch(*numbered(100, reading_id="again")))
    assert aws_calls.made == [
        "dynamodb:PutItem", "dynamodb:BatchGetItem", "sqs:SendMessage", "dynamodb:UpdateItem",
    ]  # fmt: skip


def test_what_is_remembered_of_a_batch_of_a_hundred_is_small(stage):
    stage.post(batch(*numbered(100, timestamp=ago(minutes=1))))
    (record,) = stage.aws("dynamodb").scan(TableName=stage.resources["idempotency_table"])["Items"]
    assert len(record["data"]["S"]) < 2_000


def test_a_reading_without_a_time_that_was_queued_before_its_request_failed_is_queued_again_under_one_time(
    stage, monkeypatch
):
    from chalicelib.ingest.measurement_queue import MeasurementQueue

    send = MeasurementQueue.send

    def send_and_fail(queue, measurements):
        send(queue, measurements)
        raise service_error()

    for body in (posted(reading_id="r"), batch(*numbered(2))):
        with monkeypatch.context() as failing:
            failing.setattr(MeasurementQueue, "send", send_and_fail)
            assert stage.post(body).status_code == 503
        first = stage.queued()
        answer = stage.post(body)
        assert answer.status_code == 200
        assert stage.queued() == first
