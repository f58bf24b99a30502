"""Every AWS call of consumer, receiver, reporters and commit fails once, in every way; nothing is lost or doubled."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any

import duckdb
import pytest

from chalicelib.fields import format_time
from tests.crash_harness import ExecutionAbortedError, Fault, World
from tests.factories import NOW, measurement_fields
from tests.workflow_player import Execution

# What happens to the world; a run that begins with it is played after it.
Step = Callable[[World], Execution | None]


def measurement(sensor: str, minute: float, temperature: float = 20.0) -> dict[str, Any]:
    """Return a queued measurement of sensor `<location><number>`, `minute` minutes after half an hour ago."""
    return measurement_fields(
        sensor_id=sensor,
        location_id=sensor[0],
        temperature=temperature + minute / 7,
        timestamp=format_time(NOW + timedelta(minutes=minute - 30)),
    )


def first_batch(world: World) -> None:
    world.send("m1", [measurement(sensor, minute / 2) for sensor in ("a1", "a2", "b1") for minute in range(3)])
    world.send("m2", [measurement("a1", 0), measurement("a1", 1.5), measurement("a2", -20 * 60)])
    world.consume()


def second_batch(world: World) -> None:
    """Only location a: b's report is carried forward."""
    corrections = [measurement("a3", 0.75), measurement("a2", -3)]
    repeats_and_conflicts = [measurement("a1", 0.5), measurement("a2", 0.5, temperature=99.0)]
    too_late = [measurement("a1", -30 * 60), measurement("a2", -40 * 60)]
    world.send("m3", corrections + repeats_and_conflicts + too_late)
    world.send("poison", '[{"sensor_id": ')
    world.consume()
    world.send("m4", [measurement("a1", 4), measurement("a1", 4)])
    world.consume()


def third_batch(world: World) -> None:
    world.send("m5", [measurement("b1", 9), measurement("c1", 7)])
    world.consume()


def redelivery(world: World) -> None:
    """Let the queue deliver again what it still has."""
    if world.queue:
        world.consume()


STEPS: list[Step] = [
    first_batch,
    lambda world: world.start("run-1"),
    second_batch,
    lambda world: world.start("run-2"),
    third_batch,
    lambda world: world.start("run-3"),
    lambda world: world.start("run-4"),
]
RUNS = [1, 3, 5, 6]
RECOVERY: list[Step] = [
    redelivery,
    lambda world: world.start("recovery-0"),
    redelivery,
    lambda world: world.start("recovery-1"),
    redelivery,
    lambda world: world.start("recovery-2"),
]
# The step with the fault and the next; recovery begins with another run.
STEPS_PLAYED = 2


def played(world: World, steps: Sequence[Step]) -> Iterator[int]:
    """Play what is left of a run, and the steps; yields before each state of a run how many steps are left."""
    for number, step in enumerate([lambda world: world.execution, *steps]):
        world.execution = step(world)
        yield len(steps) - number
        try:
            while world.execution and world.execution.step():
                yield len(steps) - number
        except ExecutionAbortedError:
            world.execution = None


def recover(world: World) -> None:
    """Let the queue deliver again what it still has, and the schedule go on."""
    for _ in played(world, RECOVERY):
        pass


def check(world: World, undisturbed: World) -> None:
    assert world.minutes() == undisturbed.minutes()
    assert world.latest() == undisturbed.latest()
    chain = world.committed_chain()
    totals = chain[0].totals
    assert world.accepted == totals.measurements + totals.duplicates + totals.late
    assert totals == undisturbed.committed_chain()[0].totals
    assert world.quarantined() == undisturbed.quarantined()
    assert world.queue == []
    assert world.landed() == []
    consumed = [key for manifest in chain for key in manifest.landing]
    assert len(consumed) == len(set(consumed))
    # Whatever else goes wrong once is repeated by the workflow, and nobody needs to know.
    assert world.notifications == []


class Scenario:
    """The steps without a fault, and what is known of them with one."""

    def __init__(self, world: World) -> None:
        self.calls: list[range] = []
        # The world wherever it can be taken up again, with the number of the step that is next then.
        self._points: list[tuple[World, int]] = []
        for number, step in enumerate(STEPS):
            first = len(world.call_log)
            for left in played(world, [step]):
                self._points.append((world.snapshot(), number + 1 - left))
            self.calls.append(range(first, len(world.call_log)))
        self._ends: dict[int, World] = {}
        self._known: dict[int, set[Hashable]] = defaultdict(set)

    def play(self, step: int, fault: Fault | None = None) -> None:
        """Play what a fault in a step, if any, leaves of it and the one after it; then recover, and check."""
        call = fault.call if fault else self.calls[step].start
        point, next_step = next(point for point in reversed(self._points) if len(point[0].call_log) <= call)
        world, passed = point.snapshot(), set()
        world.fault = fault
        for left in played(world, [*STEPS[next_step : step + STEPS_PLAYED], *RECOVERY]):
            if fault and len(world.call_log) <= fault.call:
                continue
            state = (left, world.state())
            if state in self._known[step]:
                # Another fault has led here, and all was well in the end.
                return
            passed.add(state)
        check(world, self._ends.setdefault(step, world))
        self._known[step] |= passed


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """So little data is no work for two threads; and one writes the same bytes again, by which a world is known."""
    connect = duckdb.connect
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(duckdb, "connect", lambda name, config: connect(name, config={**config, "threads": 1}))
        yield


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    return Scenario(World(tmp_path_factory.mktemp("scratch")))


def test_the_undisturbed_scenario_has_everything_in_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    for _ in played(world, STEPS):
        pass
    recover(world)
    totals = world.committed_chain()[0].totals
    assert (totals.measurements, totals.duplicates, totals.conflicts, totals.late) == (16, 4, 1, 2)
    assert len(world.quarantined()) == 1
    check(world, world)


@pytest.mark.parametrize("effect", [False, True], ids=["before-effect", "after-effect"])
@pytest.mark.parametrize(
    ("step", "kind"),
    # One worker for a step, since it knows which worlds are the same.
    [
        pytest.param(step, kind, marks=pytest.mark.xdist_group(f"crash points of step {step}"))
        for step, kind in [*product(range(len(STEPS)), ["error", "death"]), *product(RUNS, ["abort"])]
    ],
)
def test_a_fault_at_any_call_changes_nothing_in_the_end(
    scenario: Scenario, step: int, effect: bool, kind: str, record_property: Callable[[str, object], None]
) -> None:
    scenario.play(step)
    for call in scenario.calls[step]:
        scenario.play(step, Fault(call, effect, kind))
    record_property("crash_points", len(scenario.calls[step]))
