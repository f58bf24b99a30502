"""Registering within limits: what it costs, that it counts exactly, and what is refused."""

import contextlib
import math

import pytest
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.calibration import Calibration
from chalicelib.errors import ServiceUnavailableError
from chalicelib.ingest.registration import RETIRED, SEEN, Refused, Wish
from chalicelib.ingest.sensors import Sensor
from chalicelib.settings import LimitSettings
from tests.contracts import LEDGER_TABLE, REGISTRY_TABLE, new_registry
from tests.fakes import FakeDynamoDb, service_error

TABLES = {REGISTRY_TABLE: "sensor_id", LEDGER_TABLE: "id"}
BATCH_MAX = 500


def new_table():
    return FakeDynamoDb(TABLES)


def counted(dynamodb):
    """The counters: of locations, and of the sensors of each."""
    ledger = dynamodb.tables[LEDGER_TABLE]
    sensors = {key: int(item["sensors"]["N"]) for key, item in ledger.items() if key.startswith("location/")}
    return int(ledger["locations"]["locations"]["N"]) if "locations" in ledger else 0, sensors


def really(dynamodb):
    """What the counters should say."""
    sensors = {}
    for key, row in dynamodb.tables[REGISTRY_TABLE].items():
        counter = f"location/{key.partition('/')[0]}"
        sensors[counter] = sensors.get(counter, 0) + ("retired" not in row)
    return len(sensors), sensors


def transactions_of(dynamodb, keys):
    dynamodb.calls.clear()
    new_registry(dynamodb).see(keys)
    return dynamodb.calls.count("transact_write_items")


def keys_of(sizes, prefix="location"):
    """Keys of as many locations as there are sizes, with so many sensors each, a batch at most."""
    return [f"{prefix}-{place}/{number}" for place, size in enumerate(sizes) for number in range(size)][:BATCH_MAX]


@settings(max_examples=50)
@given(st.lists(st.integers(1, 500), min_size=1, max_size=500) | st.just([1] * 500) | st.just([2] * 250))
def test_new_sensors_of_new_locations_cost_few_calls_more_than_known_ones(sizes):
    dynamodb = new_table()
    keys = keys_of(sizes)
    locations = len({key.partition("/")[0] for key in keys})
    assert transactions_of(dynamodb, keys) <= math.ceil((len(keys) + locations + 1) / 100) + 1
    assert transactions_of(dynamodb, keys) == 0
    assert counted(dynamodb) == really(dynamodb)
    assert counted(dynamodb)[0] == locations


def test_a_new_sensor_of_a_location_that_the_process_does_not_know_costs_two_calls_and_then_one():
    dynamodb = new_table()
    registry = new_registry(dynamodb)
    registry.see(["a/0"])
    assert transactions_of(dynamodb, ["a/1"]) == 2
    dynamodb.calls.clear()
    registry.see(["a/2"])
    assert dynamodb.calls == ["get_item", "transact_write_items"]
    assert counted(dynamodb) == (1, {"location/a": 3})


@settings(max_examples=50)
@given(
    st.lists(st.integers(1, 200), min_size=1, max_size=6),
    st.lists(st.integers(1, 200), max_size=6),
    st.lists(st.tuples(st.integers(0, 8), st.booleans()), max_size=8),
)
def test_whatever_crashes_every_sensor_is_registered_and_counted_once(sizes, known, crashes):
    dynamodb = new_table()
    write = dynamodb.transact_write_items
    new_registry(dynamodb).see(keys_of(known))
    keys = keys_of(sizes)
    for crashing_call, had_effect in crashes:
        calls = iter(range(100))

        def crash(crashing_call=crashing_call, had_effect=had_effect, calls=calls, **transaction):
            crashes_now = next(calls) == crashing_call
            if not crashes_now or had_effect:
                write(**transaction)
            if crashes_now:
                raise service_error()

        dynamodb.transact_write_items = crash
        with contextlib.suppress(ClientError):
            new_registry(dynamodb).see(keys)
        assert counted(dynamodb) == really(dynamodb)
    dynamodb.transact_write_items = write
    assert new_registry(dynamodb).see(keys) == dict.fromkeys(keys, Sensor())
    assert counted(dynamodb) == really(dynamodb)


@settings(max_examples=100)
@given(
    st.integers(1, 4),
    st.integers(1, 120),
    st.lists(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 150)), min_size=1, max_size=4), max_size=4),
)
def test_no_batches_exceed_a_limit_and_all_that_fits_is_taken(locations_max, sensors_max, batches):
    dynamodb, taken = new_table(), set()
    limits = LimitSettings(locations_max, sensors_max)
    for batch in batches:
        keys = {f"{location}/{number}" for location, size in batch for number in range(size)}
        seen = new_registry(dynamodb, limits).see(keys)
        refused = {key for key, outcome in seen.items() if isinstance(outcome, Refused)}
        assert not refused & taken, "known sensors never meet a limit"
        taken |= keys - refused
        locations, sensors = counted(dynamodb)
        assert counted(dynamodb) == really(dynamodb)
        assert locations <= locations_max
        assert all(count <= sensors_max for count in sensors.values())
        for key in refused:
            location = key.partition("/")[0]
            assert sensors.get(f"location/{location}") == sensors_max or (
                locations == locations_max and f"location/{location}" not in sensors
            )


KEYS = st.builds("{}/{}".format, st.sampled_from(["a", "b", "1", "location", "locations"]), st.integers(1, 4))
STEPS = st.tuples(
    st.sampled_from([SEEN, SEEN, Wish("ntc-10k"), RETIRED]),
    st.sets(KEYS, min_size=1),
    st.builds(LimitSettings, st.integers(1, 5), st.integers(1, 4)),
)


@settings(max_examples=200)
@given(st.lists(STEPS, max_size=10), st.booleans())
def test_whatever_the_limits_become_only_what_has_no_place_is_refused(steps, restarts):
    dynamodb = new_table()
    registry = new_registry(dynamodb)
    for wish, keys, limits in steps:
        registry = new_registry(dynamodb, limits) if restarts else registry
        registry._registration.limits = limits
        known = {key: "retired" not in row for key, row in dynamodb.tables[REGISTRY_TABLE].items()}
        asked = keys & known.keys() if wish is RETIRED else keys
        outcomes = registry.see(asked) if wish is SEEN else registry.change(dict.fromkeys(asked, wish))
        locations, sensors = counted(dynamodb)
        assert (locations, sensors) == really(dynamodb)
        for key in [key for key, outcome in outcomes.items() if isinstance(outcome, Refused)]:
            assert not known.get(key)
            assert wish is not RETIRED
            assert wish is not SEEN or key not in known
            count = sensors.get(f"location/{key.partition('/')[0]}")
            assert locations >= limits.locations if count is None else count >= limits.sensors_per_location


def test_a_refusal_is_told_with_how_many_sensors_are_refused():
    told = []
    limits = LimitSettings(locations=1, sensors_per_location=2)
    registry = new_registry(new_table(), limits, on_refused=told.append)
    registry.see(["a/1"])
    assert told == []
    registry.see(["a/1", "a/2", "a/3", "a/4", "b/1"])
    assert told == [3]


@pytest.mark.parametrize("sensors", [250, 500])
def test_a_batch_for_a_full_location_costs_two_calls(sensors):
    dynamodb = new_table()
    limits = LimitSettings(locations=1, sensors_per_location=2)
    new_registry(dynamodb, limits).see(["a/x", "a/y"])
    dynamodb.calls.clear()
    seen = new_registry(dynamodb, limits).see(f"a/{number}" for number in range(sensors))
    assert all(isinstance(outcome, Refused) for outcome in seen.values())
    assert dynamodb.calls.count("transact_write_items") == 1


def test_a_change_that_changes_nothing_costs_a_read_and_is_answered_as_it_is():
    dynamodb = new_table()
    registry = new_registry(dynamodb)
    wishes = {"a/1": Wish("ntc-10k"), "a/2": Wish(None), "a/3": Wish(Calibration(1e-3, 2e-4, 1e-7, 1.0, 1e5))}
    made = registry.change(wishes)
    assert made == {key: Sensor(thermistor=wish.thermistor) for key, wish in wishes.items()}
    dynamodb.calls.clear()
    assert registry.change(wishes) == made
    assert dynamodb.calls == ["batch_get_item"]


def test_a_sensor_retired_twice_leaves_its_place_once():
    dynamodb = new_table()
    registry = new_registry(dynamodb)
    registry.see(["a/1", "a/2"])
    for process in (registry, new_registry(dynamodb), registry):
        assert process.change({"a/1": RETIRED}) == {"a/1": Sensor(retired=True)}
    assert counted(dynamodb) == really(dynamodb) == (1, {"location/a": 1})


def test_a_sensor_that_others_change_all_the_time_is_given_up(monkeypatch):
    dynamodb = new_table()
    registry = new_registry(dynamodb)
    registry.see(["a/1"])
    write = dynamodb.transact_write_items

    def flip_before(**transaction):
        row = dynamodb.tables[REGISTRY_TABLE]["a/1"]
        if not row.pop("retired", None):
            row["retired"] = {"BOOL": True}
        return write(**transaction)

    monkeypatch.setattr(dynamodb, "transact_write_items", flip_before)
    with pytest.raises(ServiceUnavailableError, match="changed by others, try again"):
        registry.change({"a/1": Wish("ntc-10k")})


def test_a_new_sensor_gets_the_last_place_beside_one_that_a_reading_brings_back():
    dynamodb, limits = new_table(), LimitSettings(locations=1, sensors_per_location=2)
    registry = new_registry(dynamodb, limits)
    registry.see(["a/1", "a/3"])
    registry.change({"a/3": RETIRED})
    assert registry.see(["a/2", "a/3"]) == {"a/2": Sensor(), "a/3": Sensor()}
    assert counted(dynamodb) == really(dynamodb) == (1, {"location/a": 3})


def test_a_limit_of_locations_lowered_below_what_there_are_keeps_no_sensor_out_of_these():
    dynamodb = new_table()
    new_registry(dynamodb).see(["a/1", "b/1", "c/1"])
    seen = new_registry(dynamodb, LimitSettings(locations=2, sensors_per_location=5)).see(["a/1", "a/2", "d/1"])
    assert [key for key, outcome in seen.items() if isinstance(outcome, Refused)] == ["d/1"]


def test_only_new_locations_meet_a_limit_of_locations_however_many_a_process_does_not_know():
    dynamodb, limits = new_table(), LimitSettings(locations=200, sensors_per_location=5)
    new_registry(dynamodb, limits).see(keys_of([1] * 200, prefix="known"))
    new = [*keys_of([2] * 200, prefix="known"), *keys_of([1] * 50, prefix="a-new")]
    seen = new_registry(dynamodb, limits).see(new)
    assert {key for key, outcome in seen.items() if isinstance(outcome, Refused)} == set(keys_of([1] * 50, "a-new"))


def test_as_many_full_locations_as_a_batch_holds_refuse_their_sensors():
    dynamodb, limits = new_table(), LimitSettings(locations=500, sensors_per_location=1)
    new_registry(dynamodb, limits).see(keys_of([1] * 500))
    seen = new_registry(dynamodb, limits).see(f"{key}-more" for key in keys_of([1] * 500))
    assert all(isinstance(outcome, Refused) for outcome in seen.values())


def test_a_batch_that_another_process_registers_meanwhile_is_taken(monkeypatch):
    dynamodb, keys = new_table(), keys_of([1] * 500)
    registry = new_registry(dynamodb)
    find_all = registry.find_all

    def find_before_the_other(asked):
        found = find_all(asked)
        new_registry(dynamodb).see(keys)
        return found

    monkeypatch.setattr(registry, "find_all", find_before_the_other)
    assert registry.see(keys) == dict.fromkeys(keys, Sensor())
    assert counted(dynamodb) == really(dynamodb)


def test_a_sensor_may_be_called_what_the_counter_of_another_location_is():
    dynamodb = new_table()
    new_registry(dynamodb).see(["5/1"])
    assert new_registry(dynamodb).see(["5/2", "location/5"]) == {"5/2": Sensor(), "location/5": Sensor()}
    assert counted(dynamodb) == really(dynamodb)


def test_who_retires_a_sensor_keeps_the_calibration_that_somebody_else_gives_it_meanwhile(monkeypatch):
    dynamodb = new_table()
    registry = new_registry(dynamodb)
    registry.change({"a/1": Wish("ntc-10k")})
    find_all = registry.find_all
    calibration = Calibration(1e-3, 2e-4, 1e-7, 1.0, 1e5)

    def find_before_the_other(asked):
        found = find_all(asked)
        new_registry(dynamodb).change({"a/1": Wish(calibration)})
        return found

    monkeypatch.setattr(registry, "find_all", find_before_the_other)
    registry.change({"a/1": RETIRED})
    assert new_registry(dynamodb).find("a/1") == Sensor(retired=True, thermistor=calibration)
