"""Runs that overlap, overtake each other, are delivered twice or taken up again: one of them counts, and only once."""

from pathlib import Path

import pytest

from chalicelib.ledger import manifest_key
from tests.crash_harness import Fault, World
from tests.functional.test_crash_points import check, first_batch, recover, second_batch


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
    if world.accepted < undisturbed.accepted:
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


def test_a_run_started_again_prepares_the_same_run_and_commits_it_again(world: World, undisturbed: World) -> None:
    run = world.start("run").advance_to("ReportLocations")
    manifest = world.store.get(manifest_key("run"))
    second_batch(world)
    again = world.start("run").advance_to("ReportLocations")
    assert again.answer == run.answer
    assert world.store.get(manifest_key("run")) == manifest
    assert [again.finish().passed[-1], run.finish().passed[-1]] == ["Reported", "Reported"]
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
