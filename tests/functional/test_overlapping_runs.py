"""Runs that overlap, overtake each other, are delivered twice or taken up again: one of them counts, and only once."""

from pathlib import Path

import pytest

from tests.crash_harness import Workflow, World
from tests.functional.test_crash_points import check, first_batch, recover, second_batch


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    first_batch(world)
    return world


@pytest.fixture
def undisturbed(tmp_path: Path) -> World:
    """One run after each batch, nothing else."""
    undisturbed = World(tmp_path)
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
    one, other = Workflow(world, "one"), Workflow(world, "other")
    one.receive()
    other.receive()
    one.report()
    other.report()
    assert (one.commit(), other.commit()) == ("Reported", "Overtaken")
    finish(world, undisturbed)


def test_a_run_overtaken_by_one_that_has_more_input_has_no_effect(world: World, undisturbed: World) -> None:
    """So it is too when it was not slow but died after the map, and is redriven after its successor has committed."""
    slow = Workflow(world, "slow")
    slow.receive()
    slow.report()
    second_batch(world)
    assert world.run("fast") == "Reported"
    assert slow.commit() == "Overtaken"
    finish(world, undisturbed)


def test_a_run_whose_input_a_later_run_has_cleaned_up_fails_without_effect(world: World, undisturbed: World) -> None:
    slow = Workflow(world, "slow")
    slow.receive()
    world.run("fast")
    second_batch(world)
    world.run("next")
    slow.report()
    assert slow.commit() == "Overtaken"
    finish(world, undisturbed)


def test_a_workflow_that_died_after_the_map_commits_when_it_is_redriven(world: World, undisturbed: World) -> None:
    died = Workflow(world, "died")
    died.receive()
    died.report()
    second_batch(world)
    assert died.commit() == "Reported"
    finish(world, undisturbed)


def test_a_commit_whose_answer_was_lost_can_be_repeated(world: World, undisturbed: World) -> None:
    run = Workflow(world, "run")
    run.receive()
    run.report()
    assert [run.commit(), run.commit()] == ["Reported", "Reported"]
    finish(world, undisturbed)


def test_a_receiver_called_again_for_the_same_run_prepares_the_same_run(world: World, undisturbed: World) -> None:
    run = Workflow(world, "run")
    run.receive()
    second_batch(world)
    again = Workflow(world, "run")
    again.receive()
    assert again.answer == run.answer
    again.report()
    assert again.commit() == "Reported"
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
