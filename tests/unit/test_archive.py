"""A run's rows are in one part each, and an entry becomes one file with the rows of its parts, and no others."""

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.analytics.archive import carry_out, write_parts
from chalicelib.analytics.duckdb_session import duckdb_session
from chalicelib.errors import ObjectNotFoundError
from chalicelib.ledger import Part
from tests.archives import MEMORY_LIMIT_MB, Row, as_archived, decide, make_table, put_parts, read_parquet, run_id
from tests.factories import DAY, NOW, ODD_IDS
from tests.fake_s3 import FakeObjectStore

NOON = NOW.replace(tzinfo=None)
MILLISECOND = timedelta(milliseconds=1)


@pytest.fixture
def store():
    return FakeObjectStore()


# Each example writes files.
FEW = settings(max_examples=15)

rows_of_days = st.lists(
    st.tuples(st.sampled_from(ODD_IDS[:4]), st.sampled_from(ODD_IDS[:6]), st.integers(-2, 0), st.integers(0, 19)).map(
        lambda drawn: Row(drawn[0], drawn[1], NOON + drawn[2] * DAY + drawn[3] * 250 * MILLISECOND)
    ),
    unique_by=lambda row: row[:3],
    max_size=30,
)


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

    @FEW
    @given(rows_of_days, st.integers(3, 9))
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

    @FEW
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


class TestCarryingOut:
    """What a claim does with an entry."""

    @FEW
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
