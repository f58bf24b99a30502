"""Whatever the times and settings, every part of the spool is handed over in one entry, and in time."""

from datetime import timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from chalicelib.analytics.entries import archived_through, decide_entries, read_archive_key
from chalicelib.fields import format_time
from chalicelib.ledger import NO_MANIFEST, Entry, Part, run_number
from chalicelib.settings import ArchiveSettings
from tests.archives import HOURLY, decide, run_id
from tests.factories import DAY, HOUR, MINUTE, NOW

SECOND = timedelta(seconds=1)
MILLISECOND = timedelta(milliseconds=1)


def settings(interval_minutes=60, entry_rows=5_000_000):
    return ArchiveSettings(interval_minutes, entry_rows)


def part(name="1", rows=10, first=NOW, last=None, number=1):
    span = [f"{time:%Y%m%dT%H%M%SZ}" for time in (first, last or first)]
    return Part(f"runs/{run_id(number)}/spool/{name}.parquet", rows, *span, "0of1")


def in_order(parts):
    return sorted(parts, key=lambda one: one.key)


def parts_of(entries):
    return [one for entry in entries for one in entry.parts]


def test_the_first_run_in_an_interval_hands_over_all_parts_of_current_days():
    free = [part("1"), part("2", first=NOW - MINUTE)]
    decided = decide(free, NOW + HOUR, handed_over_at=format_time(NOW + HOUR - MILLISECOND))
    assert [in_order(entry.parts) for entry in decided.entries] == [in_order(free)]
    assert (decided.spool, decided.handed_over_at) == ([], format_time(NOW + HOUR))


def test_the_others_hand_over_nothing():
    for handed_over_at in (NOW, NOW + 59 * MINUTE):
        decided = decide([part()], NOW + 59 * MINUTE, handed_over_at=format_time(handed_over_at))
        assert decided.entries == []
        assert (decided.spool, decided.handed_over_at) == ([part()], format_time(handed_over_at))


@pytest.mark.parametrize("minutes", [1, 10, 60, 1_440])
def test_intervals_are_counted_from_midnight(minutes):
    midnight = NOW.replace(hour=0)
    before = format_time(midnight - MILLISECOND)
    current = part(first=midnight)
    assert decide([current], midnight, before, settings=settings(minutes)).entries
    end = midnight + minutes * MINUTE
    again = decide([current], end - MILLISECOND, format_time(midnight), settings=settings(minutes))
    assert (again.entries, again.spool) == ([], [current])
    assert decide([current], end, format_time(midnight), settings=settings(minutes)).entries


def test_a_run_with_nothing_to_hand_over_leaves_the_interval_to_the_next():
    assert decide([]) == ([], [], NO_MANIFEST.handed_over_at, NO_MANIFEST.late_handed_over_at)


def test_parts_of_past_days_wait_for_the_first_run_of_a_day():
    today = NOW.replace(hour=0)
    late = [part("1", first=NOW - 2 * DAY), part("2", first=NOW - 5 * DAY), part("3", first=NOW - 2 * DAY)]
    before = decide(late, today + 23 * HOUR, late_handed_over_at=format_time(today))
    assert (before.entries, before.spool) == ([], late)
    decided = decide(late, today + 24 * HOUR, late_handed_over_at=format_time(today))
    assert [entry.key.split("/")[1] for entry in decided.entries] == ["date=2026-02-24", "date=2026-02-27"]
    assert decided.spool == []
    assert decided.late_handed_over_at == format_time(today + 24 * HOUR)
    assert decided.handed_over_at == NO_MANIFEST.handed_over_at


def test_a_hundred_parts_of_a_past_day_do_not_wait_and_leave_those_of_other_days_alone():
    many = [part(str(number), first=NOW - 2 * DAY) for number in range(100)]
    others = [part(f"other-{number}", first=NOW - 3 * DAY) for number in range(99)]
    handed_over = format_time(NOW - MINUTE)
    assert decide([*many[1:], *others], late_handed_over_at=handed_over).entries == []
    decided = decide([*many, *others], late_handed_over_at=handed_over)
    assert (in_order(parts_of(decided.entries)), decided.spool) == (in_order(many), others)
    assert decided.late_handed_over_at == handed_over


def test_a_day_is_current_for_three_hours_after_its_end():
    yesterday = part(first=NOW.replace(hour=0) - MINUTE)
    in_time, later = NOW.replace(hour=2, minute=59), NOW.replace(hour=3, minute=1)
    times = {"handed_over_at": format_time(NOW - DAY), "late_handed_over_at": format_time(NOW.replace(hour=0))}
    assert decide([yesterday], in_time, **times).entries
    assert decide([yesterday], later, **times).entries == []


def test_what_waits_since_its_day_was_current_does_not_wait_for_the_next_day():
    today = NOW.replace(hour=0)
    yesterday = part(first=today - MINUTE)
    outage = {"started_at": today + 20 * HOUR, "late_handed_over_at": format_time(today)}
    assert decide([yesterday], **outage, previous_at=today + HOUR).entries
    assert decide([yesterday], **outage, previous_at=today + 4 * HOUR).entries == []


def test_what_comes_when_its_day_is_past_waits_though_the_run_before_was_in_time():
    own, earlier = part("own", first=NOW - DAY), part("earlier", first=NOW - DAY)
    previous = structs.replace(
        NO_MANIFEST,
        created_at=format_time(NOW.replace(hour=2)),
        spool=[earlier],
        late_handed_over_at=format_time(NOW.replace(hour=0)),
    )
    decided = decide_entries(previous, [own], HOURLY, run_id(12), NOW.replace(hour=4))
    assert (parts_of(decided.entries), decided.spool) == ([earlier], [own])


def test_the_runs_own_parts_are_handed_over_with_those_of_earlier_runs():
    own, earlier = part("own"), part("earlier")
    previous = structs.replace(NO_MANIFEST, created_at=format_time(NOW), spool=[earlier])
    (entry,) = decide_entries(previous, [own], HOURLY, run_id(12), NOW).entries
    assert in_order(entry.parts) == [earlier, own]
    assert entry.decided_at == format_time(NOW)


def test_an_entry_is_of_one_day_and_shard_and_its_key_tells_the_range_of_its_rows():
    free = [
        part("1", 10, NOW, NOW + 3 * HOUR),
        part("2", 20, NOW - HOUR, NOW + HOUR),
        Part("runs/x/spool/3.parquet", 30, "20260301T000000Z", "20260301T000000Z", "1of2"),
        part("4", 40, NOW - DAY),
    ]
    decided = decide(free, NOW)
    assert [(entry.key, entry.rows) for entry in decided.entries] == [
        (f"archive/date=2026-02-28/{run_id(12)}_20260228T120000Z_20260228T120000Z_0of1_0.parquet", 40),
        (f"archive/date=2026-03-01/{run_id(12)}_20260301T110000Z_20260301T150000Z_0of1_1.parquet", 30),
        (f"archive/date=2026-03-01/{run_id(12)}_20260301T000000Z_20260301T000000Z_1of2_2.parquet", 30),
    ]


def test_entries_have_no_more_rows_than_the_settings_allow_unless_one_part_has():
    sizes = [700, 400, 600, 1_000, 5_000, 1]
    free = [part(str(number), rows, NOW + number * SECOND) for number, rows in enumerate(sizes)]
    decided = decide(free, settings=settings(entry_rows=1_000))
    assert [[one.rows for one in entry.parts] for entry in decided.entries] == [
        [700], [400, 600], [1_000], [5_000], [1],
    ]  # fmt: skip


def test_the_key_of_an_entry_is_read_back():
    (entry,) = decide([part(first=NOW, last=NOW + SECOND)]).entries
    name = read_archive_key(entry.key)
    assert run_number(name.run_id) == 12
    assert name[1:] == ("20260301T120000Z", "20260301T120001Z", "0of1")


@pytest.mark.parametrize("key", ["archive/date=2026-03-01/", "archive/date=2026-03-01/own.parquet", "archive/x"])
def test_what_no_run_has_written_has_no_name(key):
    assert read_archive_key(key) is None


@given(
    st.lists(
        st.tuples(
            st.integers(0, 40 * 60),  # minutes since the last run
            st.lists(st.tuples(st.integers(0, 8 * 24), st.integers(1, 3_000)), max_size=5),  # hours old, rows
            st.sampled_from([1, 10, 60, 1_440]),
            st.sampled_from([1_000, 5_000, 5_000_000]),
        ),
        max_size=12,
    )
)
def test_whatever_the_times_and_settings_every_part_is_in_the_spool_or_in_one_entry(runs):
    now, made, entries, spool = NOW, [], [], []
    handed_over_at, late_handed_over_at = NO_MANIFEST.handed_over_at, NO_MANIFEST.late_handed_over_at
    for number, (minutes, new, interval, rows_max) in enumerate(runs, start=1):
        now += minutes * MINUTE
        own = [part(f"{i}", rows, now - age * HOUR, number=number) for i, (age, rows) in enumerate(new)]
        made += own
        before = [*spool, *own]
        decided = decide(before, now, handed_over_at, late_handed_over_at, settings(interval, rows_max), number)
        entries += decided.entries
        assert in_order([*decided.spool, *parts_of(decided.entries)]) == in_order(before)
        for entry in decided.entries:
            assert entry.rows == sum(one.rows for one in entry.parts)
            assert entry.rows <= rows_max or len(entry.parts) == 1
            assert {f"archive/date={one.date}" for one in entry.parts} == {entry.key.rpartition("/")[0]}
            name = read_archive_key(entry.key)
            assert name.first == min(one.first for one in entry.parts)
            assert name.last == max(one.last for one in entry.parts)
        spool, handed_over_at, late_handed_over_at = decided[1:]
    assert in_order([*spool, *parts_of(entries)]) == in_order(made)
    assert len({entry.key for entry in entries}) == len(entries)
    # Another day of runs, and nothing is left behind.
    for later in range(1, 28):
        spool, handed_over_at, late_handed_over_at = decide(
            spool, now + later * HOUR, handed_over_at, late_handed_over_at
        )[1:]
    assert spool == []


def test_what_waits_in_spool_or_entries_bounds_what_is_archived():
    waiting = Entry("archive/x", [part(number=7), part(number=5)], 20, format_time(NOW))
    assert archived_through([], [], run_id(9)) == 9
    assert archived_through([part(number=9)], [], run_id(9)) == 8
    assert archived_through([part(number=9)], [waiting], run_id(9)) == 4
    assert archived_through([part(number=1)], [], run_id(9)) == 0


def test_times_of_any_zone_are_the_utc_that_they_mean():
    started_at = NOW.replace(hour=20)
    elsewhere = started_at.astimezone(timezone(9 * HOUR))
    late = [part(first=NOW - DAY)]
    times = {"late_handed_over_at": format_time(NOW)}
    assert elsewhere.date() != started_at.date()
    assert decide(late, elsewhere, **times) == decide(late, started_at, **times)
