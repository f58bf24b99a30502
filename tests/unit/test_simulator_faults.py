"""Faults of sensors: laws of what is sent, when and how often, and what the API makes of malformed readings."""

import itertools
import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from chalicelib.errors import ValidationError
from chalicelib.ingest import readings as ingest
from chalicelib.validation import decode_body
from simulator.config import FaultsConfig, FleetConfig, SimulatorConfig, TimerConfig
from simulator.faults import LATE_US, MALFORMATIONS, REPEAT_AFTER_MAX, PlannedReading, add_faults
from simulator.messages import Delivery, encode_one
from tests.planned_fleet import planned_fleet

MANY = 20_000


@st.composite
def faults(draw):
    shares = st.sampled_from([0.0, 0.1, 0.5, 1.0])
    return FaultsConfig(draw(shares), draw(shares), draw(shares), draw(st.sampled_from([0.0, 0.1, 0.5])))


def measured(count):
    return [PlannedReading("1", "1", float(n), due_us=10 * n, measured_us=10 * n) for n in range(count)]


def sent(config, count=30, seed=1):
    return list(add_faults(measured(count), config, random.Random(seed)))


def originals(readings):
    return [reading for reading in readings if not reading.is_repeat]


@given(config=faults(), count=st.integers(0, 30), seed=st.integers())
def test_every_reading_is_sent_once_and_repeated_at_most_once(config, count, seed):
    readings = sent(config, count, seed)
    assert sorted(one.measured_us for one in originals(readings)) == [one.measured_us for one in measured(count)]
    repeats = Counter(one.measured_us for one in readings if one.is_repeat)
    assert set(repeats.values()) <= {1}
    assert set(repeats) == {one.measured_us for one in originals(readings) if one.repeat_after is not None}


@given(config=faults(), seed=st.integers())
def test_nothing_is_due_before_what_goes_ahead_of_it_or_before_it_was_measured(config, seed):
    readings = sent(config, seed=seed)
    assert all(one.due_us <= next_one.due_us for one, next_one in itertools.pairwise(readings))
    assert all(one.measured_us <= one.due_us for one in readings)


@given(config=faults(), seed=st.integers())
def test_a_repeat_is_the_same_reading_soon_after_the_first_one(config, seed):
    readings = sent(config, seed=seed)
    for index, repeat in enumerate(readings):
        if repeat.is_repeat:
            first = next(n for n, one in enumerate(readings) if one.measured_us == repeat.measured_us)
            same = structs.replace(readings[first], due_us=repeat.due_us, repeat_after=None, is_repeat=True)
            assert repeat == same
            later = originals(readings[first + 1 : index])
            assert len(later) <= REPEAT_AFTER_MAX


@given(config=faults(), seed=st.integers())
def test_exactly_the_readings_held_back_go_after_a_later_one(config, seed):
    order = originals(sent(config, seed=seed))
    for index, reading in enumerate(order):
        overtaken = any(earlier.measured_us > reading.measured_us for earlier in order[:index])
        assert overtaken == reading.is_held_back


def test_faults_come_as_often_as_configured():
    config = FaultsConfig(duplicate_rate=0.1, malformed_rate=0.2, late_rate=0.3, out_of_order_rate=0.4)
    readings = sent(config, MANY)
    first = originals(readings)
    shares = [
        (len(readings) - MANY) / MANY,
        sum(one.malformation is not None for one in first) / MANY,
        sum(one.backdated_us > 0 for one in first) / MANY,
        sum(one.is_held_back for one in first) / MANY,
    ]
    assert shares == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.02)


def test_every_kind_of_malformed_reading_comes_up():
    assert {one.malformation for one in sent(FaultsConfig(malformed_rate=1), 1_000)} == set(MALFORMATIONS)


def test_late_readings_are_as_late_as_any_stage_accepts():
    lateness = [one.backdated_us for one in sent(FaultsConfig(late_rate=1), 1_000)]
    assert LATE_US[0] <= min(lateness)
    assert max(lateness) <= LATE_US[1] < 3_600_000_000


def test_faults_change_nothing_that_a_sensor_measures():
    config = SimulatorConfig(meta=FleetConfig(locations=2, sensors=3), timer=TimerConfig(total_runtime_seconds=60))
    faulty = structs.replace(config, faults=FaultsConfig(0.3, 0.3, 0.3, 0.3))
    for plan, faulty_plan in zip(planned_fleet(config, 5), planned_fleet(faulty, 5), strict=True):
        values = [(one.sensor_id, one.measured_us, one.resistance_ohm) for one in plan]
        sent_once = originals(faulty_plan)
        assert sorted((one.sensor_id, one.measured_us, one.resistance_ohm) for one in sent_once) == sorted(values)


def test_the_same_seed_has_the_same_faults():
    config = SimulatorConfig(faults=FaultsConfig(0.3, 0.3, 0.3, 0.3), meta=FleetConfig(locations=1, sensors=5))
    assert [list(plan) for plan in planned_fleet(config, 5)] == [list(plan) for plan in planned_fleet(config, 5)]


@pytest.mark.parametrize("malformation", MALFORMATIONS, ids=str)
def test_a_malformed_reading_breaks_the_contract_in_the_field_it_names(malformation):
    now = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    planned = structs.replace(measured(1)[0], malformation=malformation)
    body = encode_one(Delivery(planned, "2026-03-01T12:00:00.000Z"))
    with pytest.raises(ValidationError, match=f"^{malformation.field}: "):
        ingest.parse_reading(ingest.Delivery(decode_body(body), lambda _: True), now, timedelta(hours=24))


def test_a_reading_without_fault_is_sent_as_planned():
    body = encode_one(Delivery(measured(3)[2], "2026-03-01T12:00:00.020Z"))
    assert json.loads(body) == {
        "sensor_id": "1", "location_id": "1", "value": 2.0, "timestamp": "2026-03-01T12:00:00.020Z",
    }  # fmt: skip
