"""The check of answers: a right API is never blamed, whatever fails and repeats, and a wrong answer always is."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from chalicelib.thermistor import Status
from simulator.checker import Checker
from simulator.config import FaultsConfig
from simulator.faults import Malformation, PlannedReading, add_faults
from simulator.messages import Answer, Delivery, Exchange
from tests.factories import SETTINGS

CURVES = {name: type_.thermistor for name, type_ in SETTINGS.thermistors.items()}
THERMISTOR, LIMITS = CURVES["default"], SETTINGS.status_below_celsius
TIMESTAMP = "2026-03-01T12:00:00.001Z"
GOOD_OHM, BAD_OHM = 2_000.0, 25_000.0
NO_VALUE = Malformation("value", "warm")
SHARES = st.sampled_from([0.0, 0.3])
FAULTS = st.builds(FaultsConfig, SHARES, SHARES, SHARES, SHARES)
FAULTS_BUT_DUPLICATES = st.builds(FaultsConfig, st.just(0.0), SHARES, SHARES, SHARES)


class RightApi:
    """Latches, and gives the same request the same answer; a request that fails may still have its effect, later."""

    def __init__(self, broken=()):
        self._broken = set(broken)
        self._answers = {}
        self._late_effects = []

    def post(self, deliveries, failure=None):
        if failure is not None:
            self._late_effects.append(deliveries)
            status = {"status": 503, "timeout": None}[failure]
            return [Exchange(delivery=one, http_status=status, error="failed") for one in deliveries]
        answers = self._take(deliveries)
        return [
            Exchange(
                delivery=one,
                http_status=200,
                answer=answers.get(identity(one)) if is_good(one) else None,
                rejection=None if is_good(one) else f"readings[3].{one.planned.malformation.field}: no",
            )
            for one in deliveries
        ]

    def finish_late(self):
        """Let what failed take effect after all."""
        for deliveries in self._late_effects:
            self._take(deliveries)
        self._late_effects.clear()

    def _take(self, deliveries):
        good = [one for one in deliveries if is_good(one)]
        key = tuple(map(identity, good))
        if key not in self._answers:
            self._answers[key] = {identity(one): self._answer(one) for one in good}
        return self._answers[key]

    def _answer(self, delivery):
        planned = delivery.planned
        curve = CURVES[planned.thermistor]
        if not curve.accepts(planned.resistance_ohm):
            self._broken.add(identity(delivery)[0])
        if identity(delivery)[0] in self._broken:
            return answer_of(planned, Status.BROKEN, None)
        temperature = curve.temperature_celsius(planned.resistance_ohm)
        return answer_of(planned, LIMITS.status_of(temperature), temperature)


def identity(delivery):
    planned = delivery.planned
    return (planned.location_id, planned.sensor_id), planned.measured_us


def is_good(delivery):
    return delivery.planned.malformation is None


def answer_of(planned, status, temperature):
    return Answer(planned.sensor_id, planned.location_id, temperature, status, TIMESTAMP)


def planned(ohm=GOOD_OHM, number=0, **more):
    return PlannedReading("1", "1", ohm, due_us=number, measured_us=number, **more)


def exchange(status=None, http_status=200, more=None, **plan):
    """Return a reading and its right answer, or one with another status, or none."""
    reading = planned(**plan)
    temperature = THERMISTOR.temperature_celsius(GOOD_OHM)
    answers = {
        None: None,
        Status.OK: answer_of(reading, Status.OK, temperature),
        Status.BROKEN: answer_of(reading, Status.BROKEN, None),
    }
    return Exchange(
        delivery=Delivery(reading, TIMESTAMP), http_status=http_status, answer=answers[status], **(more or {})
    )


def mismatches(*exchanges, sensors_are_new=True):
    """Check exchanges of one request each, and tell for each whether it is a mismatch."""
    checker = Checker(CURVES, LIMITS, sensors_are_new=sensors_are_new)
    return [checker.check([one])[0].mismatch is not None for one in exchanges]


@st.composite
def requests(draw, faulty=FAULTS):
    """Draw what several sensors send, one request after the other, each with a reading of some of the sensors."""
    source = random.Random(draw(st.integers()))
    ohms = draw(st.lists(st.sampled_from([GOOD_OHM, 50.0, 15_000.0, BAD_OHM]), max_size=12))
    faults = draw(faulty)
    plans = []
    for sensor in range(draw(st.integers(1, 4))):
        readings = [
            structs.replace(
                planned(ohm, number),
                sensor_id=str(sensor // 2),
                location_id=str(sensor % 2),
                thermistor=["default", "ntc-10k"][sensor % 2],
            )
            for number, ohm in enumerate(source.sample(ohms, len(ohms)))
        ]
        plans.append(list(add_faults(readings, faults, source)))
    size = draw(st.integers(1, 4))
    sent = []
    while any(plans):
        chosen = source.sample([plan for plan in plans if plan], min(size, sum(map(bool, plans))))
        sent.append([Delivery(plan.pop(0), TIMESTAMP) for plan in chosen])
    return sent


@given(sent=requests(), source=st.randoms(use_true_random=False), failure_rate=st.sampled_from([0.0, 0.2]))
def test_a_right_api_is_never_blamed(sent, source, failure_rate):
    api = RightApi(broken={("0", "0")})
    checker = Checker(CURVES, LIMITS, sensors_are_new=False)
    for deliveries in sent:
        if source.random() < 0.3:
            api.finish_late()
        failure = source.choice(["status", "timeout"]) if source.random() < failure_rate else None
        verdicts = checker.check(api.post(deliveries, failure))
        assert [verdict.mismatch for verdict in verdicts] == [None] * len(deliveries)


@given(sent=requests(FAULTS_BUT_DUPLICATES), source=st.randoms(use_true_random=False))
def test_one_wrong_answer_is_one_mismatch(sent, source):
    api, checker = RightApi(), Checker(CURVES, LIMITS, sensors_are_new=True)
    for deliveries in sent:
        exchanges = api.post(deliveries)
        index = source.randrange(len(exchanges))
        right = exchanges[index]
        exchanges[index] = structs.replace(right, answer=wrong_answer(right, source), rejection=None)
        found = [verdict.mismatch is not None for verdict in checker.check(exchanges)]
        assert found == [n == index for n in range(len(exchanges))]


def wrong_answer(right, source):
    if right.answer is None:
        return answer_of(right.delivery.planned, Status.OK, 20.0)
    changes = [
        {"sensor_id": "other"},
        {"location_id": "other"},
        {"timestamp": "2026-03-01T12:00:00.002Z"},
        {"timestamp": "noon"},
        {"status": Status.TEMPERATURE_CRITICAL},
        {"temperature": 12.0 if right.answer.temperature is None else right.answer.temperature + 2e-9},
    ]
    return structs.replace(right.answer, **source.choice(changes))


def test_the_same_time_written_otherwise_is_right():
    right = exchange(Status.OK)
    assert mismatches(
        structs.replace(right, answer=structs.replace(right.answer, timestamp="2026-03-01T13:00:00.001+01:00"))
    ) == [False]


def test_a_working_sensor_called_broken_is_a_mismatch_and_so_is_every_later_one():
    assert mismatches(exchange(Status.OK), *(exchange(Status.BROKEN, number=n) for n in (1, 2))) == [False, True, True]


def test_a_broken_sensor_that_works_again_is_a_mismatch():
    assert mismatches(exchange(Status.BROKEN, ohm=BAD_OHM), exchange(Status.OK, number=1)) == [False, True]


def test_a_sensor_may_be_broken_from_the_start_unless_it_is_new():
    assert mismatches(exchange(Status.BROKEN), sensors_are_new=False) == [False]
    assert mismatches(exchange(Status.BROKEN), sensors_are_new=True) == [True]


def test_sensors_that_were_broken_from_the_start_are_counted():
    checker = Checker(CURVES, LIMITS, sensors_are_new=False)
    for number in range(3):
        checker.check([exchange(Status.BROKEN, number=number)])
    assert checker.broken_before == 1


def test_a_repeat_in_the_same_request_is_a_replay_that_must_be_answered_as_before():
    checker = Checker(CURVES, LIMITS, sensors_are_new=True)
    checker.check([exchange(Status.OK, repeat_after=1)])
    checker.check([exchange(Status.BROKEN, ohm=BAD_OHM, number=1)])
    (verdict,) = checker.check([exchange(Status.OK, is_repeat=True)])
    assert verdict.is_replay
    assert verdict.mismatch is None


def test_a_replay_that_tells_of_the_present_is_a_mismatch():
    assert mismatches(
        exchange(Status.OK, repeat_after=1),
        exchange(Status.BROKEN, ohm=BAD_OHM, number=1),
        exchange(Status.BROKEN, is_repeat=True),
    ) == [False, False, True]


@pytest.mark.parametrize("status", [Status.OK, Status.BROKEN])
def test_a_repeat_in_another_batch_is_accepted_again_and_may_tell_of_the_past_or_the_present(status):
    checker = Checker(CURVES, LIMITS, sensors_are_new=True)
    checker.check([exchange(Status.OK, repeat_after=1)])
    checker.check([exchange(Status.BROKEN, ohm=BAD_OHM, number=1)])
    other = structs.replace(planned(), sensor_id="2")
    neighbour = Exchange(delivery=Delivery(other, TIMESTAMP), http_status=503)
    verdict, _ = checker.check([exchange(status, is_repeat=True), neighbour])
    assert not verdict.is_replay
    assert verdict.mismatch is None


def test_a_repeat_whose_original_was_not_answered_is_no_replay():
    checker = Checker(CURVES, LIMITS, sensors_are_new=True)
    checker.check([exchange(http_status=503, repeat_after=0)])
    assert not checker.check([exchange(Status.OK, is_repeat=True)])[0].is_replay


@pytest.mark.parametrize("http_status", [None, 401, 403, 404, 429, 500, 502, 503, 504])
def test_what_says_nothing_of_the_reading_is_no_mismatch(http_status):
    assert mismatches(exchange(http_status=http_status)) == [False]
    assert mismatches(exchange(http_status=http_status, malformation=NO_VALUE)) == [False]


@pytest.mark.parametrize(("http_status", "more"), [(400, {"rejection": "value: no"}), (409, {}), (413, {}), (200, {})])
def test_a_good_reading_that_is_refused_or_gets_no_readable_answer_is_a_mismatch(http_status, more):
    assert mismatches(exchange(http_status=http_status, more=more)) == [True]


def test_a_conflict_with_an_attempt_that_nobody_saw_answered_is_no_mismatch():
    assert mismatches(exchange(http_status=409, more={"was_retried": True})) == [False]
    assert mismatches(exchange(http_status=503, repeat_after=0), exchange(http_status=409, is_repeat=True)) == [
        False,
        False,
    ]


@pytest.mark.parametrize("rejection", ["sensor_id: no", "body: not valid JSON", "no", ""])
def test_a_rejection_that_does_not_name_the_field_is_a_mismatch(rejection):
    assert mismatches(exchange(http_status=400, more={"rejection": rejection}, malformation=NO_VALUE)) == [True]


def test_a_temperature_by_the_curve_of_another_type_is_a_mismatch():
    by_default_curve = exchange(Status.OK)
    assert mismatches(by_default_curve) == [False]
    of_other_type = structs.replace(by_default_curve.delivery.planned, thermistor="ntc-10k")
    assert mismatches(structs.replace(by_default_curve, delivery=Delivery(of_other_type, TIMESTAMP))) == [True]


def test_a_resistance_that_only_another_type_accepts_breaks_the_sensor():
    assert mismatches(exchange(Status.BROKEN, ohm=BAD_OHM)) == [False]
    assert mismatches(exchange(Status.BROKEN, ohm=BAD_OHM, thermistor="ntc-10k")) == [True]


def test_a_sensor_of_another_location_with_the_same_number_is_another_sensor():
    elsewhere = exchange(Status.OK, number=1)
    planned_there = structs.replace(elsewhere.delivery.planned, location_id="2")
    answer_there = structs.replace(elsewhere.answer, location_id="2")
    there = structs.replace(elsewhere, delivery=Delivery(planned_there, TIMESTAMP), answer=answer_there)
    assert mismatches(exchange(Status.BROKEN, ohm=BAD_OHM), there) == [False, False]


def test_a_mismatch_tells_what_was_sent_expected_and_answered():
    checker = Checker(CURVES, LIMITS, sensors_are_new=True)
    mismatch = checker.check([exchange(Status.BROKEN)])[0].mismatch
    assert '"value":2000.0' in mismatch.sent
    assert mismatch.expected.startswith("OK 35.027")
    assert mismatch.answered.startswith("HTTP 200 ")
    assert '"status":"BROKEN"' in mismatch.answered
