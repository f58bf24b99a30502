"""The queue of due readings: order, one reading per sensor at a time, and an honest count of what is left."""

import itertools
import threading

from hypothesis import given
from hypothesis import strategies as st

from simulator.clock import Clock, Stopwatch
from simulator.due_queue import GRACE_US, PATIENCE_US, DueQueue
from simulator.faults import PlannedReading
from tests.fake_clock import FakeClock

END_US = 1_000


def reading(sensor_id, due_us):
    return PlannedReading(str(sensor_id), "1", 100.0, due_us, measured_us=due_us)


def queue_of(dues_by_sensor, elapsed_us=END_US):
    clock = FakeClock()
    stopwatch = Stopwatch(clock)
    clock.advance(elapsed_us / 1e6)
    fleet = [iter([reading(n, due) for due in dues]) for n, dues in enumerate(dues_by_sensor)]
    return DueQueue(fleet, END_US, stopwatch), clock


def dues(turns):
    return [turn.reading.due_us for turn in turns]


def take_all(queue):
    turns = []
    while taken := queue.take(1):
        turns += taken
        queue.finish(taken)
    return turns


@given(st.lists(st.lists(st.integers(0, END_US - 1), max_size=5).map(sorted), max_size=5))
def test_one_worker_gets_every_reading_once_in_the_order_of_due_times(dues_by_sensor):
    queue, _ = queue_of(dues_by_sensor)
    turns = take_all(queue)
    assert [turn.reading.due_us for turn in turns] == sorted(itertools.chain(*dues_by_sensor))
    assert [turn.number for turn in turns] == list(range(len(turns)))
    assert queue.count_left() == 0


def test_a_sensor_has_one_reading_under_way_at_a_time():
    queue, _ = queue_of([[1, 2], [3]])
    first, second = queue.take(1), queue.take(1)
    assert (first[0].reading.sensor_id, second[0].reading.sensor_id) == ("0", "1")
    queue.finish(first)
    assert dues(queue.take(1)) == [2]


def test_what_waits_longest_tells_how_far_behind_the_queue_is():
    queue, _ = queue_of([[400], [700]])
    assert queue.overdue_us() == END_US - 400
    queue.take(1)
    assert queue.overdue_us() == END_US - 700
    queue.take(1)
    assert queue.overdue_us() == 0
    assert queue_of([[END_US - 1]], elapsed_us=0)[0].overdue_us() == 0


def test_a_late_reading_is_told_by_how_much():
    queue, _ = queue_of([[400]])
    assert queue.take(1)[0].late_us == END_US - 400


def test_a_waiting_worker_gets_the_next_reading_of_a_sensor_that_comes_back():
    queue, _ = queue_of([[1, 2]])
    turns = queue.take(1)
    taken = []
    waiting = threading.Thread(target=lambda: taken.extend(queue.take(1)))
    waiting.start()
    queue.finish(turns)
    waiting.join(timeout=10)
    assert dues(taken) == [2]


def test_closing_releases_all_waiting_workers():
    hour_us = 3_600_000_000
    queue = DueQueue([iter([reading(0, due_us=hour_us)])], hour_us, Stopwatch(Clock()))
    taken = []
    workers = [threading.Thread(target=lambda: taken.append(queue.take(1))) for _ in range(3)]
    for worker in workers:
        worker.start()
    queue.close()
    for worker in workers:
        worker.join(timeout=10)
    assert taken == [[], [], []]


def test_readings_due_before_the_end_are_sent_within_the_grace_and_not_after_it():
    queue, clock = queue_of([[1], [2], [3]], elapsed_us=END_US + GRACE_US)
    assert dues(queue.take(1)) == [1]
    clock.advance(1e-6)
    assert queue.take(1) == []
    assert queue.count_left() == 2


def test_readings_that_were_not_yet_due_when_interrupted_do_not_count_as_left():
    queue, _ = queue_of([[1, 2, 600], [3, 700], [800]], elapsed_us=500)
    queue.finish(queue.take(1))
    queue.close()
    assert queue.count_left() == 2


@given(st.lists(st.lists(st.integers(0, END_US - 1), max_size=5).map(sorted), max_size=5), st.integers(1, 4))
def test_batches_have_every_reading_once_and_a_sensor_at_most_once_each(dues_by_sensor, count):
    queue, _ = queue_of(dues_by_sensor)
    batches = []
    while turns := queue.take(count):
        batches.append(turns)
        queue.finish(turns)
    for turns in batches:
        assert len({turn.rank for turn in turns}) == len(turns) <= count
    taken = sorted(turn.reading.due_us for turns in batches for turn in turns)
    assert taken == sorted(itertools.chain(*dues_by_sensor))


def test_a_batch_that_does_not_fill_goes_after_a_while():
    fleet = [iter([reading(0, due_us=0)]), iter([reading(1, due_us=100 * PATIENCE_US)])]
    clock = FakeClock()
    queue = DueQueue(fleet, 200 * PATIENCE_US, Stopwatch(clock))
    assert dues(queue.take(2)) == [0]
    assert clock.seconds() * 1e6 == PATIENCE_US


def test_a_batch_that_no_sensor_is_left_for_goes_at_once():
    queue, _ = queue_of([[1, 700], [2]], elapsed_us=500)
    assert dues(queue.take(10)) == [1, 2]
