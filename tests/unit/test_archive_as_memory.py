"""What committed runs know of incoming rows, asked of spool, archive and the memory of duplicates by one manifest."""

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec import structs

from chalicelib.analytics import duplicates_memory
from chalicelib.analytics.archive import carry_out, write_parts
from chalicelib.analytics.duckdb_session import duckdb_session
from chalicelib.analytics.duplicates_memory import write_duplicates
from chalicelib.analytics.known_rows import load_known
from chalicelib.errors import ObjectNotFoundError
from chalicelib.ledger import NO_MANIFEST
from chalicelib.settings import ArchiveSettings
from tests.archives import MEMORY_LIMIT_MB, Row, decide, make_table, put_parts, read_parquet, run_id
from tests.factories import DAY, HOUR, MINUTE, NOW
from tests.fake_s3 import FakeObjectStore

NOON = NOW.replace(tzinfo=None)
SECOND = timedelta(seconds=1)
MILLISECOND = timedelta(milliseconds=1)
KNOWN = [
    ("location_id", "VARCHAR"), ("sensor_id", "VARCHAR"), ("measured_at", "TIMESTAMP"), ("value", "DOUBLE"),
    ("temperature", "DECIMAL(18,12)"), ("delivery", "INTEGER"), ("counted", "BOOLEAN"),
]  # fmt: skip


@pytest.fixture
def store():
    return FakeObjectStore()


def manifest(number, spool=(), entries=(), duplicates=()):
    return structs.replace(
        NO_MANIFEST, run_id=run_id(number), spool=list(spool), entries=list(entries), duplicates=list(duplicates)
    )


def known(store, read_by, incoming):
    """What is known of incoming rows, in any order."""
    with duckdb_session(MEMORY_LIMIT_MB) as (connection, _):
        make_table(connection, incoming)
        store.s3.reads.clear()
        load_known(connection, store, read_by)
        columns = connection.execute("DESCRIBE known").fetchall()
        assert [column[:2] for column in columns] == KNOWN
        return sorted(connection.execute("FROM known").fetchall(), key=repr)


def counted(*rows):
    return sorted(((*row[:5], row.delivery, True) for row in rows), key=repr)


def archive(store, parts, number):
    """Let run `number` decide to hand parts over, and its successor do so and drop them."""
    for entry in decide(parts, number=number).entries:
        carry_out(store, entry, MEMORY_LIMIT_MB)
    store.delete([part.key for part in parts])


def put_duplicates(store, number, rows, previous=(), claimed_at=NOW):
    with duckdb_session(MEMORY_LIMIT_MB) as (connection, folder):
        make_table(connection, rows, "dropped")
        prefix = f"runs/{run_id(number)}/duplicates/try"
        return write_duplicates(connection, store, "dropped", prefix, list(previous), claimed_at, folder)


class TestWhatIsKnown:
    """Where rows are found, and which."""

    def test_rows_are_known_by_location_sensor_and_time_alone(self, store):
        spool = put_parts(store, 1, [Row(temperature=Decimal("35.000000000001"), value=None, delivery=None), Row("b")])
        asked = [Row(value=1.0, delivery=9), Row(sensor_id="01"), Row(measured_at=NOON + MILLISECOND), Row("A")]
        assert known(store, manifest(1, spool), asked) == counted(
            Row(temperature=Decimal("35.000000000001"), value=None, delivery=None)
        )

    def test_before_the_first_run_nothing_is_known_and_nothing_asked(self, store):
        archive(store, put_parts(store, 1, [Row()]), 1)
        store.s3.before = lambda operation, key: pytest.fail(operation)
        assert known(store, NO_MANIFEST, [Row()]) == []

    def test_no_incoming_rows_ask_for_nothing(self, store):
        spool = put_parts(store, 1, [Row()])
        store.s3.before = lambda operation, key: pytest.fail(operation)
        assert known(store, manifest(1, spool), []) == []

    def test_a_row_is_known_wherever_it_lies_on_its_way_into_the_archive(self, store):
        spool = put_parts(store, 1, [Row(), Row("b")]) + put_parts(store, 2, [Row("c")])
        entries = decide(spool, number=2).entries
        expected = counted(Row(), Row("c"))
        asked = [Row(), Row("c"), Row("d")]
        assert known(store, manifest(2, spool), asked) == expected
        assert known(store, manifest(2, entries=entries), asked) == expected
        for entry in entries:
            carry_out(store, entry, MEMORY_LIMIT_MB)
        assert known(store, manifest(2, entries=entries), asked) == expected
        assert known(store, manifest(3), asked) == expected
        # By an older manifest, as long as its parts are there: once, though it is in both.
        assert known(store, manifest(2, spool), asked) == expected

    def test_what_a_later_run_has_counted_is_not_known_by_an_older_manifest(self, store):
        archive(store, put_parts(store, 1, [Row("a")]) + put_parts(store, 2, [Row("b")]), 2)
        asked = [Row("a"), Row("b")]
        assert known(store, manifest(1), asked) == counted(Row("a"))
        assert known(store, manifest(2), asked) == counted(*asked)

    def test_whoever_finds_a_part_gone_is_told(self, store):
        spool = put_parts(store, 1, [Row()])
        store.delete([spool[0].key])
        with pytest.raises(ObjectNotFoundError, match=f"no object {spool[0].key}"):
            known(store, manifest(1, spool), [Row()])

    def test_files_that_no_run_has_written_are_left_alone(self, store):
        store.put("archive/date=2026-03-01/notes.parquet", b"of an operator")
        assert known(store, manifest(1), [Row()]) == []

    @hypothesis_settings(max_examples=15)
    @given(st.data())
    def test_whatever_was_counted_and_archived_in_whatever_order_is_known(self, data):
        times = st.integers(0, 40).map(lambda step: NOON + step * 13 * HOUR / 4)
        keys = st.tuples(st.sampled_from("ab"), st.sampled_from("12"), times)
        store, spool, rows, entries = FakeObjectStore(), [], {}, []
        last = data.draw(st.integers(1, 4))
        for number in range(1, last + 1):
            new = [Row(*key, value=float(number)) for key in data.draw(st.sets(keys, max_size=12)) if key not in rows]
            rows |= {row[:3]: row for row in new}
            spool += put_parts(store, number, new, entry_rows=3)
            if data.draw(st.booleans()):
                entries += decide(spool, settings=ArchiveSettings(60, 5), number=number).entries
                spool = []
            done = [entry for entry in entries if data.draw(st.booleans())]
            for entry in done:
                carry_out(store, entry, MEMORY_LIMIT_MB)
                store.delete([part.key for part in entry.parts])
            entries = [entry for entry in entries if entry not in done]
        asked = data.draw(st.sets(keys, max_size=12))
        assert known(store, manifest(last, spool, entries), [Row(*key) for key in asked]) == counted(
            *(rows[key] for key in asked if key in rows)
        )


class TestWhatIsRead:
    """Which files are opened, and how much of them is read."""

    def test_only_days_that_are_touched_are_listed(self, store):
        listed = []
        store.s3.before = lambda operation, key: listed.append(key) if operation == "list_keys" else None
        known(store, manifest(1), [Row(), Row(measured_at=NOON - DAY), Row("b")])
        assert listed == ["archive/date=2026-02-28/", "archive/date=2026-03-01/"]

    def test_only_files_with_an_incoming_row_between_their_first_and_last_second_are_opened(self, store):
        minutes = []
        for n in range(9):
            minutes += put_parts(store, n, [Row(measured_at=NOON + n * MINUTE + k * SECOND) for k in (10, 20)])
        archive(store, minutes[:4], 4)
        spool = minutes[4:]
        seconds = {4: [10, 20], 5: [9, 21], 6: [15], 8: [5]}
        asked = [Row(measured_at=NOON + n * MINUTE + k * SECOND) for n, ks in seconds.items() for k in ks]
        assert len(known(store, manifest(9, spool), asked)) == 2
        assert {key for key, _ in store.s3.reads} == {spool[0].key, spool[2].key}

    def test_a_small_file_is_one_request(self, store):
        spool = put_parts(store, 1, [Row(sensor_id=str(number)) for number in range(500)])
        known(store, manifest(1, spool), [Row(sensor_id="7")])
        assert len(store.s3.reads) == 1

    def test_a_straggler_widens_nothing_that_is_read_for_the_others(self, store, hours):
        now = [Row(sensor_id=str(10_000 + number), measured_at=NOON + 2 * HOUR + SECOND) for number in range(50)]
        straggler = Row(sensor_id="10500", measured_at=NOON)
        for file in hours:
            store.put(file.key, hours[file])
        read_by = manifest(1, hours)
        assert known(store, read_by, now) == []
        without = sum(length for _, length in store.s3.reads)
        assert len(known(store, read_by, [*now, straggler])) == 1
        # The end of the one file that may have it, and a row group of thirteen.
        assert {key for key, _ in store.s3.reads} == {next(iter(hours)).key}
        size = len(hours[next(iter(hours))])
        assert without == 0
        assert sum(length for _, length in store.s3.reads) < 64 * 1024 + size / 4

    def test_of_rows_that_nobody_knows_only_keys_are_read(self, store, hours):
        first = next(iter(hours))
        store.put(first.key, hours[first])
        asked = [
            Row(sensor_id=str(10_000 + number), measured_at=NOON + 30 * MINUTE + 1 * MILLISECOND)
            for number in range(1_000)
        ]
        assert known(store, manifest(1, [first]), asked) == []
        assert sum(length for _, length in store.s3.reads) < 64 * 1024 + len(hours[first]) / 2


@pytest.fixture(scope="module")
def hours():
    """Two files of 100,000 rows, of an hour each: every sensor in every 36 seconds."""
    store = FakeObjectStore()
    parts = []
    with duckdb_session(MEMORY_LIMIT_MB) as (connection, folder):
        for hour in range(2):
            make_table(connection, [])
            connection.execute(
                f"""
                INSERT INTO incoming BY NAME
                SELECT 'a' AS location_id, (10000 + i % 1000)::VARCHAR AS sensor_id, random() AS value,
                       random() * 100 AS temperature, 'OK' AS status, i AS queued_at_ms, hash(i) % 1000000 AS delivery,
                       TIMESTAMP '2026-03-01 12:00:00' + to_hours({hour}) + to_seconds(i // 1000 * 36) AS measured_at
                FROM range(100000) AS rows(i)
                """
            )
            parts += write_parts(connection, store, "incoming", f"runs/{run_id(1)}/spool/{hour}", 1, 10**6, folder)
    return {part: store.get(part.key) for part in parts}


class TestMemoryOfDuplicates:
    """Which duplicates were counted as such, for as long as they can be delivered again."""

    def test_duplicates_are_known_with_their_delivery_and_not_as_counted(self, store):
        spool = put_parts(store, 1, [Row()])
        parts = put_duplicates(store, 2, [Row(delivery=8), Row(delivery=9), Row("b", delivery=5)])
        assert known(store, manifest(2, spool, duplicates=parts), [Row()]) == sorted(
            [*counted(Row()), *((*Row()[:3], None, None, delivery, False) for delivery in (8, 9))], key=repr
        )

    def test_a_run_without_duplicates_writes_nothing_and_forgets_nothing(self, store):
        parts = put_duplicates(store, 1, [Row()])
        store.s3.before = lambda operation, key: pytest.fail(operation)
        assert put_duplicates(store, 2, [], parts) == parts

    def test_they_are_in_order_beside_the_spool(self, store):
        rows = [Row("b"), Row("a", "2"), Row("a", "1", NOON + SECOND), Row("a", "1")]
        (part,) = put_duplicates(store, 1, rows)
        assert (part.key, part.rows) == (f"runs/{run_id(1)}/duplicates/try.parquet", 4)
        assert (part.first, part.last) == ("20260301T120000Z", "20260301T120001Z")
        assert read_parquet(store, part.key) == sorted((*row[:3], row.delivery, row.queued_at_ms) for row in rows)

    @hypothesis_settings(max_examples=10)
    @given(st.lists(st.sampled_from([0, 1, 2, 10, 50]), max_size=40))
    def test_however_many_runs_all_are_in_a_few_parts_and_written_a_few_times(self, sizes):
        store, parts, rows = FakeObjectStore(), [], []
        for number, size in enumerate(sizes, start=1):
            new = [Row(str(number), str(each)) for each in range(size)]
            rows += new
            parts = put_duplicates(store, number, new, parts)
            assert len(parts) <= 10
        found = [row[:2] for part in parts for row in read_parquet(store, part.key)]
        assert sorted(found) == sorted(row[:2] for row in rows)
        assert sum(part.rows for part in parts) == len(rows)

    def test_what_was_first_queued_more_than_fifteen_days_ago_goes_when_parts_are_joined(self, store):
        def queued(number, days):
            at = NOW - days * DAY
            return Row("a", str(number), queued_at_ms=int(at.timestamp() * 1_000))

        parts = []
        for number in range(10):
            parts = put_duplicates(store, number, [queued(number, 14 if number % 2 else 14.01)], parts)
        assert len(parts) == 10
        (joined,) = put_duplicates(store, 10, [queued(10, 0)], parts, NOW + DAY)
        assert sorted(row[1] for row in read_parquet(store, joined.key)) == ["1", "10", "3", "5", "7", "9"]

    def test_parts_are_joined_up_to_a_size_that_disk_and_memory_have_room_for(self, store, monkeypatch):
        monkeypatch.setattr(duplicates_memory, "_JOINED_ROWS_MAX", 20)
        parts = []
        for number in range(60):
            parts = put_duplicates(store, number, [Row(str(number), str(each)) for each in range(5)], parts)
            assert max(part.rows for part in parts) <= 20
            assert sum(part.rows <= 10 for part in parts) <= 10
        assert sum(part.rows for part in parts) == 300

    @pytest.mark.parametrize(("days", "remain"), [(44, True), (46, False)])
    def test_a_part_too_large_to_be_joined_goes_when_all_in_it_must_have_been_queued_long_ago(
        self, store, monkeypatch, days, remain
    ):
        monkeypatch.setattr(duplicates_memory, "_JOINED_ROWS_MAX", 20)
        large = put_duplicates(store, 1, [Row(str(each)) for each in range(11)])
        now = NOW + days * DAY
        parts = put_duplicates(store, 2, [Row(queued_at_ms=int(now.timestamp() * 1_000))], large, now)
        assert parts[:-1] == (large if remain else [])

    def test_a_part_of_them_that_is_gone_is_not_found(self, store):
        parts = []
        for number in range(10):
            parts = put_duplicates(store, number, [Row(str(number))], parts)
        store.delete([parts[3].key])
        with pytest.raises(ObjectNotFoundError, match=f"no object {parts[3].key}"):
            put_duplicates(store, 11, [Row()], parts)
