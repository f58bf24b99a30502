"""Days of a stage: outages, redrives, settings that change; what was accepted is counted once, however late."""

import random
from pathlib import Path

import pytest
from msgspec import structs

from chalicelib.landing import encode_landing, landing_key, salvage_landing
from chalicelib.ledger import run_number
from tests.books import check_books
from tests.contracts import LEDGER_TABLE
from tests.crash_harness import World
from tests.factories import DAY, HOUR, NOW, stage_settings
from tests.functional.test_crash_points import played, recover, run
from tests.queued import damaged_object, measurement


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def run_hourly(world: World, runs: int) -> None:
    for _ in played(world, [run(f"hourly-{number}") for number in range(runs)]):
        pass


def deliver(world: World, *messages: object) -> None:
    """Deliver what SQS, its console or a script has sent again, and run."""
    world.queue.extend(messages)
    world.consume()
    run_hourly(world, 1)


def totals(world: World) -> tuple[int, int, int, int]:
    counts = world.committed().totals
    return counts.measurements, counts.duplicates, counts.conflicts, counts.quarantined


def test_what_waited_57_hours_is_counted_all_of_it_however_it_is_shared_out_to_runs(world):
    for hour in range(57):
        world.send(
            f"m{hour}", [measurement(sensor, 60 * hour + offset) for sensor in ("a1", "b1") for offset in (0, 9)]
        )
        world.pass_time(HOUR)
    waiting, world.queue = world.queue, []
    random.Random(1).shuffle(waiting)
    for start in range(0, 57, 20):
        deliver(world, *waiting[start : start + 20])
    assert totals(world) == (57 * 4, 0, 0, 0)
    recover(world)
    check_books(world)


def test_what_landed_in_57_hours_without_a_run_is_counted_in_one(world):
    for hour in range(57):
        world.send(f"m{hour}", [measurement("a1", 60 * hour)])
        world.consume()
        world.pass_time(HOUR)
    run_hourly(world, 1)
    assert totals(world) == (57, 0, 0, 0)
    recover(world)
    check_books(world)


@pytest.mark.parametrize("hours", [(24, 168), (168, 24)])
def test_a_redelivery_counts_nowhere_whatever_the_history_was_and_is(world, hours):
    message = world.send("m1", [measurement("a1", 0), measurement("a1", -30 * 60), measurement("a1", 0)])
    world.settings = stage_settings(history_hours=hours[0])
    world.consume()
    run_hourly(world, 2)
    world.settings = stage_settings(history_hours=hours[1])
    deliver(world, message)
    assert totals(world) == (2, 1, 0, 0)
    recover(world)
    check_books(world)


def test_settings_of_the_archive_may_change_between_any_two_runs(world):
    for number, archive in enumerate(
        [{"entry_rows": 2}, {"interval_minutes": 1_440}, {"entry_rows": 3}, {"interval_minutes": 1}, {}]
    ):
        world.settings = stage_settings(**archive)
        world.send(f"m{number}", [measurement(f"a{sensor}", number - 60 * sensor) for sensor in range(5)])
        world.consume()
        run_hourly(world, 1)
    assert totals(world) == (25, 0, 0, 0)
    recover(world)
    check_books(world)


@pytest.mark.parametrize("days", [0, 8])
def test_a_dead_letter_that_is_redriven_is_known_by_its_identity_also_if_it_was_a_duplicate(world, days):
    """The console's redrive gives it another id and time; a first copy had been counted before it died."""
    first = world.send("m1", [measurement("a1", 0), measurement("a2", 0)])
    repeated = world.send("m2", [measurement("a1", 0), measurement("a2", 0, temperature=21.0)])
    world.consume()
    run_hourly(world, 2)
    world.pass_time(days * DAY)
    run_hourly(world, 2)
    for message in (repeated, first, repeated):
        deliver(world, structs.replace(message, message_id="redriven"))
    assert totals(world) == (2, 2, 1, 0)
    recover(world)
    check_books(world)


@pytest.mark.parametrize("between", ["nothing", "a batch", "a run"])
def test_a_message_that_the_client_sent_twice_is_one(world, between):
    message = world.send("m1", [measurement("a1", 0), measurement("a2", 0)])
    if between != "nothing":
        world.consume()
    if between == "a run":
        run_hourly(world, 1)
    deliver(world, structs.replace(message, message_id="m2"))
    assert totals(world) == (2, 0, 0, 0)
    recover(world)
    check_books(world)


def test_two_messages_with_the_same_content_are_two(world):
    for number in range(2):
        world.send(f"m{number}", [measurement("a1", 0)])
    world.consume()
    run_hourly(world, 1)
    assert totals(world) == (1, 1, 0, 0)
    recover(world)
    check_books(world)


@pytest.mark.parametrize("runs", [0, 1, 3])
def test_the_same_content_landed_again_counts_nowhere(world, runs):
    world.send("m1", [measurement("a1", 0), measurement("a2", -30 * 60), measurement("a2", -30 * 60)])
    world.consume()
    copies = [world.store.get(key) for key in world.landed()]
    run_hourly(world, runs)
    for content in copies:
        lines = salvage_landing(content)
        world.store.put(landing_key(NOW + HOUR, lines, content, is_late=False), content)
    run_hourly(world, 1)
    assert totals(world) == (2, 1, 0, 0)
    recover(world)
    check_books(world)


def test_memories_of_duplicates_are_merged_and_forget_nothing(world):
    messages = []
    for number in range(14):
        messages += [world.send(f"m{number}-{copy}", [measurement("a1", number)]) for copy in range(2)]
        world.consume()
        run_hourly(world, 1)
    assert 1 < len(world.committed().duplicates) <= 11
    assert sum(part.rows for part in world.committed().duplicates) == 14
    random.Random(2).shuffle(messages)
    deliver(world, *messages)
    assert totals(world) == (14, 14, 0, 0)
    recover(world)
    check_books(world)


def test_rows_of_several_days_are_handed_over_day_by_day(world):
    days = [measurement(sensor, -60 * 24 * day) for day in range(6) for sensor in ("a1", "b1")]
    world.send("m1", days)
    world.consume()
    run_hourly(world, 2)
    world.pass_time(DAY)
    run_hourly(world, 3)
    assert world.committed().spool == world.committed().entries == []
    folders = {key.split("/")[1] for key in world.store.list_keys("archive/")}
    assert folders == {f"date={NOW - day * DAY:%Y-%m-%d}" for day in range(6)}
    check_books(world)


def test_a_damaged_object_is_set_aside_whole_and_counts_when_its_good_lines_land_again(world):
    world.send("m1", [measurement("a1", 0)])
    world.consume()
    key = damaged_object(world)
    run_hourly(world, 3)
    assert totals(world) == (1, 0, 0, 3)
    (aside,) = world.quarantined()
    assert aside.rpartition("/")[2] == key.rpartition("/")[2]
    check_books(world)
    good = salvage_landing(world.store.get(aside))
    assert 0 < len(good) < 3
    content = encode_landing(good)
    for _ in range(2):
        world.store.put(landing_key(world.now, good, content, is_late=False), content)
        run_hourly(world, 1)
    assert totals(world) == (1 + len(good), 0, 0, 3)


def test_a_run_sweeps_what_older_numbers_have_left_once_a_week(world):
    def commit(number: int) -> None:
        world.send(f"m{number}", [measurement("a1", number)])
        world.consume()
        run_hourly(world, 1)

    commit(0)
    left = f"runs/{world.committed().run_id}/late.json"
    for number in range(1, 14):
        commit(number)
    world.store.put(left, b"{}")
    commit(14)
    assert left in world.store.s3.objects
    world.pass_time(7 * DAY)
    run_hourly(world, 2)
    assert left not in world.store.s3.objects
    check_books(world)


@pytest.mark.parametrize("interval_minutes", [1, 1_440])
def test_a_head_set_back_as_the_operations_page_tells_counts_again_what_has_landed_since(world, interval_minutes):
    world.settings = stage_settings(interval_minutes=interval_minutes)
    damaged_object(world)
    there, heads = set(), []
    for number in range(6):
        world.send(f"m{number}", [measurement("a1", number), measurement("b1", 0), measurement("a1", number)])
        world.consume()
        there = there | world.store.s3.objects.keys()
        run_hourly(world, 1)
        heads.append(world.committed().run_id)
        if number == 2:
            there = set(world.store.s3.objects)
    for key in [key for key in world.store.s3.objects if key.startswith("archive/")]:
        if run_number(key.split("/")[2].partition("_")[0]) > run_number(heads[2]):
            del world.store.s3.objects[key]
    for key in there:
        if key.startswith(("runs/", "landing/")):
            world.store.s3.objects[key] = world.store.s3.history[key]
    world.dynamodb.tables[LEDGER_TABLE]["head"]["run_id"] = {"S": heads[2]}
    recover(world)
    assert totals(world) == (7, 11, 0, 3)
    assert heads[2] in [manifest.run_id for manifest in world.committed_chain()]
    assert heads[3] not in [manifest.run_id for manifest in world.committed_chain()]
    check_books(world)
