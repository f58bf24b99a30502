"""How the answers of a batch are remembered."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.batch import pack_answers, tally_of, unpack_answers
from chalicelib.readings import BATCH_READINGS_MAX, Answer
from chalicelib.thermistor import Status
from tests.factories import NOW, reading

ITEM_BYTES_MAX = 400 * 1024


def answer_to(one, temperature=35.0, status=Status.OK):
    return Answer(one.sensor_id, one.location_id, temperature, status, one.timestamp or NOW)


READINGS = st.builds(
    reading, sensor_id=st.text("ab:", min_size=1), timestamp=st.sampled_from([None, NOW]), location_id=st.just("a")
)


@given(st.lists(READINGS), st.floats(-50, 500))
def test_answers_are_read_as_they_were_written(readings, temperature):
    answers = [answer_to(one, temperature) for one in readings]
    answers += [answer_to(one, None, Status.BROKEN) for one in readings]
    assert unpack_answers(readings * 2, pack_answers(readings * 2, answers)) == answers


def test_the_answers_to_the_largest_batch_fit_a_record_many_times():
    readings = [reading(sensor_id=f"{number:064}") for number in range(BATCH_READINGS_MAX)]
    answers = [answer_to(one, number / 7) for number, one in enumerate(readings)]
    assert len(msgspec.json.encode(pack_answers(readings, answers))) < ITEM_BYTES_MAX / 20


def test_a_time_that_the_reading_tells_is_not_remembered_again():
    own_time = pack_answers([reading(timestamp=NOW)], [answer_to(reading())])
    server_time = pack_answers([reading()], [answer_to(reading())])
    assert len(own_time["answers"]) < len(server_time["answers"])


def test_answers_to_other_readings_are_not_taken_for_these():
    readings = [reading(), reading()]
    packed = pack_answers(readings, [answer_to(one) for one in readings])
    with pytest.raises(ValueError, match="zip"):
        unpack_answers(readings[:1], packed)
    with pytest.raises(ValueError, match="zip"):
        pack_answers(readings, [answer_to(readings[0])])


TALLIES = {
    "a good reading": ({"status": "OK"}, (1, 0, 0)),
    "a broken one": ({"status": "BROKEN"}, (0, 1, 0)),
    "a batch": ({"results": [{}] * 9, "accepted": 2, "broken": 3, "rejected": 4}, (2, 3, 4)),
}


@pytest.mark.parametrize(("answer", "fates"), TALLIES.values(), ids=TALLIES)
def test_the_fates_of_readings_are_counted_from_their_answer(answer, fates):
    assert tally_of(answer) == dict(zip(("accepted", "broken", "rejected"), fates, strict=True))
