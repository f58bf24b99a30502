"""Ingest, redelivery, crashes and runs at random, against a model that only knows what was accepted."""

import tempfile
from collections import defaultdict
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import msgspec
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from msgspec import structs

from chalicelib.fields import format_time
from chalicelib.landing import LandedMeasurement
from tests.books import check_books, check_moment
from tests.crash_harness import World
from tests.factories import DAY, HOUR, MINUTE, NOW, landed, measurement_fields, stage_settings
from tests.oracle import expected_minutes
from tests.queued import damaged_object
from tests.states_language import DEFINITION, Execution
from tests.strategies import whole_runs
from tests.wire import ExecutionAbortedError, Fault

# A sensor, the half minute of its measurement, and how many days before it was measured.
Key = tuple[str, int, int]

KEYS = st.tuples(st.sampled_from(["a1", "a2", "b1"]), st.integers(0, 40), st.sampled_from([0, 0, 0, 1, 6]))
SETTINGS = st.fixed_dictionaries(
    {
        "history_hours": st.sampled_from([24, 168]),
        "interval_minutes": st.sampled_from([1, 60]),
        "entry_rows": st.sampled_from([1, 3, 1_000]),
    }
)
SHORTEST_HISTORY = DAY
KINDS = ["error", "death", "abort", "conflict", "twice", "zombie"]
# A call counts from when the fault is thought of.
FAULTS = st.builds(
    Fault, call=st.integers(0, 50), effect=st.booleans(), kind=st.sampled_from(KINDS), commits=st.integers(0, 3)
)
# Executions, static ones too, may have the same name.
NAMES = st.sampled_from(["run-1", "run-2"])
STATIC_INPUT = {"source": "S3", "key": "input.csv"}


class AnalyticsMachine(RuleBasedStateMachine):
    """A stage that is never left in peace; what it reports in the end is what was accepted."""

    def __init__(self) -> None:
        super().__init__()
        self.scratch = tempfile.TemporaryDirectory(prefix="state-machine-")
        self.world = World(Path(self.scratch.name))
        self.world.store.put("input.csv", b"sensor_id,location_id,temperature,timestamp\n1,a,20,2026-03-01T11:00:00Z\n")
        self.accepted: dict[Key, int] = defaultdict(int)
        self.executions: list[Execution] = []
        self.damaged = False

    @rule(keys=st.lists(KEYS, min_size=1, max_size=4))
    def accept(self, keys: list[Key]) -> None:
        """A sensor's timestamp always has the same temperature here, so that the order of arrival cannot matter."""
        for key in keys:
            self.accepted[key] += 1
        self.world.send(f"message-{len(self.world.sent)}", [as_queued(key) for key in keys])

    @rule()
    def consume(self) -> None:
        self.world.redrive()
        self.world.consume()

    @precondition(lambda self: self.world.sent)
    @rule(data=st.data(), message_id=st.sampled_from(["again", "twice"]))
    def deliver_again(self, data: st.DataObject, message_id: str) -> None:
        """SQS, a redrive, or a client that had no answer: its attributes are the same, its id may be another."""
        message = data.draw(st.sampled_from(self.world.sent))
        self.world.queue.append(structs.replace(message, message_id=message_id))
        self.world.consume()

    @rule(duration=st.sampled_from([MINUTE, DAY, 8 * DAY]), changed=SETTINGS)
    def change_settings_after(self, duration: timedelta, changed: dict[str, int]) -> None:
        self.world.pass_time(duration)
        self.world.settings = stage_settings(**changed)

    @precondition(lambda self: not self.damaged)
    @rule()
    def damage_an_object(self) -> None:
        self.damaged = True
        damaged_object(self.world)

    @rule(fault=FAULTS)
    def let_a_call_fail(self, fault: Fault) -> None:
        self.world.fault = fault._replace(call=len(self.world.call_log) + fault.call)

    @rule(keys=st.lists(KEYS, max_size=4), name=NAMES, fault=FAULTS | st.none())
    def count_at_a_stroke(self, keys: list[Key], name: str, fault: Fault | None) -> None:
        """Accept, consume and run, with a fault somewhere."""
        if keys:
            self.accept(keys)
        if fault:
            self.let_a_call_fail(fault)
        self.consume()
        self.world.pass_time(HOUR)
        self.run(name)

    def run(self, name: str) -> None:
        execution = self.world.start(name)
        with suppress(ExecutionAbortedError):
            while execution.step():
                self.look()
        self.look()

    @rule(name=NAMES, is_static=st.booleans())
    def start_a_run(self, name: str, is_static: bool) -> None:
        self.executions.append(self.world.start(name, input_=STATIC_INPUT if is_static else None))

    @precondition(lambda self: self.executions)
    @rule(data=st.data())
    def go_on_with_a_run(self, data: st.DataObject) -> None:
        """Play the next task of any run that is under way; one that was aborted may be redriven."""
        execution = data.draw(st.sampled_from(self.executions))
        with suppress(ExecutionAbortedError):
            while execution.step() and DEFINITION["States"][execution.upcoming]["Type"] not in {"Task", "Map"}:
                pass
        if execution.status != "RUNNING":
            self.executions.remove(execution)
        self.look()

    @precondition(lambda self: self.executions)
    @rule(data=st.data())
    def give_up_a_run(self, data: st.DataObject) -> None:
        self.executions.remove(data.draw(st.sampled_from(self.executions)))

    @precondition(lambda self: self.world.zombies)
    @rule()
    def wake(self) -> None:
        self.world.wake(all_of_them=True)
        self.look()

    def look(self) -> None:
        self.world.wake()
        check_moment(self.world)

    def teardown(self) -> None:
        """Leave the stage in peace, and look."""
        try:
            self.world.fault = None
            self.world.wake(all_of_them=True)
            self.look()
            for number, pause in enumerate([HOUR, 7 * DAY, HOUR, HOUR, HOUR]):
                self.consume()
                self.world.pass_time(pause)
                self.run(f"recovery-{number}")
            self.check()
        finally:
            self.world.bury()
            self.scratch.cleanup()

    def check(self) -> None:
        check_books(self.world)
        totals = self.world.committed().totals
        assert totals.measurements == len(self.accepted)
        assert totals.duplicates == sum(self.accepted.values()) - len(self.accepted)
        assert totals.conflicts == 0
        assert {location: as_figures(self.shown(location)) for location in self.world.minutes()} == self.expected()

    def shown(self, location: str) -> list[dict[str, Any]]:
        """Return the minutes of a report that every history so far reached back to."""
        minutes = msgspec.json.decode(b'{"minutes":' + self.world.minutes()[location])["minutes"]
        newest = datetime.fromisoformat(minutes[-1]["timestamp"])
        return [one for one in minutes if one["timestamp"] > format_time(newest - SHORTEST_HISTORY)]

    def expected(self) -> dict[str, list[tuple[str, int, float]]]:
        window_minutes, hours = self.world.settings.analytics.window_minutes, SHORTEST_HISTORY // HOUR
        by_location = expected_minutes(map(as_landed, self.accepted), window_minutes, hours)
        return {location: as_figures(map(msgspec.to_builtins, minutes)) for location, minutes in by_location.items()}


def as_landed(key: Key) -> LandedMeasurement:
    sensor, number, days = key
    return landed(
        sensor_id=sensor,
        location_id=sensor[0],
        temperature=20 + number + int(sensor[1]) / 8,
        timestamp=NOW - 45 * MINUTE + number * MINUTE / 2 - days * DAY,
    )


def as_queued(key: Key) -> dict[str, Any]:
    line = msgspec.to_builtins(as_landed(key))
    return {name: line[name] for name in measurement_fields()}


def as_figures(minutes: Any) -> list[tuple[str, int, float]]:
    """Reduce minutes to what the model knows, to nine decimals."""
    return [(one["timestamp"], one["count"], round(one["moving_average"], 9)) for one in minutes]


AnalyticsMachine.TestCase.settings = settings(max_examples=whole_runs(20), stateful_step_count=30, deadline=None)
TestAnyHistoryEndsInTheReportsOfWhatWasAccepted = AnalyticsMachine.TestCase
