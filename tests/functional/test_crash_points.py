"""Every AWS call of consumer and workflow fails, comes late, or comes twice; nothing is lost or doubled, nor left."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import duckdb
import pytest
from msgspec import structs

from tests.books import check_books, check_moment
from tests.crash_harness import World
from tests.factories import DAY, HOUR
from tests.queued import damaged_object, measurement
from tests.states_language import Execution
from tests.wire import FIRST_WRITE, ExecutionAbortedError, Fault

# What happens to the world; a run that begins with it is played after it.
Step = Callable[[World], Execution | None]


def first_batch(world: World) -> None:
    """A landing object of the last hours, and one of the day before."""
    world.send("m1", [measurement(sensor, minute / 2) for sensor in ("a1", "a2", "b1") for minute in range(3)])
    world.send("m2", [measurement("a1", 0), measurement("a1", 1.5), measurement("a2", -20 * 60)])
    world.consume()


def second_batch(world: World) -> None:
    """Only location a: b's report is carried forward."""
    corrections = [measurement("a3", 0.75), measurement("a2", -3)]
    repeats_and_conflicts = [measurement("a1", 0.5), measurement("a2", 0.5, temperature=99.0)]
    of_past_days = [measurement("a1", -30 * 60), measurement("a2", -40 * 60)]
    world.send("m3", corrections + repeats_and_conflicts + of_past_days)
    world.send("poison", '[{"sensor_id": ')
    world.consume()
    world.send("m4", [measurement("a1", 4), measurement("a1", 4)])
    world.consume()


def third_batch(world: World) -> None:
    world.send("m5", [measurement("b1", 9), measurement("c1", 7)])
    world.consume()
    damaged_object(world)


def redelivery(world: World) -> None:
    """Let the queue deliver again what it still has, and the dead letters."""
    world.redrive()
    if world.queue:
        world.consume()


def run(name: str) -> Step:
    """Begin a run an hour later."""

    def begin(world: World) -> Execution:
        world.pass_time(HOUR)
        return world.start(name)

    return begin


def one_more(number: int) -> Step:
    """Something to commit."""

    def send(world: World) -> None:
        world.send(f"more-{number}", [measurement("a1", 20 + number)])
        world.consume()

    return send


STEPS: dict[str, Step] = {
    "first batch": first_batch,
    "first run": run("run-1"),
    "second batch": second_batch,
    "second run": run("run-2"),
    "third batch": third_batch,
    "third run": run("run-3"),
    "fourth run": run("run-4"),
}
# Three commits more.
LATER: list[Step] = [step for number in range(3) for step in (one_more(number), run(f"later-{number}"))]
# So late that what came late is handed over too, and that all runs are cleaned up behind.
RECOVERY: list[Step] = [
    redelivery,
    lambda world: world.pass_time(7 * DAY),
    *(run(f"recovery-{number}") for number in range(3)),
]
# The step with the fault and the next; recovery begins with another run.
STEPS_PLAYED = 2


class FaultKind(NamedTuple):
    """A fault without its call."""

    kind: str
    effect: bool = False
    commits: int = 0

    def at(self, call: int) -> Fault:
        return Fault(call, self.effect, self.kind, self.commits)


FAULT_KINDS = {
    "error before": FaultKind("error"),
    "error after": FaultKind("error", effect=True),
    "death before": FaultKind("death"),
    "death after": FaultKind("death", effect=True),
    "abort before": FaultKind("abort"),
    "abort after": FaultKind("abort", effect=True),
    "conflict without the other's effect": FaultKind("conflict"),
    "conflict after the other's effect": FaultKind("conflict", effect=True),
    "twice": FaultKind("twice"),
    "late by its state": FaultKind("zombie"),
    "late by a commit": FaultKind("zombie", commits=1),
    "late by two commits": FaultKind("zombie", commits=2),
    "late by three commits": FaultKind("zombie", commits=3),
}


def played(world: World, steps: Sequence[Step]) -> Iterator[int]:
    """Play what is left of a run, and the steps; yields before each state of a run how many steps are left."""
    for number, step in enumerate([lambda world: world.execution, *steps]):
        world.execution = step(world)
        look(world)
        yield len(steps) - number
        try:
            while world.execution and world.execution.step():
                look(world)
                yield len(steps) - number
        except ExecutionAbortedError:
            world.execution = None
        look(world)


def look(world: World) -> None:
    """Wake who has slept long enough; what readers and other engines see is right at every moment."""
    world.wake()
    check_moment(world)


def recover(world: World) -> None:
    """Let the queue deliver again what it still has, and the schedule go on."""
    for _ in played(world, RECOVERY):
        pass


def check(world: World, undisturbed: World) -> None:
    check_books(world)
    assert world.minutes() == undisturbed.minutes()
    assert world.latest() == undisturbed.latest()
    assert totals_of(world) == totals_of(undisturbed)
    assert world.quarantined() == undisturbed.quarantined()
    # Whatever else goes wrong once is repeated by the workflow, and nobody needs to know.
    assert world.notifications == []


def totals_of(world: World) -> tuple[int, ...]:
    """Return the books, but for `late`, which tells what earlier runs had committed."""
    return structs.astuple(structs.replace(world.committed().totals, late=0))


class Scenario:
    """The steps without a fault, and what is known of them with one."""

    def __init__(self, world: World) -> None:
        self.calls: dict[str, range] = {}
        self.log = world.call_log
        # The world wherever it can be taken up again, with the number of the step that is next then.
        self._points: list[tuple[World, int]] = []
        for number, (name, step) in enumerate(STEPS.items()):
            first = len(world.call_log)
            for left in played(world, [step]):
                self._points.append((world.snapshot(), number + 1 - left))
            self.calls[name] = range(first, len(world.call_log))
        self._ends: dict[Hashable, World] = {}
        self._known: dict[Hashable, set[Hashable]] = defaultdict(set)

    def play(self, name: str, fault: Fault | None = None, later: Sequence[Step] = ()) -> None:
        """Play what a fault in a step, if any, leaves of it and the one after it; then recover, and check.

        The steps `later` come in between.
        """
        step, calls = list(STEPS).index(name), self.calls[name]
        call = fault.call if fault else calls.start
        point, next_step = next(point for point in reversed(self._points) if len(point[0].call_log) <= call)
        world, passed = point.snapshot(), set()
        known = self._known[name, len(later)]
        world.fault = fault
        try:
            steps = list(STEPS.values())[next_step : step + STEPS_PLAYED]
            for left in played(world, [*steps, *later, *RECOVERY]):
                if (fault and len(world.call_log) <= fault.call) or world.zombies:
                    continue
                state = (left, world.state())
                if state in known:
                    # Another fault has led here, and all was well in the end.
                    return
                passed.add(state)
            assert not world.zombies
            check(world, self._ends.setdefault((name, len(later)), world))
        finally:
            world.bury()
        known |= passed

    def points(self, name: str, kind: FaultKind) -> list[Fault]:
        """Return the faults of a kind in a step."""
        calls: Sequence[int] = self.calls[name]
        if kind.kind == "conflict":
            calls = [call for call in calls if self.log[call] == FIRST_WRITE]
        return [kind.at(call) for call in calls]


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
    for _ in played(world, list(STEPS.values())):
        pass
    recover(world)
    totals = world.committed().totals
    assert (totals.measurements, totals.duplicates, totals.conflicts, totals.quarantined) == (18, 4, 1, 3)
    assert len(world.quarantined()) == 2
    assert world.committed().spool == world.committed().entries == []
    check(world, world)


@pytest.mark.parametrize(
    ("step", "kind"),
    # One worker for a step, since it knows which worlds are the same.
    [
        pytest.param(step, kind, marks=pytest.mark.xdist_group(f"crash points of the {step}"))
        for step, kind in product(STEPS, FAULT_KINDS)
        if "run" in step or FAULT_KINDS[kind].kind not in {"abort", "conflict"}
    ],
)
def test_a_fault_at_any_call_changes_nothing_in_the_end(
    scenario: Scenario, step: str, kind: str, record_property: Callable[[str, object], None]
) -> None:
    fault_kind = FAULT_KINDS[kind]
    later = LATER if fault_kind.commits else ()
    scenario.play(step, later=later)
    faults = scenario.points(step, fault_kind)
    for fault in faults:
        scenario.play(step, fault, later)
    place = list(STEPS).index(step), step, list(FAULT_KINDS).index(kind), kind
    record_property("crash_points", (*place, len(faults)))
