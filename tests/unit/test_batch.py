"""How many readings an answer to a batch is to, by their kinds."""

from chalicelib.ingest.readings import Answer, BatchAnswer, Rejection
from chalicelib.thermistor import Status
from tests.posting_service import TIME


def test_the_readings_of_a_batch_are_counted_by_their_kinds():
    good = Answer("1", "a", 35.0, Status.OK, TIME)
    critical = Answer("2", "a", 300.0, Status.TEMPERATURE_CRITICAL, TIME)
    broken = Answer("3", "a", None, Status.BROKEN, TIME)
    rejected = Rejection("readings[0].value: must be finite")
    results = [good, *[broken] * 3, *[rejected] * 4, critical]
    assert BatchAnswer.of(results) == BatchAnswer(results, accepted=2, broken=3, rejected=4)
