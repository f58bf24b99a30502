"""Spool and archive: every row in one part, every part in one entry, every entry one file with the rows of its parts."""

from datetime import timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.analytics.archive import archived_through, carry_out, decide_entries, read_archive_key, write_parts
from chalicelib.analytics.duckdb_session import duckdb_session
from chalicelib.errors import ObjectNotFoundError
from chalicelib.fields import format_time
from chalicelib.ledger import NO_MANIFEST, Entry, Part, run_number
from chalicelib.settings import ArchiveSettings
from tests.archives import MEMORY_LIMIT_MB, Row, as_archived, make_table, put_parts, read_parquet, run_id
from tests.factories import DAY, HOUR, MINUTE, NOW, ODD_IDS
from tests.fake_s3 import FakeObjectStore

NOON = NOW.replace(tzinfo=None)
SECOND = timedelta(seconds=1)
MILLISECOND = timedelta(milliseconds=1)
HOURLY = ArchiveSettings(interval_minutes=60, entry_rows=5_000_000)


@pytest.fixture
def store():
    return FakeObjectStore()


def settings(interval_minutes=60, entry_rows=5_000_000):
    return ArchiveSettings(interval_minutes, entry_rows)


def part(name="1", rows=10, first=NOW, last=None, number=1):
    span = [f"{time:%Y%m%dT%H%M%SZ}" for time in (first, last or first)]
    return Part(f"runs/{run_id(number)}/spool/{name}.parquet", rows, *span, "0of1")


def decide(free, started_at=NOW, handed_over_at=None, late_handed_over_at=None, settings=HOURLY, number=12):
    never = NO_MANIFEST.handed_over_at
    return decide_entries(
        free, settings, run_id(number), started_at, handed_over_at or never, late_handed_over_at or never
    )


rows_of_days = st.lists(
    st.builds(
        Row,
        location_id=st.sampled_from(ODD_IDS[:4]),
        sensor_id=st.sampled_from(ODD_IDS[:6]),
        measured_at=st.builds(
            lambda day, second, millisecond: NOON + day * DAY + second * SECOND + millisecond * MILLISECOND,
            st.integers(-2, 0), st.integers(0, 4), st.integers(0, 3),
        ),
    ),
    unique_by=lambda row: row[:3],
    max_size=60,
)  # fmt: skip


class TestParts:
    """What a run puts into the spool."""

    def test_a_part_has_the_columns_and_types_that_the_archive_has(self, store):
        odd = Row("b", "2", NOON + MILLISECOND, None, Decimal("-12.000000000001"), "OK", None, None)
        (written,) = put_parts(store, 12, [odd, Row()])
        assert read_parquet(store, written.key) == [as_archived(Row(), 12), as_archived(odd, 12)]
        with duckdb_session(MEMORY_LIMIT_MB) as (connection, folder):
            (folder / "part").write_bytes(store.get(written.key))
            columns = connection.execute(f"DESCRIBE FROM read_parquet('{folder}/part')").fetchall()
            stored = connection.execute(
                "SELECT type, logical_type, converted_type FROM parquet_schema(?) WHERE name = 'measured_at'",
                [str(folder / "part")],
            ).fetchall()
        assert [column[:2] for column in columns] == [
            ("location_id", "VARCHAR"), ("sensor_id", "VARCHAR"), ("measured_at", "TIMESTAMP"), ("value", "DOUBLE"),
            ("temperature", "DECIMAL(18,12)"), ("status", "VARCHAR"), ("queued_after_ms", "BIGINT"), ("run", "BIGINT"),
            ("delivery", "INTEGER"),
        ]  # fmt: skip
        # Athena reads milliseconds.
        assert stored[0][0] == "INT64"
        assert "MILLIS" in f"{stored[0][1]} {stored[0][2]}"

    def test_a_part_is_named_after_its_run_and_tells_its_rows_and_its_first_and_last_second(self, store):
        rows = [Row(sensor_id=str(number), measured_at=NOON + number * 900 * MILLISECOND) for number in range(5)]
        assert put_parts(store, 12, rows) == [
            Part(f"runs/{run_id(12)}/spool/try/0000.parquet", 5, "20260301T120000Z", "20260301T120003Z", "0of1")
        ]

    def test_no_rows_are_no_part(self, store):
        assert put_parts(store, 12, []) == []
        assert store.s3.objects == {}

    @given(rows_of_days, st.integers(1, 9))
    def test_every_row_is_in_one_part_of_its_day_in_order_and_no_part_is_too_large(self, rows, entry_rows):
        store = FakeObjectStore()
        parts = put_parts(store, 12, rows, entry_rows)
        found = []
        for one in parts:
            content = read_parquet(store, one.key)
            assert len(content) == one.rows <= entry_rows
            keys = [row[:3] for row in content]
            assert keys == sorted(keys)
            seconds = [f"{measured_at:%Y%m%dT%H%M%SZ}" for _, _, measured_at in keys]
            assert (one.first, one.last) == (min(seconds), max(seconds))
            assert {f"{measured_at:%Y-%m-%d}" for _, _, measured_at in keys} == {one.date}
            found += content
        assert sorted(found, key=lambda row: row[:3]) == sorted(
            (as_archived(row, 12) for row in rows), key=lambda row: row[:3]
        )
        assert len({one.key for one in parts}) == len(parts)

    @given(rows_of_days, st.integers(1, 9))
    def test_rows_that_fit_into_one_part_are_in_one_part_for_each_day(self, rows, spare):
        days = {row.measured_at.date() for row in rows}
        assert len(put_parts(FakeObjectStore(), 12, rows, len(rows) + spare)) == len(days)

    def test_a_part_of_many_row_groups_is_in_order(self, store):
        with duckdb_session(MEMORY_LIMIT_MB) as (connection, folder):
            make_table(connection, [Row()])
            connection.execute(
                """
                INSERT INTO incoming BY NAME
                SELECT '1' AS location_id, (hash(i) % 100)::VARCHAR AS sensor_id, 1.5 AS value, 35.0 AS temperature,
                       TIMESTAMP '2026-03-01 00:00:00' + to_milliseconds(i) AS measured_at, 'OK' AS status
                FROM range(100000) AS rows(i)
                """
            )
            (written,) = write_parts(connection, store, "incoming", "runs/x/spool/y", 12, 5_000_000, folder)
        keys = read_parquet(store, written.key, "location_id, sensor_id, measured_at")
        assert (len(keys), keys) == (100_001, sorted(keys))


class TestEntries:
    """What a manifest decides to hand over."""

    def test_the_first_run_in_an_interval_hands_over_all_parts_of_current_days(self):
        free = [part("1"), part("2", first=NOW - MINUTE)]
        decided = decide(free, NOW + HOUR, handed_over_at=format_time(NOW + HOUR - MILLISECOND))
        assert [sorted(entry.parts) for entry in decided.entries] == [sorted(free)]
        assert (decided.spool, decided.handed_over_at) == ([], format_time(NOW + HOUR))

    def test_the_others_hand_over_nothing(self):
        for handed_over_at in (NOW, NOW + 59 * MINUTE):
            decided = decide([part()], NOW + 59 * MINUTE, handed_over_at=format_time(handed_over_at))
            assert decided.entries == []
            assert (decided.spool, decided.handed_over_at) == ([part()], format_time(handed_over_at))

    @pytest.mark.parametrize("minutes", [1, 10, 60, 1_440])
    def test_intervals_are_counted_from_midnight(self, minutes):
        midnight = NOW.replace(hour=0)
        before = format_time(midnight - MILLISECOND)
        current = part(first=midnight)
        assert decide([current], midnight, before, settings=settings(minutes)).entries
        end = midnight + minutes * MINUTE
        again = decide([current], end - MILLISECOND, format_time(midnight), settings=settings(minutes))
        assert (again.entries, again.spool) == ([], [current])
        assert decide([current], end, format_time(midnight), settings=settings(minutes)).entries

    def test_a_run_with_nothing_to_hand_over_leaves_the_interval_to_the_next(self):
        assert decide([]) == ([], [], NO_MANIFEST.handed_over_at, NO_MANIFEST.late_handed_over_at)

    def test_parts_of_past_days_wait_for_the_first_run_of_a_day(self):
        today = NOW.replace(hour=0)
        late = [part("1", first=NOW - 2 * DAY), part("2", first=NOW - 5 * DAY), part("3", first=NOW - 2 * DAY)]
        before = decide(late, today + 23 * HOUR, late_handed_over_at=format_time(today))
        assert (before.entries, before.spool) == ([], late)
        decided = decide(late, today + 24 * HOUR, late_handed_over_at=format_time(today))
        assert [entry.key.split("/")[1] for entry in decided.entries] == ["date=2026-02-24", "date=2026-02-27"]
        assert decided.spool == []
        assert decided.late_handed_over_at == format_time(today + 24 * HOUR)
        assert decided.handed_over_at == NO_MANIFEST.handed_over_at

    def test_a_hundred_parts_of_past_days_do_not_wait(self):
        late = [part(str(number), first=NOW - 2 * DAY) for number in range(100)]
        handed_over = format_time(NOW - MINUTE)
        assert decide(late[1:], late_handed_over_at=handed_over).spool == late[1:]
        assert decide(late, late_handed_over_at=handed_over).spool == []

    def test_a_day_is_current_for_three_hours_after_its_end(self):
        yesterday = part(first=NOW.replace(hour=0) - MINUTE)
        in_time, later = NOW.replace(hour=2, minute=59), NOW.replace(hour=3, minute=1)
        times = {"handed_over_at": format_time(NOW - DAY), "late_handed_over_at": format_time(NOW.replace(hour=0))}
        assert decide([yesterday], in_time, **times).entries
        assert decide([yesterday], later, **times).entries == []

    def test_an_entry_is_of_one_day_and_shard_and_its_key_tells_the_range_of_its_rows(self):
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

    def test_entries_have_no_more_rows_than_the_settings_allow_unless_one_part_has(self):
        sizes = [700, 400, 600, 1_000, 5_000, 1]
        free = [part(str(number), rows, NOW + number * SECOND) for number, rows in enumerate(sizes)]
        decided = decide(free, settings=settings(entry_rows=1_000))
        assert [[one.rows for one in entry.parts] for entry in decided.entries] == [
            [700], [400, 600], [1_000], [5_000], [1],
        ]  # fmt: skip

    def test_the_key_of_an_entry_is_read_back(self):
        (entry,) = decide([part(first=NOW, last=NOW + SECOND)]).entries
        name = read_archive_key(entry.key)
        assert run_number(name.run_id) == 12
        assert name[1:] == ("20260301T120000Z", "20260301T120001Z", "0of1")

    @pytest.mark.parametrize("key", ["archive/date=2026-03-01/", "archive/date=2026-03-01/own.parquet", "archive/x"])
    def test_what_no_run_has_written_has_no_name(self, key):
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
    def test_whatever_the_times_and_settings_every_part_is_in_the_spool_or_in_one_entry(self, runs):
        now, made, entries, spool = NOW, [], [], []
        handed_over_at, late_handed_over_at = NO_MANIFEST.handed_over_at, NO_MANIFEST.late_handed_over_at
        for number, (minutes, new, interval, rows_max) in enumerate(runs, start=1):
            now += minutes * MINUTE
            own = [part(f"{i}", rows, now - age * HOUR, number=number) for i, (age, rows) in enumerate(new)]
            made += own
            before = [*spool, *own]
            decided = decide(before, now, handed_over_at, late_handed_over_at, settings(interval, rows_max), number)
            entries += decided.entries
            assert sorted([*decided.spool, *(one for entry in decided.entries for one in entry.parts)]) == sorted(
                before
            )
            for entry in decided.entries:
                assert entry.rows == sum(one.rows for one in entry.parts)
                assert entry.rows <= rows_max or len(entry.parts) == 1
                assert {f"archive/date={one.date}" for one in entry.parts} == {entry.key.rpartition("/")[0]}
                name = read_archive_key(entry.key)
                assert name.first == min(one.first for one in entry.parts)
                assert name.last == max(one.last for one in entry.parts)
            spool, handed_over_at, late_handed_over_at = decided[1:]
        assert sorted([*spool, *(one for entry in entries for one in entry.parts)]) == sorted(made)
        assert len({entry.key for entry in entries}) == len(entries)
        # Another day of runs, and nothing is left behind.
        for later in range(1, 28):
            spool, handed_over_at, late_handed_over_at = decide(
                spool, now + later * HOUR, handed_over_at, late_handed_over_at
            )[1:]
        assert spool == []


class TestCarryingOut:
    """What a claim does with an entry."""

    @given(st.lists(rows_of_days, min_size=1, max_size=4))
    def test_a_file_has_the_rows_of_its_parts_in_order_and_no_others(self, rows_of_runs):
        store, seen = FakeObjectStore(), set()
        put_parts(store, 99, [Row(sensor_id="of nobody")])
        parts, expected = [], []
        for number, rows in enumerate(rows_of_runs, start=1):
            new = [row for row in rows if row[:3] not in seen]
            seen.update(row[:3] for row in new)
            parts += put_parts(store, number, new)
            expected += [as_archived(row, number) for row in new]
        archived = []
        for entry in decide(parts).entries:
            carry_out(store, entry, MEMORY_LIMIT_MB)
            content = read_parquet(store, entry.key)
            assert len(content) == entry.rows
            assert content == sorted(content, key=lambda row: row[:3])
            archived += content
        assert sorted(archived, key=lambda row: row[:3]) == sorted(expected, key=lambda row: row[:3])

    def test_an_entry_of_one_part_is_that_part_byte_for_byte(self, store):
        (only,) = put_parts(store, 1, [Row(), Row(sensor_id="2")])
        (entry,) = decide([only]).entries
        carry_out(store, entry, MEMORY_LIMIT_MB)
        assert store.get(entry.key) == store.get(only.key)

    @pytest.mark.parametrize("count", [1, 2])
    def test_a_file_that_is_there_stays_as_it_is(self, store, count):
        parts = [one for number in range(count) for one in put_parts(store, number, [Row(sensor_id=str(number))])]
        (entry,) = decide(parts).entries
        store.put(entry.key, b"as it is")
        carry_out(store, entry, MEMORY_LIMIT_MB)
        assert store.get(entry.key) == b"as it is"

    @pytest.mark.parametrize("count", [1, 2])
    def test_a_part_that_is_gone_is_not_found_and_nothing_is_written(self, store, count):
        parts = [one for number in range(count) for one in put_parts(store, number, [Row(sensor_id=str(number))])]
        (entry,) = decide(parts).entries
        store.delete([parts[-1].key])
        with pytest.raises(ObjectNotFoundError, match=f"no object {parts[-1].key}"):
            carry_out(store, entry, MEMORY_LIMIT_MB)
        assert store.list_keys("archive/") == []

    def test_what_waits_in_spool_or_entries_bounds_what_is_archived(self):
        waiting = Entry("archive/x", [part(number=7), part(number=5)], 20)
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
