"""The law of the latch: under every interleaving of processes, broken never becomes working again."""

import itertools
import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.broken_count import BrokenCount
from tests.contracts import LEDGER_TABLE, REGISTRY_TABLE, is_broken, new_registry
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
        self._registry = new_registry(SteppedClient(dynamodb, self._wait_for_turn))
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
                ask = operation == "is_broken"
                answer = is_broken(self._registry, sensor) if ask else self._registry.latch(sensor)
                self._log.append((operation, sensor, began, next(self._clock), answer))
        except Exception as error:
            self._error = error
        self.finished = True
        self._paused.release()

    def _wait_for_turn(self):
        self._paused.release()
        self._turn.acquire()


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["is_broken", "is_broken", "latch"]), st.sampled_from(["1", "2"])), min_size=1, max_size=5
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
    registered=st.sets(st.sampled_from(["1", "2"])),
)
def test_no_interleaving_of_processes_unbreaks_a_sensor(programs, schedule, registered):
    dynamodb = FakeDynamoDb(TABLES)
    for sensor in registered:
        is_broken(new_registry(dynamodb), sensor)
    log = interleave(dynamodb, programs, schedule)
    for operation, sensor, _, latched_at, _ in log:
        if operation == "latch":
            later = [
                answer for op, s, began, _, answer in log if (op, s) == ("is_broken", sensor) and began > latched_at
            ]
            assert all(later)
    for sensor in ("1", "2"):
        versions = [item["broken"]["BOOL"] for _, key, item in dynamodb.history if key == sensor]
        assert versions == sorted(versions), "broken went back to working"
        if versions:
            latched = any((operation, s) == ("latch", sensor) for operation, s, *_ in log)
            assert dynamodb.tables[REGISTRY_TABLE][sensor] == {"sensor_id": {"S": sensor}, "broken": {"BOOL": latched}}
    assert dynamodb.tables[REGISTRY_TABLE].keys() == registered | {sensor for _, sensor, *_ in log}
    latched_sensors = {sensor for operation, sensor, *_ in log if operation == "latch"}
    assert BrokenCount(LEDGER_TABLE, dynamodb).read() == len(latched_sensors)
