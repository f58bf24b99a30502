"""How many readings an answer to a batch is to, by their kinds."""

from chalicelib.ingest.readings import Answer, BatchAnswer, Rejection
from chalicelib.thermistor import Status
from tests.factories import NOW


def test_the_readings_of_a_batch_are_counted_by_their_kinds():
    good = Answer("1", "a", 35.0, Status.OK, NOW)
    critical = Answer("2", "a", 300.0, Status.TEMPERATURE_CRITICAL, NOW)
    broken = Answer("3", "a", None, Status.BROKEN, NOW)
    rejected = Rejection("readings[0].value: must be finite")
    results = [good, *[broken] * 3, *[rejected] * 4, critical]
    assert BatchAnswer.of(results) == BatchAnswer(results, accepted=2, broken=3, rejected=4)
