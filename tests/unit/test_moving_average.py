"""The reports' figures against a naive oracle, however the measurements are shared out over runs."""

from collections import Counter
from datetime import datetime

import duckdb
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from chalicelib.fields import format_time
from chalicelib.ledger import Counts, state_key
from tests.factories import HOUR, MINUTE, NOW, landed
from tests.oracle import expected_minutes
from tests.runs import land, new_player
from tests.strategies import whole_runs

HISTORY_HOURS = 2
WINDOW_MINUTES = 5
EXAMPLES = whole_runs(8)
DELIVERIES = st.none() | st.integers(0, 2)


def play(runs, **settings):
    """Land the measurements of each run and play it; return the player after all of them."""
    player = new_player(**{"window_minutes": WINDOW_MINUTES, "history_hours": HISTORY_HOURS, **settings})
    for number, measurements in enumerate(runs):
        if measurements:
            land(player, *measurements, number=number)
        assert player.run(f"run-{number}", NOW + number * MINUTE).status == "SUCCEEDED"
    return player


def minutes(player):
    return {location: report.minutes for location, report in player.reports().items()}


def encoded(player):
    """The minutes of each location as bytes."""
    return {location: msgspec.json.encode(rows) for location, rows in minutes(player).items()}


def assert_close(actual, expected):
    assert actual.keys() == expected.keys()
    for location in expected:
        assert [minute.timestamp for minute in actual[location]] == [minute.timestamp for minute in expected[location]]
        for one, other in zip(actual[location], expected[location], strict=True):
            # Twelve places are kept, of which all that follows is made.
            assert (one.count, one.min, one.max) == pytest.approx((other.count, other.min, other.max), abs=1e-12)
            assert one.mean == pytest.approx(other.mean, abs=1e-9, rel=0)
            assert one.moving_average == pytest.approx(other.moving_average, abs=1e-9, rel=0)


# Locations may name their sensors alike.
SENSORS = [("a", "1"), ("a", "2"), ("..:b", "1")]
# Zero has one sign here: the test below is about the other.
TEMPERATURES = st.floats(-50, 450).map(lambda temperature: temperature + 0.0)


@st.composite
def measurement_lists(draw):
    """Measurements inside one history: around minute borders, out of order, some of them several times.

    A sensor measures one temperature at a time: repeats are true duplicates, not conflicts.
    """
    keys = st.tuples(
        st.sampled_from(SENSORS),
        st.integers(0, 40),
        st.sampled_from([0, 1, 500, 30_000, 59_999]),
    )
    temperatures = draw(st.dictionaries(keys, TEMPERATURES, min_size=1, max_size=25))
    order = draw(st.lists(st.sampled_from(sorted(temperatures)), max_size=10)) + draw(
        st.permutations(sorted(temperatures))
    )
    return [
        landed(
            place[1], place[0], temperatures[place, minute, ms], NOW - minute * MINUTE + ms * MINUTE / 60_000,
            queued_at_ms=number,
        )
        for number, (place, minute, ms) in enumerate(order)
    ]  # fmt: skip


@settings(max_examples=EXAMPLES)
@given(measurement_lists(), st.integers(1, 7))
def test_minutes_and_moving_averages_are_those_of_the_naive_definition(measurements, window_minutes):
    player = play([measurements], window_minutes=window_minutes)
    assert_close(minutes(player), expected_minutes(measurements, window_minutes, HISTORY_HOURS))


@settings(max_examples=EXAMPLES)
@given(measurement_lists(), st.data())
def test_any_partition_into_runs_gives_the_same_bytes_and_counts_as_one_run(measurements, data):
    run_of_each = data.draw(
        st.lists(st.integers(0, 2), min_size=len(measurements), max_size=len(measurements)), label="run of each"
    )
    runs = [[one for one, run in zip(measurements, run_of_each, strict=True) if run == number] for number in range(3)]
    at_once, in_parts = play([measurements]), play(runs)
    assert encoded(in_parts) == encoded(at_once)
    for location, whole in at_once.reports().items():
        part = in_parts.reports()[location]
        for field in ("sensors", "measurements", "duplicates", "conflicts"):
            assert getattr(part, field) == getattr(whole, field), field
        assert whole.late == 0 <= part.late <= part.measurements, "late is what comes after a run"
    assert structs.replace(in_parts.committed().totals, late=0) == at_once.committed().totals


@st.composite
def runs_of_two_places(draw):
    """Runs of measurements at (place, sensor, time), with conflicts and what the queue delivers again."""
    measurements = st.builds(
        landed,
        sensor_id=st.sampled_from(["1", "2"]),
        location_id=st.sampled_from(["a", "b"]),
        temperature=st.sampled_from([1.0, 2.0]),
        timestamp=st.integers(-2, 0).map(lambda minute: NOW + minute * MINUTE),
        queued_at_ms=st.integers(0, 1),
    )
    delivered = st.builds(lambda one, delivery: structs.replace(one, delivery=delivery), measurements, DELIVERIES)
    return draw(st.lists(st.lists(delivered, max_size=12), min_size=1, max_size=3))


@settings(max_examples=EXAMPLES)
@given(runs_of_two_places())
def test_each_of_two_locations_that_name_their_sensors_alike_gets_what_it_gets_alone(runs):
    together = play(runs).reports() if any(runs) else {}
    for location in ("a", "b"):
        own = [[one for one in measurements if one.location_id == location] for measurements in runs]
        alone = play(own).reports() if any(own) else {}
        assert figures(together.get(location)) == figures(alone.get(location))


def figures(report):
    """What a report says, apart from the run that wrote it."""
    return report and structs.replace(report, run_id="", generated_at="")


@settings(max_examples=EXAMPLES)
@given(
    st.lists(
        st.lists(
            st.builds(
                landed,
                sensor_id=st.sampled_from(["1", "2"]),
                location_id=st.sampled_from(["a", "b"]),
                temperature=st.sampled_from([1.0, 2.0]),
                timestamp=st.integers(-6 * 60, 0).map(lambda minute: NOW + minute * MINUTE),
                queued_at_ms=st.none() | st.integers(0, 3),
            ),
            max_size=10,
        ),
        max_size=4,
    )
)
def test_in_every_location_the_books_balance_and_late_is_what_came_behind_a_newer_minute(runs):
    player = play(runs)
    arrived = [one for measurements in runs for one in measurements]
    reports = player.reports() if arrived else {}
    assert reports.keys() == {one.location_id for one in arrived}
    for location, report in reports.items():
        assert report.measurements + report.duplicates == sum(one.location_id == location for one in arrived)
        assert 0 <= report.conflicts <= report.duplicates
    totals = player.committed().totals
    assert (totals.measurements + totals.duplicates, totals.quarantined) == (len(arrived), 0)
    late = late_by_location(runs)
    assert {location: report.late for location, report in reports.items()} == {
        location: late[location] for location in reports
    }
    assert totals.late == sum(late.values())


def late_by_location(runs):
    """Count what is new in a run and lies before the newest minute that its location had before it."""
    newest, counted, late = {}, set(), Counter()
    for measurements in runs:
        new = {(one.location_id, one.sensor_id, one.timestamp) for one in measurements} - counted
        late.update(location for location, _, time in new if time < newest.get(location, time))
        counted |= new
        for location, _, time in new:
            newest[location] = max(time, newest.get(location, time))
    return late


@settings(max_examples=EXAMPLES)
@given(st.lists(st.integers(0, 7 * 60), min_size=1, max_size=30, unique=True), st.integers(1, 5))
def test_each_minute_of_the_last_hours_is_right_while_old_ones_are_forgotten(minutes_passed, per_run):
    """In order of time over several histories, of which much is forgotten, and nothing is late."""
    measurements = [
        landed(timestamp=NOW + minute * MINUTE, temperature=minute / 7) for minute in sorted(minutes_passed)
    ]
    player = play([measurements[start : start + per_run] for start in range(0, len(measurements), per_run)])
    assert_close(minutes(player), expected_minutes(measurements, WINDOW_MINUTES, HISTORY_HOURS))
    assert player.committed().totals == Counts(measurements=len(measurements))


def test_what_is_remembered_of_a_location_is_what_its_next_report_may_need(tmp_path):
    """A minute with a sensor of its own each: the history's, and what the first windows reach back to."""
    history_minutes = 60 * HISTORY_HOURS
    every_minute = [landed(str(minute), timestamp=NOW + minute * MINUTE) for minute in range(2 * history_minutes)]
    player = play([every_minute[:history_minutes], every_minute[history_minutes:]])
    state = tmp_path / "state.parquet"
    state.write_bytes(player.store.get(state_key(player.committed().reports["a"])))
    (remembered,) = duckdb.execute(f"SELECT len(minutes), len(sensors) FROM '{state}'").fetchall()
    assert remembered == (history_minutes + WINDOW_MINUTES - 1, history_minutes)
    assert player.reports()["a"].sensors == len(player.reports()["a"].minutes) == history_minutes


def test_a_state_without_the_counts_that_came_later_is_added_to(tmp_path):
    player = play([[landed("1")]])
    key = state_key(player.committed().reports["a"])
    written, earlier = tmp_path / "written.parquet", tmp_path / "earlier.parquet"
    written.write_bytes(player.store.get(key))
    duckdb.execute(
        f"COPY (SELECT * EXCLUDE (late, quarantined, invalid) FROM '{written}') TO '{earlier}' (FORMAT parquet)"
    )
    player.store.put(key, earlier.read_bytes())
    land(player, landed("2"), number=1)
    player.run("next", NOW + MINUTE)
    assert (player.reports()["a"].measurements, player.reports()["a"].late) == (2, 0)


def test_the_sign_of_zero_makes_no_difference_between_one_run_and_two():
    plus, minus = landed("1", temperature=0.0), landed("2", temperature=-0.0)
    partitions = ([[plus, minus]], [[plus], [minus]], [[minus], [plus]])
    assert len({encoded(play(runs))["a"] for runs in partitions}) == 1


def test_the_window_reaches_back_over_the_border_of_runs_and_of_the_history():
    newest = NOW
    oldest_of_history = NOW - HISTORY_HOURS * HOUR + MINUTE
    runs = [
        [landed(timestamp=oldest_of_history - 4 * MINUTE, temperature=10.0)],
        [landed(timestamp=oldest_of_history, temperature=20.0)],
        [landed(timestamp=newest, temperature=30.0)],
    ]
    first, last = minutes(play(runs))["a"]
    assert (first.timestamp, first.mean, first.moving_average) == (format_time(oldest_of_history), 20.0, 15.0)
    assert (last.timestamp, last.mean, last.moving_average) == (format_time(newest), 30.0, 30.0)


@pytest.mark.parametrize(
    ("age", "late", "shown"),
    [(0 * MINUTE, 0, 1), (MINUTE, 1, 2), (HISTORY_HOURS * HOUR, 1, 1), (24 * HOUR, 1, 1), (30 * 24 * HOUR, 1, 1)],
)
def test_a_measurement_older_than_minutes_that_were_reported_counts_and_is_called_late(age, late, shown):
    player = play([[landed(timestamp=NOW)], [landed("2", timestamp=NOW - age)]])
    report = player.reports()["a"]
    assert (report.late, report.measurements) == (late, 2)
    assert len(report.minutes) == shown
    assert (player.committed().totals.measurements, player.committed().totals.late) == (2, late)


def test_a_late_measurement_inside_the_history_corrects_its_minute_and_the_windows_over_it():
    in_time = [landed(timestamp=NOW - minute * MINUTE, temperature=20.0) for minute in (0, 3, 8)]
    player = play([in_time, [landed("2", timestamp=NOW - 3 * MINUTE, temperature=26.0)]])
    by_age = {int((NOW - datetime.fromisoformat(minute.timestamp)) / MINUTE): minute for minute in minutes(player)["a"]}
    assert by_age.keys() == {0, 3, 8}, "minutes without data are absent"
    assert (by_age[3].count, by_age[3].mean, by_age[3].moving_average) == (2, 23.0, 23.0)
    assert by_age[0].moving_average == pytest.approx(22.0)
    assert by_age[8].moving_average == 20.0


@pytest.mark.parametrize("rows_at_a_time", [9, 25])
def test_duplicates_are_dropped_the_same_way_when_they_do_not_fit_into_memory_at_once(monkeypatch, rows_at_a_time):
    measurements = [
        landed(str(number % 7), temperature=float(number), timestamp=NOW - (number % 5) * MINUTE, queued_at_ms=number)
        for number in range(60)
    ]
    at_once = play([measurements[:40], measurements[40:]])
    monkeypatch.setattr("chalicelib.analytics.deduplication._ROWS_PER_BUCKET", rows_at_a_time)
    monkeypatch.setattr("chalicelib.analytics.deduplication._LOCATIONS_PER_COPY", 1)
    in_buckets = play([measurements[:40], measurements[40:]])
    assert encoded(in_buckets) == encoded(at_once)
    assert in_buckets.committed().totals == at_once.committed().totals


def test_sensors_are_those_that_measured_within_the_history():
    runs = [[landed("old", timestamp=NOW - 3 * HOUR)], [landed("new", timestamp=NOW), landed("also", timestamp=NOW)]]
    assert play(runs).reports()["a"].sensors == 2
    assert play(runs[:1]).reports()["a"].sensors == 1
