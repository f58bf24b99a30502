"""A batch: what its readings are checked for, and what its answer counts."""

import pytest

from chalicelib.errors import ValidationError
from chalicelib.fields import format_time
from chalicelib.ingest.readings import Answer, BatchAnswer, Delivery, PostedBatch, Rejection, parse_deliveries
from chalicelib.thermistor import Status
from chalicelib.validation import convert
from tests.factories import DAY, NOW, posted
from tests.posting_service import TIME


def new_delivery(content, may_post=lambda _: True):
    return Delivery(content, may_post)


def test_the_readings_of_a_batch_are_counted_by_their_kinds():
    good = Answer("1", "a", 35.0, Status.OK, TIME)
    critical = Answer("2", "a", 300.0, Status.TEMPERATURE_CRITICAL, TIME)
    broken = Answer("3", "a", None, Status.BROKEN, TIME)
    rejected = Rejection("readings[0].value: must be finite")
    results = [good, *[broken] * 3, *[rejected] * 4, critical]
    assert BatchAnswer.of(results) == BatchAnswer(results, accepted=2, broken=3, rejected=4)


def test_each_item_of_a_batch_is_checked_by_itself():
    items = [posted(), 5, {**posted(), "value": "x"}, posted(timestamp=format_time(NOW - 2 * DAY)), posted(sensor_id=2)]
    checked = parse_deliveries([new_delivery(item) for item in items], NOW, DAY)
    assert [one.error if isinstance(one, Rejection) else one.sensor_id for one in checked] == [
        "1",
        "readings[1]: Expected `object`, got `int`",
        "readings[2].value: Expected `float`, got `str`",
        "readings[3].timestamp: more than 24 hours old",
        "2",
    ]


@pytest.mark.parametrize("count", [0, 501])
def test_a_batch_of_too_few_or_too_many_is_refused_as_a_whole(count):
    with pytest.raises(ValidationError, match=r"^readings: "):
        convert({"readings": [posted()] * count}, PostedBatch)
    assert len(convert({"readings": [posted()] * 500}, PostedBatch).readings) == 500


def test_each_reading_of_a_batch_may_be_of_the_locations_of_its_own_sender():
    of_a, of_b = (new_delivery(posted(location_id=location), location.__eq__) for location in "ab")
    intruder = new_delivery(posted(location_id="b"), "a".__eq__)
    checked = parse_deliveries([of_a, intruder, of_b], NOW, DAY)
    assert [one.error if isinstance(one, Rejection) else one.location_id for one in checked] == [
        "a",
        "readings[1].location_id: the token is not for this location",
        "b",
    ]
