"""The law of the latch: under every interleaving of processes, broken never becomes working again."""

import itertools
import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.ingest.registration import RETIRED, Wish
from chalicelib.ingest.sensors import Sensor
from chalicelib.settings import LimitSettings
from tests.contracts import LEDGER_TABLE, REGISTRY_TABLE, new_registry, sensor_counts, tallies
from tests.fakes import FakeDynamoDb

TABLES = {REGISTRY_TABLE: "sensor_id", LEDGER_TABLE: "id"}


class SteppedClient:
    """A client that waits for its turn before and after every call, while request and answer are on their way."""

    def __init__(self, dynamodb, wait_for_turn):
        self._dynamodb = dynamodb
        self._wait_for_turn = wait_for_turn
        self.exceptions = dynamodb.exceptions

    def __getattr__(self, name):
        def call(**parameters):
            self._wait_for_turn()
            try:
                return getattr(self._dynamodb, name)(**parameters)
            finally:
                self._wait_for_turn()

        return call


class Process(threading.Thread):
    """A process with a registry of its own, that runs its operations one step at a time."""

    def __init__(self, dynamodb, operations, clock, log):
        super().__init__(daemon=True)
        self._operations, self._clock, self._log = operations, clock, log
        self._turn, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        self._registry = new_registry(SteppedClient(dynamodb, self._wait_for_turn), LIMITS)
        self.finished = False
        self._error = None
        self.start()

    def step(self):
        self._turn.release()
        self._paused.acquire()
        if self._error:
            raise self._error

    def run(self):
        self._turn.acquire()
        try:
            for operation, sensor in self._operations:
                began = next(self._clock)
                answer = ACTIONS[operation](self._registry, sensor)
                self._log.append((operation, sensor, began, next(self._clock), answer))
        except Exception as error:
            self._error = error
        self.finished = True
        self._paused.release()

    def _wait_for_turn(self):
        self._paused.release()
        self._turn.acquire()


KEYS = ["a/1", "a/2", "b/1"]
LIMITS = LimitSettings(locations=1, sensors_per_location=1)


def see(registry, key):
    """Answer as to a reading in range: whether the sensor is broken, None if it is refused."""
    seen = registry.see([key])[key]
    return seen.broken if isinstance(seen, Sensor) else None


def latch(registry, key):
    """Answer as to a reading out of range: whether the sensor is taken, and so broken."""
    taken = see(registry, key) is not None
    if taken:
        registry.latch_all([key])
    return taken


ACTIONS = {
    "see": see,
    "latch": latch,
    "provision": lambda registry, key: registry.change({key: Wish("ntc-10k")}),
    "retire": lambda registry, key: registry.change({key: RETIRED}) if registry.find(key) else None,
}
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["see", "see", "latch", "provision", "retire"]), st.sampled_from(KEYS)),
    min_size=1,
    max_size=5,
)


def interleave(dynamodb, programs, schedule):
    """Run a process for each program, its steps in the order that the schedule says; return what was answered when."""
    log, clock = [], itertools.count()
    processes = [Process(dynamodb, program, clock, log) for program in programs]
    turns = iter(schedule)
    while running := [process for process in processes if not process.finished]:
        running[next(turns, 0) % len(running)].step()
    return log


@settings(max_examples=300)
@given(
    programs=st.lists(OPERATIONS, min_size=2, max_size=3),
    schedule=st.lists(st.integers(0, 2), max_size=60),
    registered=st.sets(st.sampled_from(KEYS)),
)
def test_no_interleaving_of_processes_unbreaks_a_sensor_or_miscounts_it(programs, schedule, registered):
    dynamodb = FakeDynamoDb(TABLES)
    for sensor in registered:
        new_registry(dynamodb).see([sensor])
    log = interleave(dynamodb, programs, schedule)
    rows = dynamodb.tables[REGISTRY_TABLE]
    latched = {sensor for operation, sensor, *_, taken in log if (operation, taken) == ("latch", True)}
    for operation, sensor, _, latched_at, taken in log:
        if (operation, taken) == ("latch", True):
            later = [answer for op, s, began, _, answer in log if (op, s) == ("see", sensor) and began > latched_at]
            assert all(later)
    for sensor in KEYS:
        versions = [item["broken"]["BOOL"] for _, key, item in dynamodb.history if key == sensor]
        assert versions == sorted(versions), "broken went back to working"
        assert not versions or versions[-1] == (sensor in latched)
    assert tallies(dynamodb).broken_sensors == len(latched)
    for location_id, count in sensor_counts(dynamodb).items():
        assert count == sum("retired" not in row for key, row in rows.items() if key.startswith(f"{location_id}/"))
    locations = dynamodb.tables[LEDGER_TABLE].get("locations", {"locations": {"N": "0"}})
    assert int(locations["locations"]["N"]) == len(sensor_counts(dynamodb))
