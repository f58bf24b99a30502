"""Ingest, redelivery, crashes and runs at random, against a model that only knows what was accepted."""

import tempfile
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import hypothesis.strategies as st
import msgspec
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from chalicelib.landing import LandedMeasurement
from tests.crash_harness import ExecutionAbortedError, Fault, World
from tests.factories import MINUTE, NOW, landed, measurement_fields
from tests.oracle import expected_minutes
from tests.strategies import whole_runs
from tests.workflow_player import DEFINITION, Execution

Key = tuple[str, int]


class AnalyticsMachine(RuleBasedStateMachine):
    """A stage that is never left in peace; what it reports in the end is what was accepted."""

    def __init__(self) -> None:
        super().__init__()
        self.scratch = tempfile.TemporaryDirectory(prefix="state-machine-")
        self.world = World(Path(self.scratch.name))
        self.accepted: dict[Key, int] = defaultdict(int)
        self.executions: list[Execution] = []
        self.runs = 0

    @rule(
        keys=st.lists(st.tuples(st.sampled_from(["a1", "a2", "b1"]), st.integers(0, 40)), min_size=1, max_size=4),
        now=st.booleans(),
    )
    def accept(self, keys: list[Key], now: bool) -> None:
        """A sensor's timestamp always has the same temperature here, so that the order of arrival cannot matter."""
        for key in keys:
            self.accepted[key] += 1
        self.world.send(f"message-{len(self.world.sent)}", [as_queued(key) for key in keys])
        if now:
            self.world.consume()

    @rule()
    def consume(self) -> None:
        self.world.consume()

    @precondition(lambda self: self.world.sent)
    @rule(data=st.data())
    def deliver_again(self, data: st.DataObject) -> None:
        self.world.queue.append(data.draw(st.sampled_from(self.world.sent)))
        self.world.consume()

    @rule(calls_from_now=st.integers(0, 30), effect=st.booleans(), kind=st.sampled_from(["error", "death", "abort"]))
    def let_a_call_fail(self, calls_from_now: int, effect: bool, kind: str) -> None:
        self.world.fault = Fault(len(self.world.call_log) + calls_from_now, effect, kind)

    @rule()
    def run_at_a_stroke(self) -> None:
        self.runs += 1
        with suppress(ExecutionAbortedError):
            self.world.run(f"run-{self.runs}")

    @rule()
    def start_a_run(self) -> None:
        self.runs += 1
        self.executions.append(self.world.start(f"run-{self.runs}"))

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

    @precondition(lambda self: self.executions)
    @rule(data=st.data())
    def give_up_a_run(self, data: st.DataObject) -> None:
        self.executions.remove(data.draw(st.sampled_from(self.executions)))

    def teardown(self) -> None:
        """Leave the stage in peace, and look."""
        self.world.fault = None
        for number in range(2):
            self.world.consume()
            self.world.run(f"recovery-{number}")
        self.scratch.cleanup()
        self.check()

    def check(self) -> None:
        chain = self.world.committed_chain()
        totals = chain[0].totals if chain else None
        if totals:
            assert totals.measurements == len(self.accepted)
            assert totals.duplicates == sum(self.accepted.values()) - len(self.accepted)
        assert bool(totals) == bool(self.accepted)
        assert self.world.landed() == []
        reports = {
            location: msgspec.json.decode(b'{"minutes":' + minutes)["minutes"]
            for location, minutes in self.world.minutes().items()
        }
        assert {location: as_figures(minutes) for location, minutes in reports.items()} == self.expected()

    def expected(self) -> dict[str, list[tuple[str, int, float]]]:
        settings = self.world.settings
        by_location = expected_minutes(map(as_landed, self.accepted), settings.window_minutes, settings.history_hours)
        return {location: as_figures(map(msgspec.to_builtins, minutes)) for location, minutes in by_location.items()}


def as_landed(key: Key) -> LandedMeasurement:
    sensor, number = key
    return landed(
        sensor_id=sensor,
        location_id=sensor[0],
        temperature=20 + number + int(sensor[1]) / 8,
        timestamp=NOW - 45 * MINUTE + number * MINUTE / 2,
    )


def as_queued(key: Key) -> dict[str, object]:
    line = msgspec.to_builtins(as_landed(key))
    return {name: line[name] for name in measurement_fields()}


def as_figures(minutes: object) -> list[tuple[str, int, float]]:
    """Reduce minutes to what the model knows, to nine decimals."""
    return [(one["timestamp"], one["count"], round(one["moving_average"], 9)) for one in minutes]


AnalyticsMachine.TestCase.settings = settings(max_examples=whole_runs(20), stateful_step_count=30, deadline=None)
TestAnyHistoryEndsInTheReportsOfWhatWasAccepted = AnalyticsMachine.TestCase
