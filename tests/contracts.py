"""Contracts that a fake and the service it stands for both have to keep; unit and functional tests inherit them."""

import pytest
from msgspec import UNSET

from chalicelib.broken_count import BrokenCount
from chalicelib.calibration import Calibration
from chalicelib.errors import ObjectNotFoundError
from chalicelib.ingest.registration import RETIRED, SEEN, Refused, Registration, Wish
from chalicelib.ingest.registry import SensorRegistry
from chalicelib.ingest.sensors import Sensor
from chalicelib.ingest.transactions import Transactions
from chalicelib.ledger import Ledger
from chalicelib.settings import LimitSettings
from tests.factories import SETTINGS

REGISTRY_TABLE = "thermonet-dev-sensor-registry"
LEDGER_TABLE = "thermonet-dev-analytics-runs"


def new_registry(dynamodb, limits=SETTINGS.limits, sleep=lambda _: None, on_refused=lambda _: None):
    """The registry of a process that has just started."""
    transactions = Transactions(dynamodb, sleep)
    registration = Registration(REGISTRY_TABLE, LEDGER_TABLE, limits, transactions, on_refused)
    return SensorRegistry(REGISTRY_TABLE, registration, BrokenCount(LEDGER_TABLE), transactions, dynamodb)


def tallies(dynamodb):
    """What is counted beside runs."""
    return Ledger(LEDGER_TABLE, dynamodb, None).tallies()


OWN = Calibration(1e-3, 2e-4, 1e-7, 10.0, 1e6)


def sensor_counts(dynamodb):
    """What is counted of each location of the test, whichever DynamoDB it is."""
    counts = {}
    for location_id in "abcd":
        key = {"id": {"S": f"location/{location_id}"}}
        item = dynamodb.get_item(TableName=LEDGER_TABLE, Key=key, ConsistentRead=True).get("Item")
        if item:
            counts[location_id] = int(item["sensors"]["N"])
    return counts


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
        assert registry.find("a/new") is None

    def test_a_new_sensor_is_registered_as_working_on_first_sight(self, registry):
        assert is_broken(registry, "a/new") is False
        assert registry.find("a/new") == Sensor()

    def test_a_sensor_stays_working_when_asked_again(self, registry, other_process):
        assert [is_broken(registry, "a/s"), is_broken(other_process, "a/s"), is_broken(registry, "a/s")] == [False] * 3

    def test_a_latched_sensor_is_broken_to_every_process(self, registry, other_process):
        is_broken(registry, "a/s")
        is_broken(other_process, "a/s")
        registry.latch_all(["a/s"])
        assert is_broken(registry, "a/s") is True
        assert is_broken(other_process, "a/s") is True

    def test_a_sensor_can_be_latched_on_first_sight(self, registry, other_process):
        registry.latch_all(["a/s"])
        assert other_process.find("a/s").broken

    def test_latching_again_changes_nothing(self, registry, other_process):
        registry.latch_all(["a/s"])
        other_process.latch_all(["a/s"])
        registry.latch_all(["a/s"])
        assert registry.find("a/s").broken

    def test_every_latched_sensor_is_counted_once_whoever_latches_it(self, registry, other_process, dynamodb):
        assert tallies(dynamodb).broken_sensors == 0
        is_broken(registry, "a/1")
        for sensor in ("a/1", "a/2", "a/3"):
            registry.latch_all([sensor])
            other_process.latch_all([sensor])
        assert tallies(dynamodb).broken_sensors == 3

    def test_sensors_do_not_affect_each_other(self, registry):
        registry.latch_all(["a/1"])
        assert is_broken(registry, "a/01") is False
        assert is_broken(registry, "a/11") is False

    def test_sensors_of_two_locations_are_two_sensors(self, registry, dynamodb):
        registry.see(["a/1", "b/1"])
        registry.latch_all(["a/1"])
        assert (registry.find("a/1").broken, registry.find("b/1").broken) == (True, False)
        registry.change({"a/1": Wish("ntc-10k"), "b/1": RETIRED})
        assert registry.find("a/1") == Sensor(broken=True, thermistor="ntc-10k")
        assert registry.find("b/1") == Sensor(retired=True)
        assert sensor_counts(dynamodb) == {"a": 1, "b": 0}

    def test_whatever_is_wished_of_a_sensor_is_found_and_never_unbreaks_it(self, registry):
        registry.latch_all(["a/1"])
        for wish in (Wish("ntc-10k"), Wish(OWN), Wish(None), RETIRED, SEEN, Wish(OWN), RETIRED, Wish(None)):
            changed = registry.change({"a/1": wish})["a/1"]
            assert changed == registry.find("a/1")
            assert changed.broken
            assert changed.retired is wish.retired
            assert wish.thermistor in {UNSET, changed.thermistor}

    def test_what_would_exceed_a_limit_is_refused_and_nothing_beside_it(self, dynamodb):
        registry = new_registry(dynamodb, LimitSettings(locations=2, sensors_per_location=3))
        registry.see(["a/0"])
        seen = new_registry(dynamodb, LimitSettings(locations=2, sensors_per_location=3)).see(
            ["a/0", "a/1", "a/2", "a/3", "a/4", "b/0", "c/0", "c/1"]
        )
        refused = {key: outcome.reason for key, outcome in seen.items() if isinstance(outcome, Refused)}
        assert refused == {
            "a/3": "sensor_id: no more than 3 sensors at a location (limits.sensors_per_location)",
            "a/4": "sensor_id: no more than 3 sensors at a location (limits.sensors_per_location)",
            "c/0": "location_id: no more than 2 locations (limits.locations)",
            "c/1": "location_id: no more than 2 locations (limits.locations)",
        }
        assert sensor_counts(dynamodb) == {"a": 3, "b": 1}
        assert registry.find("a/3") is None

    def test_a_retired_sensor_leaves_its_place_and_comes_back_by_a_reading_even_beyond_the_limit(self, dynamodb):
        registry = new_registry(dynamodb, LimitSettings(locations=1, sensors_per_location=1))
        registry.see(["a/0"])
        registry.change({"a/0": RETIRED})
        assert registry.see(["a/1"]) == {"a/1": Sensor()}
        assert isinstance(registry.change({"a/0": Wish("ntc-10k")})["a/0"], Refused)
        assert registry.see(["a/0"]) == {"a/0": Sensor()}
        assert sensor_counts(dynamodb) == {"a": 2}
        assert isinstance(registry.see(["a/2"])["a/2"], Refused)

    def test_a_registration_that_comes_too_late_learns_of_the_latch(self, registry, other_process, monkeypatch):
        monkeypatch.setattr(registry, "find", lambda key: other_process.latch_all([key]))
        assert is_broken(registry, "a/s") is True
        assert other_process.find("a/s").broken

    def test_a_registration_that_comes_too_late_leaves_a_working_sensor_alone(
        self, registry, other_process, monkeypatch
    ):
        is_broken(other_process, "a/s")
        monkeypatch.setattr(registry, "find", lambda key: None)
        assert is_broken(registry, "a/s") is False


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

    def test_keys_are_listed_from_behind_another_one(self, store):
        for number in range(7):
            store.put(f"b/{number}", b"")
        store.put("c", b"")
        assert store.list_keys("b/", after="b/3") == ["b/4", "b/5", "b/6"]
        assert store.list_keys("b/", after="b/35") == ["b/4", "b/5", "b/6"]
        assert store.list_keys("b/", after="a") == store.list_keys("b/")
        assert store.list_keys("b/", after="b/6") == []

    def test_parts_of_an_object_are_read_by_ranges(self, store):
        store.put("key", b"0123456789")
        assert store.get_tail("key", 3) == (10, b"789")
        assert store.get_tail("key", 10) == store.get_tail("key", 1_000) == (10, b"0123456789")
        assert store.get_range("key", 0, 1) == b"0"
        assert store.get_range("key", 2, 5) == b"234"
        assert store.get_range("key", 8, 100) == b"89"

    def test_parts_of_a_missing_object_are_not_found(self, store):
        with pytest.raises(ObjectNotFoundError, match="no object nothing/here"):
            store.get_tail("nothing/here", 1)
        with pytest.raises(ObjectNotFoundError, match="no object nothing/here"):
            store.get_range("nothing/here", 0, 1)

    def test_deleting_takes_many_keys_and_does_not_mind_missing_ones(self, store):
        store.put("a", b"")
        store.put("b", b"")
        store.delete(["a", *(f"missing/{number}" for number in range(1_001))])
        store.delete([])
        assert store.list_keys("") == ["b"]

    def test_a_key_that_no_list_can_hold_is_deleted_beside_others(self, store):
        keys = ["a\x01", "b\n\"<&>'", "c"]
        for key in keys:
            store.put(key, b"")
        store.delete(keys)
        assert store.list_keys("") == []

    def test_files_are_copied_both_ways(self, store, tmp_path):
        contents = {f"key {number} ü.bin": bytes([number]) * number for number in range(20)}
        for number, content in enumerate(contents.values()):
            (tmp_path / str(number)).write_bytes(content)
        store.upload((key, tmp_path / str(number)) for number, key in enumerate(contents))
        assert {key: store.get(key) for key in contents} == contents
        store.download((key, tmp_path / f"copy {number}") for number, key in enumerate(contents))
        copies = [(tmp_path / f"copy {number}").read_bytes() for number in range(len(contents))]
        assert copies == list(contents.values())
