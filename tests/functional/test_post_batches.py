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


def test_what_is_no_batch_is_refused_as_a_whole(stage):
    assert_refused(stage.post(batch()), 400, "readings: ")


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


def test_a_batch_with_one_value_corrected_is_answered_and_queued_anew(stage):
    readings = numbered(3, timestamp=ago(minutes=1))
    stage.post(batch(*readings))
    assert stage.post(batch(*readings[:2], {**readings[2], "value": 3000})).json_body["accepted"] == 3
    assert [one["value"] for one in stage.queued()] == [2000, 2000, 2000, 2000, 2000, 3000]


def test_a_batch_of_a_hundred_known_sensors_costs_four_calls_and_a_small_record(stage, aws_calls):
    stage.post(batch(*numbered(100, timestamp=ago(minutes=1))))
    (record,) = stage.aws("dynamodb").scan(TableName=stage.resources["idempotency_table"])["Items"]
    assert len(record["data"]["S"]) < 2_000
    aws_calls.made.clear()
    stage.post(batch(*numbered(100, reading_id="again")))
    assert aws_calls.made == [
        "dynamodb:PutItem", "dynamodb:BatchGetItem", "sqs:SendMessage", "dynamodb:UpdateItem",
    ]  # fmt: skip


def test_a_reading_without_a_time_that_was_queued_before_its_request_failed_is_queued_again_under_one_time(
    stage, aws_calls
):
    for body in (posted(reading_id="r"), batch(*numbered(2))):
        aws_calls.fail("sqs:SendMessage", service_error(), had_effect=True)
        assert stage.post(body).status_code == 503
        aws_calls.heal()
        first = stage.queued()
        assert stage.post(body).status_code == 200
        assert stage.queued() == first
