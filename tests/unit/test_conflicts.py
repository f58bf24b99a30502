"""Two measurements of a sensor at the same time: which one counts, and whether they contradict each other."""

import pytest

from tests.factories import landed
from tests.unit.test_moving_average import play


def test_of_conflicting_measurements_the_one_queued_first_counts():
    temperatures = {5: 1.0, 3: 2.0, 4: 3.0}
    player = play([[landed(temperature=t, value=100 * t, queued_at_ms=queued) for queued, t in temperatures.items()]])
    report = player.reports()["a"]
    assert report.minutes[0].mean == 2.0
    assert (report.measurements, report.duplicates, report.conflicts) == (1, 2, 2)


def test_a_conflict_with_an_earlier_run_does_not_change_what_was_reported():
    player = play([[landed(value=1.0, queued_at_ms=5)], [landed(value=2.0, queued_at_ms=1)]])
    report = player.reports()["a"]
    assert (report.measurements, report.duplicates, report.conflicts) == (1, 1, 1)


@pytest.mark.parametrize(
    ("one", "other", "conflicts"),
    [
        ({"value": 1.0, "temperature": 20.0}, {"value": 1.0, "temperature": 21.0}, 0),
        ({"value": None, "temperature": 20.0}, {"value": 1.0, "temperature": 20.0}, 0),
        ({"value": 1.0, "temperature": 20.0}, {"value": None, "temperature": 21.0}, 1),
    ],
    ids=["same value under another curve", "a value is missing", "another temperature where a value is missing"],
)
@pytest.mark.parametrize("runs", [1, 2])
def test_a_conflict_is_one_of_values_where_both_are_known_else_of_temperatures(one, other, conflicts, runs):
    rows = [landed(**fields, queued_at_ms=queued) for queued, fields in enumerate((one, other))]
    report = play([rows] if runs == 1 else [[row] for row in rows]).reports()["a"]
    assert (report.measurements, report.duplicates, report.conflicts) == (1, 1, conflicts)
