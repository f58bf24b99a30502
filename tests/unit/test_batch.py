"""How many readings an answer is to, by their kinds."""

import pytest

from chalicelib.ingest.readings import Answer, BatchAnswer, ReadingCounts, Rejection
from chalicelib.thermistor import Status
from tests.factories import NOW

OK = Answer("1", "a", 35.0, Status.OK, NOW)
CRITICAL = Answer("2", "a", 300.0, Status.TEMPERATURE_CRITICAL, NOW)
BROKEN = Answer("3", "a", None, Status.BROKEN, NOW)
REJECTED = Rejection("readings[0].value: must be finite")
COUNTS = {
    "a good reading": (OK, ReadingCounts(accepted=1)),
    "an unexpected one": (CRITICAL, ReadingCounts(accepted=1)),
    "a broken one": (BROKEN, ReadingCounts(broken=1)),
    "a batch": (
        BatchAnswer.of([OK, *[BROKEN] * 3, *[REJECTED] * 4, CRITICAL]),
        ReadingCounts(accepted=2, broken=3, rejected=4),
    ),
}


@pytest.mark.parametrize(("answer", "counts"), COUNTS.values(), ids=COUNTS)
def test_readings_are_counted_by_their_kinds(answer, counts):
    assert answer.counts == counts
