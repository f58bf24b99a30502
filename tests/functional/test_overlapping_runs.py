"""Runs that overlap, overtake each other, are delivered twice or taken up again: one of them counts, and only once."""

from pathlib import Path

import pytest

from tests.books import named
from tests.crash_harness import World
from tests.factories import HOUR
from tests.functional.test_crash_points import check, first_batch, look, recover, second_batch
from tests.wire import FIRST_WRITE, Fault


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    first_batch(world)
    return world


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One run after each batch, nothing else; only to be looked at."""
    undisturbed = World(tmp_path_factory.mktemp("scratch"))
    first_batch(undisturbed)
    undisturbed.run("run-1")
    second_batch(undisturbed)
    undisturbed.run("run-2")
    recover(undisturbed)
    return undisturbed


def finish(world: World, undisturbed: World) -> None:
    look(world)
    if len(world.sent) < len(undisturbed.sent):
        second_batch(world)
    recover(world)
    check(world, undisturbed)


def test_of_two_runs_at_once_one_commits_and_the_other_has_no_effect(world: World, undisturbed: World) -> None:
    one, other = (world.start(name).advance_to("Commit") for name in ("one", "other"))
    assert one.finish().passed[-1] == "Reported"
    committed = world.committed()
    assert other.finish().passed[-1] == "Overtaken"
    assert world.committed() == committed
    assert world.notifications == []
    finish(world, undisturbed)


def test_a_run_overtaken_by_one_that_has_more_input_has_no_effect(world: World, undisturbed: World) -> None:
    """So it is too when it was not slow but died after the map, and is redriven after its successor has committed."""
    slow = world.start("slow").advance_to("Commit")
    second_batch(world)
    assert world.run("fast").passed[-1] == "Reported"
    assert slow.finish().passed[-1] == "Overtaken"
    finish(world, undisturbed)


def test_what_an_overtaken_run_had_and_the_other_had_not_is_counted_by_the_next(
    world: World, undisturbed: World
) -> None:
    fast = world.start("fast").advance_to("Commit")
    second_batch(world)
    slow = world.start("slow").advance_to("Commit")
    assert fast.finish().passed[-1] == "Reported"
    assert slow.finish().passed[-1] == "Overtaken"
    finish(world, undisturbed)


def test_a_run_whose_input_a_later_run_has_cleaned_up_has_no_effect(world: World, undisturbed: World) -> None:
    slow = world.start("slow").advance_to("ReportLocations")
    world.run("fast")
    second_batch(world)
    world.run("next")
    assert slow.finish().passed[-1] == "Overtaken"
    finish(world, undisturbed)


def test_a_workflow_that_died_before_its_commit_commits_when_it_is_redriven(world: World, undisturbed: World) -> None:
    died = world.start("died").advance_to("Commit")
    second_batch(world)
    assert died.finish().passed[-1] == "Reported"
    finish(world, undisturbed)


@pytest.mark.parametrize("kind", ["error", "death"])
def test_a_commit_whose_answer_was_lost_is_repeated_and_not_taken_for_a_lost_race(
    world: World, undisturbed: World, kind: str
) -> None:
    run = world.start("run").advance_to("Commit")
    world.fault = Fault(len(world.call_log), effect=True, kind=kind)
    assert run.finish().passed[-1] == "Reported"
    assert world.call_log[-2:] == ["update_item", "update_item"]
    finish(world, undisturbed)


def test_a_name_used_for_two_executions_makes_two_attempts_of_which_one_commits(
    world: World, undisturbed: World
) -> None:
    run = world.start("run").advance_to("ReportLocations")
    second_batch(world)
    again = world.start("run").advance_to("ReportLocations")
    assert again.claim["run_id"] != run.claim["run_id"]
    assert [again.finish().passed[-1], run.finish().passed[-1]] == ["Reported", "Overtaken"]
    finish(world, undisturbed)


def test_a_name_used_again_after_its_run_touches_nothing_committed(world: World, undisturbed: World) -> None:
    world.run("run")
    committed = {key: world.store.get(key) for key in named(world.committed())}
    second_batch(world)
    world.start("run").advance_to("Commit")
    assert committed.items() <= world.store.s3.objects.items()
    finish(world, undisturbed)


@pytest.mark.parametrize("name", ["run", "static"])
def test_a_static_run_touches_nothing_whatever_its_name_was_used_for(
    world: World, undisturbed: World, name: str
) -> None:
    world.store.put("input.csv", b"sensor_id,location_id,temperature,timestamp\n9,z,20,2026-03-01T11:00:00Z\n")
    world.run("run")
    world.start("static", input_={"source": "S3", "key": "input.csv"}).finish()
    before, committed = dict(world.store.s3.objects), world.committed()
    static = world.run(name, input_={"source": "S3", "key": "input.csv"})
    assert static.passed[-1] == "Reported"
    assert world.committed() == committed
    after = world.store.s3.objects
    assert before.items() <= after.items()
    assert {key.partition("/")[0] for key in after.keys() - before.keys()} == {"static", "scratch"}
    finish(world, undisturbed)


def entry_write(world: World) -> int:
    """Return the number that the claim's write of an archive file will have in the log."""
    probe = world.snapshot()
    probe.start("probe").advance_to("AnythingToDo")
    return probe.call_log.index(FIRST_WRITE, len(world.call_log))


@pytest.mark.parametrize("commits", [0, 1, 2])
def test_an_entry_carried_out_by_two_claims_is_one_file_however_late_the_first_is(
    world: World, undisturbed: World, commits: int
) -> None:
    """It goes on when the other has ended its step, when that run has committed, and after more commits."""
    world.run("run-1")
    second_batch(world)
    world.fault = Fault(entry_write(world), effect=False, kind="zombie", commits=commits)
    world.pass_time(HOUR)
    world.start("run-2").advance_to("Receive")
    assert world.zombies
    files = world.store.list_keys("archive/")
    look(world)
    assert world.store.list_keys("archive/") == files
    finish(world, undisturbed)
    assert not world.zombies


@pytest.mark.parametrize("other_wrote", [False, True])
def test_an_entry_whose_write_meets_another_is_tried_again_and_not_taken_for_done(
    world: World, undisturbed: World, other_wrote: bool
) -> None:
    world.run("run-1")
    world.pass_time(HOUR)
    write = entry_write(world)
    world.fault = Fault(write, effect=other_wrote, kind="conflict")
    world.start("run-2").advance_to("AnythingToDo")
    assert world.call_log[write : write + 2] == [FIRST_WRITE, FIRST_WRITE]
    assert {entry.key for entry in world.committed().entries} == set(world.store.list_keys("archive/"))
    finish(world, undisturbed)


def test_an_overtaken_run_whose_input_is_gone_is_no_failure_whatever_step_it_was_in(
    world: World, undisturbed: World
) -> None:
    states = ["Receive", "ReportLocations", "Summarize", "Commit"]
    slow = [world.start(f"slow-{state}").advance_to(state) for state in states]
    for number in range(3):
        world.run(f"fast-{number}")
        world.pass_time(HOUR)
    assert [run.finish().passed[-1] for run in slow] == ["Overtaken"] * 4
    assert world.notifications == []
    finish(world, undisturbed)


def test_a_batch_redelivered_after_its_run_is_counted_once(world: World, undisturbed: World) -> None:
    """The consumer wrote its landing object and died before SQS learned of it; a run came in between."""
    world.run("run")
    world.queue = list(world.sent)
    second_batch(world)
    finish(world, undisturbed)


def test_a_batch_redelivered_within_its_run_is_counted_once(world: World, undisturbed: World) -> None:
    world.queue = list(world.sent)
    world.consume()
    finish(world, undisturbed)
