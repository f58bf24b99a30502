"""Every AWS call of consumer, receiver, reporters and commit fails once, in every way; nothing is lost or doubled."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.crash_harness import START, Fault, World

Step = Callable[[World], object]


def measurement(sensor: str, minute: float, temperature: float = 20.0) -> dict[str, Any]:
    """Return a queued measurement of sensor `<location><number>`, `minute` minutes after half past eight."""
    time: datetime = START + timedelta(minutes=minute - 30)
    return {
        "sensor_id": sensor,
        "location_id": sensor[0],
        "temperature": temperature + minute / 7,
        "status": "OK",
        "timestamp": f"{time:%Y-%m-%dT%H:%M:%S.%fZ}",
        "value": 2000.0,
    }


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


STEPS: list[Step] = [
    first_batch,
    lambda world: world.run("run-1"),
    second_batch,
    lambda world: world.run("run-2"),
    third_batch,
    lambda world: world.run("run-3"),
    lambda world: world.run("run-4"),
]


# The step itself and the next; recovery begins with another run.
STEPS_PLAYED = 2


def recover(world: World) -> None:
    """Let the queue deliver again what it still has, and the schedule go on."""
    for number in range(3):
        if world.queue:
            world.consume()
        world.run(f"recovery-{number}")


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


def followed(world: World, step: int) -> World:
    """Go on with a step and the one after it, then recover."""
    for later_step in STEPS[step : step + STEPS_PLAYED]:
        later_step(world)
    recover(world)
    return world


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[World]:
    """The world before each of the scenario's steps, and after the last."""
    world = World(tmp_path_factory.mktemp("scratch"))
    befores = [world.snapshot()]
    for step in STEPS:
        step(world)
        befores.append(world.snapshot())
    return befores


def test_the_undisturbed_scenario_has_everything_in_it(undisturbed: list[World]) -> None:
    world = undisturbed[-1].snapshot()
    recover(world)
    totals = world.committed_chain()[0].totals
    assert (totals.measurements, totals.duplicates, totals.conflicts, totals.late) == (16, 4, 1, 2)
    assert len(world.quarantined()) == 1
    check(world, world)


@pytest.mark.parametrize("kind", ["error", "death"])
@pytest.mark.parametrize("effect", [False, True], ids=["before-effect", "after-effect"])
@pytest.mark.parametrize("step", range(len(STEPS)))
def test_a_fault_at_any_call_changes_nothing_in_the_end(
    undisturbed: list[World],
    step: int,
    effect: bool,
    kind: str,
    record_property: Callable[[str, object], None],
) -> None:
    calls = range(len(undisturbed[step].call_log), len(undisturbed[step + 1].call_log))
    expected = followed(undisturbed[step].snapshot(), step)
    for call in calls:
        disturbed = undisturbed[step].snapshot()
        disturbed.fault = Fault(call, effect, kind)
        check(followed(disturbed, step), expected)
    record_property("crash_points", len(calls))
