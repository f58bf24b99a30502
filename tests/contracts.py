"""Contracts that a fake and the service it stands for both have to keep; unit and functional tests inherit them."""

import pytest

from chalicelib.broken_count import BrokenCount
from chalicelib.errors import ObjectNotFoundError
from chalicelib.ingest.registration import Registration
from chalicelib.ingest.registry import SensorRegistry
from chalicelib.ingest.transactions import Transactions
from tests.factories import SETTINGS

REGISTRY_TABLE = "thermonet-dev-sensor-registry"
LEDGER_TABLE = "thermonet-dev-analytics-runs"


def new_registry(dynamodb, limits=SETTINGS.limits, sleep=lambda _: None, on_refused=lambda _: None):
    """The registry of a process that has just started."""
    transactions = Transactions(dynamodb, sleep)
    registration = Registration(REGISTRY_TABLE, LEDGER_TABLE, limits, transactions, on_refused)
    return SensorRegistry(REGISTRY_TABLE, registration, BrokenCount(LEDGER_TABLE, dynamodb), transactions, dynamodb)


def is_broken(registry, key):
    """Ask a registry about one sensor, which registers a new one."""
    return registry.see([key])[key].broken


class RegistryContract:
    """What the registry promises on any DynamoDB; the fixture `dynamodb` has its table."""

    @pytest.fixture
    def registry(self, dynamodb):
        return new_registry(dynamodb)

    @pytest.fixture
    def other_process(self, dynamodb):
        return new_registry(dynamodb)

    def test_an_unknown_sensor_is_not_found(self, registry):
        assert registry.find("new") is None

    def test_a_new_sensor_is_registered_as_working_on_first_sight(self, registry):
        assert is_broken(registry, "new") is False
        assert registry.find("new") is False

    def test_a_sensor_stays_working_when_asked_again(self, registry, other_process):
        assert [is_broken(registry, "s"), is_broken(other_process, "s"), is_broken(registry, "s")] == [False] * 3

    def test_a_latched_sensor_is_broken_to_every_process(self, registry, other_process):
        is_broken(registry, "s")
        is_broken(other_process, "s")
        registry.latch("s")
        assert is_broken(registry, "s") is True
        assert is_broken(other_process, "s") is True

    def test_a_sensor_can_be_latched_on_first_sight(self, registry, other_process):
        registry.latch("s")
        assert other_process.find("s") is True

    def test_latching_again_changes_nothing(self, registry, other_process):
        registry.latch("s")
        other_process.latch("s")
        registry.latch("s")
        assert registry.find("s") is True

    def test_every_latched_sensor_is_counted_once_whoever_latches_it(self, registry, other_process, dynamodb):
        count = BrokenCount(LEDGER_TABLE, dynamodb)
        assert count.read() == 0
        is_broken(registry, "1")
        for sensor in ("1", "2", "3"):
            registry.latch(sensor)
            other_process.latch(sensor)
        assert count.read() == 3

    def test_sensors_do_not_affect_each_other(self, registry):
        registry.latch("1")
        assert is_broken(registry, "01") is False
        assert is_broken(registry, "11") is False

    def test_a_registration_that_comes_too_late_learns_of_the_latch(self, registry, other_process, monkeypatch):
        monkeypatch.setattr(registry, "find", other_process.latch)
        assert is_broken(registry, "s") is True
        assert other_process.find("s") is True

    def test_a_registration_that_comes_too_late_leaves_a_working_sensor_alone(
        self, registry, other_process, monkeypatch
    ):
        is_broken(other_process, "s")
        monkeypatch.setattr(registry, "find", lambda sensor_id: None)
        assert is_broken(registry, "s") is False


class ObjectStoreContract:
    """What a bucket promises; the fixture `store` is an empty one."""

    def test_what_is_put_can_be_got(self, store):
        store.put("a/b", b"one")
        store.put("a/b", b"two")
        assert store.get("a/b") == b"two"

    def test_many_objects_are_put_at_once(self, store):
        store.put_all((str(number), bytes([number])) for number in range(40))
        assert [store.get(str(number)) for number in range(40)] == [bytes([number]) for number in range(40)]

    def test_a_missing_object_is_not_found(self, store, tmp_path):
        with pytest.raises(ObjectNotFoundError, match="no object nothing/here"):
            store.get("nothing/here")
        with pytest.raises(ObjectNotFoundError, match="no object nothing/here"):
            store.download([("nothing/here", tmp_path / "file")])

    def test_only_the_first_of_several_puts_counts_when_asked_so(self, store):
        assert store.put_first("key", b"first") is True
        assert store.put_first("key", b"second") is False
        assert store.get("key") == b"first"

    def test_keys_are_listed_in_order_and_by_prefix(self, store):
        for key in ("b/2", "a/1", "b/10", "b", "c"):
            store.put(key, b"")
        assert store.list_keys("b/") == ["b/10", "b/2"]
        assert store.list_keys("nothing") == []

    def test_deleting_takes_many_keys_and_does_not_mind_missing_ones(self, store):
        store.put("a", b"")
        store.put("b", b"")
        store.delete(["a", *(f"missing/{number}" for number in range(1_001))])
        store.delete([])
        assert store.list_keys("") == ["b"]

    def test_files_are_copied_both_ways(self, store, tmp_path):
        contents = {f"key {number} ü.bin": bytes([number]) * number for number in range(20)}
        for number, content in enumerate(contents.values()):
            (tmp_path / str(number)).write_bytes(content)
        store.upload((key, tmp_path / str(number)) for number, key in enumerate(contents))
        assert {key: store.get(key) for key in contents} == contents
        store.download((key, tmp_path / f"copy {number}") for number, key in enumerate(contents))
        copies = [(tmp_path / f"copy {number}").read_bytes() for number in range(len(contents))]
        assert copies == list(contents.values())
