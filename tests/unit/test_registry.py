"""The latch: the registry's contract on the fake, and what it costs and survives."""

import contextlib

import pytest
from botocore.exceptions import ClientError

from chalicelib.broken_count import BrokenCount
from chalicelib.errors import ServiceUnavailableError
from chalicelib.ingest.sensors import Sensor
from chalicelib.ingest.transactions import WAITS_SECONDS_MAX, Transactions
from tests.contracts import LEDGER_TABLE, REGISTRY_TABLE, RegistryContract, is_broken, new_registry, tallies
from tests.fakes import FakeDynamoDb, service_error

TABLES = {REGISTRY_TABLE: "sensor_id", LEDGER_TABLE: "id"}


@pytest.fixture
def dynamodb():
    return FakeDynamoDb(TABLES)


class TestRegistryOnTheFake(RegistryContract):
    """The contract, in memory."""


def test_a_known_working_sensor_costs_one_call(dynamodb):
    registry = new_registry(dynamodb)
    is_broken(registry, "a/s")
    assert dynamodb.calls == ["get_item", "transact_write_items"]
    dynamodb.calls.clear()
    is_broken(registry, "a/s")
    assert dynamodb.calls == ["get_item"]


def test_a_sensor_known_to_be_broken_costs_no_call(dynamodb):
    registry = new_registry(dynamodb)
    registry.latch_all(["a/s"])
    other_process = new_registry(dynamodb)
    is_broken(other_process, "a/s")
    dynamodb.calls.clear()
    for process in (registry, other_process):
        assert is_broken(process, "a/s") is True
        process.latch_all(["a/s"])
    assert dynamodb.calls == []


def test_a_latch_that_another_process_was_first_with_is_remembered_as_done(dynamodb):
    registry = new_registry(dynamodb)
    new_registry(dynamodb).latch_all(["a/s"])
    registry.latch_all(["a/s"])
    dynamodb.calls.clear()
    assert is_broken(registry, "a/s") is True
    assert dynamodb.calls == []


def test_a_latch_that_failed_is_not_remembered_as_done(dynamodb):
    registry = new_registry(dynamodb)
    dynamodb.failing["transact_write_items"] = service_error()
    with pytest.raises(ClientError):
        registry.latch_all(["a/s"])
    dynamodb.failing.clear()
    assert is_broken(registry, "a/s") is False
    registry.latch_all(["a/s"])
    assert is_broken(new_registry(dynamodb), "a/s") is True


def test_a_latch_whose_answer_was_lost_is_counted_once(dynamodb, monkeypatch):
    registry, write = new_registry(dynamodb), dynamodb.transact_write_items

    def lose_the_answer(**transaction):
        write(**transaction)
        raise service_error()

    with monkeypatch.context() as patched:
        patched.setattr(dynamodb, "transact_write_items", lose_the_answer)
        with pytest.raises(ClientError):
            registry.latch_all(["a/s"])
    registry.latch_all(["a/s"])
    assert registry.find("a/s").broken
    assert tallies(dynamodb).broken_sensors == 1


def test_latches_that_meet_on_a_counter_are_tried_again_after_waits(dynamodb):
    waits = []
    dynamodb.conflicts = 2
    new_registry(dynamodb, sleep=waits.append).latch_all(["a/s"])
    assert len(waits) == 2
    assert tallies(dynamodb).broken_sensors == 1


def test_a_latch_that_meets_others_again_and_again_fails_and_has_no_effect(dynamodb):
    waits = []
    dynamodb.conflicts = 100
    registry = new_registry(dynamodb, sleep=waits.append)
    with pytest.raises(ClientError, match="TransactionCanceled"):
        registry.latch_all(["a/s"])
    assert 0 < sum(waits) < 2
    assert registry.find("a/s") is None


def test_sensors_latched_one_by_one_are_counted_over_many_counters(dynamodb):
    registry = new_registry(dynamodb)
    for number in range(300):
        registry.latch_all([f"a/{number}"])
    assert tallies(dynamodb).broken_sensors == 300
    assert len(dynamodb.tables[LEDGER_TABLE]) == 16
    assert dynamodb.calls.count("batch_get_item") == 1


def test_hundreds_of_sensors_are_latched_and_counted_together(dynamodb):
    new_registry(dynamodb).latch_all(f"a/{number}" for number in range(0, 500, 2))
    dynamodb.calls.clear()
    new_registry(dynamodb).latch_all(f"a/{number}" for number in range(500))
    # Six hold them all, and each learns once which are latched already.
    assert dynamodb.calls == ["transact_write_items"] * 2 * 6
    assert tallies(dynamodb).broken_sensors == 500


def test_every_wait_is_drawn_anew_so_that_those_who_met_do_not_meet_again(dynamodb):
    drawn, waits = [], []

    def draw(least, most):
        drawn.append((least, most))
        return len(drawn)

    dynamodb.conflicts = 3
    Transactions(dynamodb, waits.append, draw).write([BrokenCount(LEDGER_TABLE).add(1)])
    assert waits == [1, 2, 3]
    assert drawn == [(0.0, most) for most in WAITS_SECONDS_MAX]


def test_counters_left_unread_are_no_count(dynamodb):
    dynamodb.batch_get_max = 3
    with pytest.raises(ServiceUnavailableError):
        tallies(dynamodb)


def test_a_process_that_has_seen_very_many_broken_sensors_still_answers_right(dynamodb, monkeypatch):
    monkeypatch.setattr("chalicelib.ingest.registry._REMEMBERED_MAX", 3)
    registry = new_registry(dynamodb)
    sensors = [f"a/{number}" for number in range(10)]
    for sensor in sensors:
        registry.latch_all([sensor])
    assert all(is_broken(registry, sensor) for sensor in sensors)
    assert len(registry._known_broken) <= 3


class TestBatches:
    @pytest.fixture
    def waits(self):
        return []

    @pytest.fixture
    def dynamodb(self):
        return FakeDynamoDb(TABLES)

    @pytest.fixture
    def registry(self, dynamodb, waits):
        return new_registry(dynamodb, sleep=waits.append)

    def test_hundreds_of_known_sensors_are_read_a_hundred_at_a_time(self, registry, dynamodb):
        sensors = [f"a/{number}" for number in range(250)]
        registry.see(sensors)
        dynamodb.calls.clear()
        assert new_registry(dynamodb).see(sensors) == dict.fromkeys(sensors, Sensor())
        assert dynamodb.calls == ["batch_get_item"] * 3

    def test_the_broken_among_many_are_found_and_not_asked_for_again(self, registry, dynamodb):
        new_registry(dynamodb).latch_all(["a/2"])
        seen = registry.see(["a/1", "a/2", "a/3", "a/2"])
        assert seen == {"a/1": Sensor(), "a/2": Sensor(broken=True), "a/3": Sensor()}
        dynamodb.calls.clear()
        assert registry.see(["a/2"]) == {"a/2": Sensor(broken=True)}
        assert dynamodb.calls == []

    def test_sensors_are_latched_unasked_and_once(self, registry, dynamodb):
        registry.latch_all(["a/1", "a/1"])
        assert dynamodb.calls == ["transact_write_items"]
        registry.latch_all(["a/1"])
        assert dynamodb.calls == ["transact_write_items"]

    def test_sensors_too_many_for_the_time_of_one_process_are_latched_by_several(self, dynamodb, monkeypatch):
        sensors, write, attempts = [f"a/{number}" for number in range(500)], dynamodb.transact_write_items, 0
        new_registry(dynamodb).see(sensors)
        while not all(row["broken"]["BOOL"] for row in dynamodb.tables[REGISTRY_TABLE].values()):
            attempts += 1
            left = iter(range(2))

            def write_some(left=left, **transaction):
                if next(left, None) is None:
                    raise service_error("OutOfTime")
                return write(**transaction)

            monkeypatch.setattr(dynamodb, "transact_write_items", write_some)
            registry = new_registry(dynamodb)
            broken = [key for key, sensor in registry.see(sensors).items() if not sensor.broken]
            with contextlib.suppress(ClientError):
                registry.latch_all(broken)
        assert attempts == 3
        assert tallies(dynamodb).broken_sensors == 500

    def test_a_registration_that_meets_a_transaction_waits_for_it(self, registry, dynamodb, waits):
        dynamodb.conflicts = 2
        assert registry.see(["a/1"]) == {"a/1": Sensor()}
        assert len(waits) == 2
        assert registry.find("a/1") == Sensor()

    def test_another_error_of_a_registration_is_not_waited_out(self, registry, dynamodb, waits):
        dynamodb.failing["transact_write_items"] = service_error()
        with pytest.raises(ClientError):
            registry.see(["a/1"])
        assert waits == []

    def test_keys_left_unread_are_read_after_waits(self, registry, dynamodb, waits):
        new_registry(dynamodb).latch_all(["a/4"])
        dynamodb.batch_get_max = 2
        assert registry.see(["a/1", "a/2", "a/3", "a/4", "a/5"])["a/4"].broken
        assert len(waits) == 2

    def test_keys_left_unread_again_and_again_make_the_registry_unavailable(self, registry, dynamodb, waits):
        dynamodb.batch_get_max = 0
        with pytest.raises(ServiceUnavailableError, match="2 sensors unread"):
            registry.see(["a/1", "a/2"])
        assert 0 < sum(waits) < 2
        assert dynamodb.tables[REGISTRY_TABLE] == {}
