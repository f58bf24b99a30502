"""What is remembered of an attempt at readings."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.ingest.readings import BATCH_READINGS_MAX, Answer
from chalicelib.ingest.records import pack, unpack
from chalicelib.ingest.registration import Refused
from chalicelib.thermistor import Status
from tests.factories import reading
from tests.posting_service import TIME

ITEM_BYTES_MAX = 400 * 1024


def answer_to(one, temperature=35.0, status=Status.OK):
    return Answer(one.sensor_id, one.location_id, temperature, status, one.timestamp or TIME)


READINGS = st.builds(
    reading, sensor_id=st.text("ab:", min_size=1), timestamp=st.sampled_from([None, TIME]), location_id=st.just("a")
)


@given(st.lists(READINGS), st.floats(-50, 500))
def test_answers_are_read_as_they_were_written(readings, temperature):
    answers = [answer_to(one, temperature) for one in readings]
    answers += [answer_to(one, None, Status.BROKEN) for one in readings]
    answers += [Refused("sensor_id: no more than 5") for _ in readings]
    assert unpack(readings * 3, pack(readings * 3, answers)) == answers


def test_the_answers_to_the_largest_batch_fit_a_record_many_times():
    readings = [reading(sensor_id=f"{number:064}") for number in range(BATCH_READINGS_MAX)]
    answers = [answer_to(one, number / 7) for number, one in enumerate(readings)]
    assert len(msgspec.json.encode(pack(readings, answers))) < ITEM_BYTES_MAX / 20


def test_a_time_that_the_reading_tells_is_not_remembered_again():
    own_time = pack([reading(timestamp=TIME)], [answer_to(reading())])
    server_time = pack([reading()], [answer_to(reading())])
    assert len(own_time["answers"]) < len(server_time["answers"])


def test_answers_to_other_readings_are_not_taken_for_these():
    readings = [reading(), reading()]
    packed = pack(readings, [answer_to(one) for one in readings])
    with pytest.raises(ValueError, match="zip"):
        unpack(readings[:1], packed)
    with pytest.raises(ValueError, match="zip"):
        pack(readings, [answer_to(readings[0])])
