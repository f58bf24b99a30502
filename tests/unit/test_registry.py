"""The latch: the registry's contract on the fake, and what it costs and survives."""

import contextlib

import pytest
from botocore.exceptions import ClientError

from chalicelib.broken_count import BrokenCount
from chalicelib.errors import ServiceUnavailableError
from tests.contracts import LEDGER_TABLE, REGISTRY_TABLE, RegistryContract, is_broken, new_registry
from tests.fakes import FakeDynamoDb, service_error

TABLES = {REGISTRY_TABLE: "sensor_id", LEDGER_TABLE: "id"}


@pytest.fixture
def dynamodb():
    return FakeDynamoDb(TABLES)


class TestRegistryOnTheFake(RegistryContract):
    """The contract, in memory."""


def test_a_known_working_sensor_costs_one_call(dynamodb):
    registry = new_registry(dynamodb)
    is_broken(registry, "s")
    assert dynamodb.calls == ["get_item", "put_item"]
    dynamodb.calls.clear()
    is_broken(registry, "s")
    assert dynamodb.calls == ["get_item"]


def test_a_sensor_known_to_be_broken_costs_no_call(dynamodb):
    registry = new_registry(dynamodb)
    registry.latch("s")
    other_process = new_registry(dynamodb)
    is_broken(other_process, "s")
    dynamodb.calls.clear()
    for process in (registry, other_process):
        assert is_broken(process, "s") is True
        process.latch("s")
    assert dynamodb.calls == []


def test_a_latch_that_another_process_was_first_with_is_remembered_as_done(dynamodb):
    registry = new_registry(dynamodb)
    new_registry(dynamodb).latch("s")
    registry.latch("s")
    dynamodb.calls.clear()
    assert is_broken(registry, "s") is True
    assert dynamodb.calls == []


def test_a_latch_that_failed_is_not_remembered_as_done(dynamodb):
    registry = new_registry(dynamodb)
    dynamodb.failing["transact_write_items"] = service_error()
    with pytest.raises(ClientError):
        registry.latch("s")
    dynamodb.failing.clear()
    assert is_broken(registry, "s") is False
    registry.latch("s")
    assert is_broken(new_registry(dynamodb), "s") is True


def test_a_latch_whose_answer_was_lost_is_counted_once(dynamodb, monkeypatch):
    registry, write = new_registry(dynamodb), dynamodb.transact_write_items

    def lose_the_answer(**transaction):
        write(**transaction)
        raise service_error()

    with monkeypatch.context() as patched:
        patched.setattr(dynamodb, "transact_write_items", lose_the_answer)
        with pytest.raises(ClientError):
            registry.latch("s")
    registry.latch("s")
    assert registry.find("s") is True
    assert BrokenCount(LEDGER_TABLE, dynamodb).read() == 1


def test_latches_that_meet_on_a_counter_are_tried_again_after_growing_waits(dynamodb):
    waits = []
    dynamodb.conflicts = 2
    new_registry(dynamodb, sleep=waits.append).latch("s")
    assert waits == sorted(waits)
    assert len(waits) == 2
    assert BrokenCount(LEDGER_TABLE, dynamodb).read() == 1


def test_a_latch_that_meets_others_again_and_again_fails_and_has_no_effect(dynamodb):
    waits = []
    dynamodb.conflicts = 100
    registry = new_registry(dynamodb, sleep=waits.append)
    with pytest.raises(ClientError, match="TransactionCanceled"):
        registry.latch("s")
    assert 0 < sum(waits) < 1
    assert registry.find("s") is None


def test_hundreds_of_sensors_are_counted_over_many_counters(dynamodb):
    registry, count = new_registry(dynamodb), BrokenCount(LEDGER_TABLE, dynamodb)
    for number in range(300):
        registry.latch(str(number))
    assert count.read() == 300
    assert len(dynamodb.tables[LEDGER_TABLE]) == 16
    assert dynamodb.calls.count("batch_get_item") == 1


def test_counters_left_unread_are_no_count(dynamodb):
    dynamodb.batch_get_max = 3
    with pytest.raises(ServiceUnavailableError):
        BrokenCount(LEDGER_TABLE, dynamodb).read()


def test_a_process_that_has_seen_very_many_broken_sensors_still_answers_right(dynamodb, monkeypatch):
    monkeypatch.setattr("chalicelib.ingest.registry._REMEMBERED_MAX", 3)
    registry = new_registry(dynamodb)
    sensors = [str(number) for number in range(10)]
    for sensor in sensors:
        registry.latch(sensor)
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
        sensors = [str(number) for number in range(250)]
        registry.broken_among(sensors)
        dynamodb.calls.clear()
        assert new_registry(dynamodb).broken_among(sensors) == set()
        assert dynamodb.calls == ["batch_get_item"] * 3

    @pytest.mark.parametrize(("new", "calls"), [(1, ["put_item"]), (2, ["transact_write_items"])])
    def test_new_sensors_are_registered_together(self, registry, dynamodb, new, calls):
        registry.broken_among([str(number) for number in range(new)])
        assert dynamodb.calls[1:] == calls
        assert len(dynamodb.tables[REGISTRY_TABLE]) == new

    def test_hundreds_of_new_sensors_are_registered_a_hundred_at_a_time(self, registry, dynamodb):
        assert registry.broken_among([str(number) for number in range(250)]) == set()
        assert dynamodb.calls == ["batch_get_item"] * 3 + ["transact_write_items"] * 3
        assert len(dynamodb.tables[REGISTRY_TABLE]) == 250

    def test_the_broken_among_many_are_found_and_not_asked_for_again(self, registry, dynamodb):
        new_registry(dynamodb).latch("2")
        assert registry.broken_among(["1", "2", "3", "2"]) == {"2"}
        dynamodb.calls.clear()
        assert registry.broken_among(["2"]) == {"2"}
        assert dynamodb.calls == []

    def test_one_sensor_is_latched_unasked(self, registry, dynamodb):
        registry.latch_all(["1", "1"])
        assert dynamodb.calls == ["transact_write_items"]

    def test_of_several_sensors_only_those_that_are_not_latched_yet_are_written(self, registry, dynamodb):
        new_registry(dynamodb).latch("1")
        dynamodb.calls.clear()
        registry.latch_all(["1", "2"])
        assert dynamodb.calls == ["batch_get_item", "transact_write_items"]
        dynamodb.calls.clear()
        assert registry.broken_among(["1", "2"]) == {"1", "2"}
        assert dynamodb.calls == []

    def test_sensors_too_many_for_the_time_of_one_process_are_latched_by_several(self, dynamodb, monkeypatch):
        sensors, write, attempts = [str(number) for number in range(10)], dynamodb.transact_write_items, 0
        while attempts < 4:
            attempts += 1
            left = iter(range(3))

            def write_some(left=left, **transaction):
                if next(left, None) is None:
                    raise service_error("OutOfTime")
                return write(**transaction)

            monkeypatch.setattr(dynamodb, "transact_write_items", write_some)
            with contextlib.suppress(ClientError):
                new_registry(dynamodb).latch_all(sensors)
        assert BrokenCount(LEDGER_TABLE, dynamodb).read() == 10

    def test_a_registration_that_meets_a_transaction_waits_for_it(self, registry, dynamodb, waits, monkeypatch):
        put_item = dynamodb.put_item

        def meet_two(**request):
            if len(waits) < 2:
                raise service_error("TransactionConflictException")
            return put_item(**request)

        monkeypatch.setattr(dynamodb, "put_item", meet_two)
        assert registry.broken_among(["1"]) == set()
        assert len(waits) == 2
        assert registry.find("1") is False

    def test_another_error_of_a_registration_is_not_waited_out(self, registry, dynamodb, waits):
        dynamodb.failing["put_item"] = service_error()
        with pytest.raises(ClientError):
            registry.broken_among(["1"])
        assert waits == []

    def test_keys_left_unread_are_read_after_growing_waits(self, registry, dynamodb, waits):
        new_registry(dynamodb).latch("4")
        dynamodb.batch_get_max = 2
        assert registry.broken_among(["1", "2", "3", "4", "5"]) == {"4"}
        assert waits == sorted(waits)
        assert len(waits) == 2

    def test_keys_left_unread_again_and_again_make_the_registry_unavailable(self, registry, dynamodb, waits):
        dynamodb.batch_get_max = 0
        with pytest.raises(ServiceUnavailableError, match="2 sensors unread"):
            registry.broken_among(["1", "2"])
        assert 0 < sum(waits) < 1
        assert dynamodb.tables[REGISTRY_TABLE] == {}
