"""Parquet objects are read by ranges, a few of them, as if they were read whole."""

import time

import duckdb
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.analytics.archive import PARQUET
from chalicelib.analytics.duckdb_session import duckdb_session
from chalicelib.analytics.range_files import readable
from chalicelib.errors import ObjectNotFoundError
from tests.archives import MEMORY_LIMIT_MB
from tests.fake_s3 import FakeObjectStore

ROWS = 100_000
KEY = "runs/some file.parquet"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Thirteen row groups, sorted by sensor and time."""
    path = tmp_path_factory.mktemp("files") / "file.parquet"
    duckdb.execute(
        f"""
        COPY (
            SELECT (10000 + i // 100)::VARCHAR AS sensor_id, i % 100 AS minute, random() AS value, random() AS other
            FROM range({ROWS}) AS rows(i) ORDER BY sensor_id, minute
        ) TO '{path}' ({PARQUET})
        """
    )
    return path


@pytest.fixture
def store(file):
    store = FakeObjectStore()
    store.put(KEY, file.read_bytes())
    return store


@pytest.fixture
def connection():
    with duckdb_session(MEMORY_LIMIT_MB) as (connection, _):
        yield connection


def ask(connection, store, query, key=KEY):
    with readable(connection, store) as url:
        return connection.execute(query.format(url(key))).fetchall()


def test_a_file_is_the_same_read_by_ranges_and_whole(connection, store, file):
    for query in ("FROM '{}' ORDER BY ALL", "SELECT sum(minute), count(*), min(other) FROM read_parquet('{}')"):
        assert ask(connection, store, query) == duckdb.execute(query.format(file)).fetchall()


@given(st.sets(st.tuples(st.integers(10_000, 11_000), st.integers(0, 99)), max_size=60))
def test_any_rows_are_the_same_looked_up_by_ranges_and_in_the_whole_file(file, wanted):
    store = FakeObjectStore()
    store.put(KEY, file.read_bytes())
    rows = ", ".join(f"('{sensor}', {minute})" for sensor, minute in [(0, 0), *wanted])
    query = f"SELECT * FROM read_parquet('{{}}') SEMI JOIN (VALUES {rows}) AS wanted(sensor_id, minute) \
        USING (sensor_id, minute) ORDER BY ALL"
    with duckdb_session(MEMORY_LIMIT_MB) as (connection, _):
        assert ask(connection, store, query) == duckdb.execute(query.format(file)).fetchall()


def test_a_row_is_found_without_the_rest_of_the_file(connection, store):
    found = ask(connection, store, "SELECT minute, value FROM '{}' WHERE sensor_id = '10500' AND minute = 3")
    assert [minute for minute, _ in found] == [3]
    # Its end, and one row group of thirteen.
    assert len(store.s3.reads) <= 3
    assert sum(length for _, length in store.s3.reads) < 64 * 1024 + len(store.get(KEY)) / 8


def test_a_small_file_is_one_request(connection, store, tmp_path):
    duckdb.execute(f"COPY (SELECT i AS number FROM range(1000) AS rows(i)) TO '{tmp_path}/small.parquet' ({PARQUET})")
    store.put("small", (tmp_path / "small.parquet").read_bytes())
    assert ask(connection, store, "SELECT sum(number), count(*) FROM read_parquet('{}')", "small") == [(499_500, 1000)]
    assert [key for key, _ in store.s3.reads] == ["small"]


def test_nothing_of_a_file_is_kept_for_the_next_reader(connection, store, file, tmp_path):
    whole = ask(connection, store, "SELECT count(*) FROM '{}'")
    duckdb.execute(f"COPY (FROM '{file}' LIMIT 5) TO '{tmp_path}/other.parquet' ({PARQUET})")
    store.put(KEY, (tmp_path / "other.parquet").read_bytes())
    assert (whole, ask(connection, store, "SELECT count(*) FROM '{}'")) == ([(ROWS,)], [(5,)])


def test_a_missing_object_is_not_found(connection, store):
    with pytest.raises(ObjectNotFoundError, match="no object archive/nothing"):
        ask(connection, store, "FROM read_parquet('{}')", "archive/nothing")


@pytest.mark.parametrize(
    "failure",
    [
        ObjectNotFoundError("no object"),
        ClientError({"Error": {"Code": "SlowDown"}}, "GetObject"),
        EndpointConnectionError(endpoint_url="https://bucket"),
    ],
)
@pytest.mark.parametrize("reads_before", [0, 1, 5])
def test_whatever_reading_raises_is_raised_as_it_is(store, failure, reads_before):
    def fail(operation, key):
        if len(store.s3.reads) >= reads_before:
            raise failure

    store.s3.before = fail
    with pytest.raises(type(failure)) as raised, duckdb_session(MEMORY_LIMIT_MB) as (connection, _):
        ask(connection, store, "FROM read_parquet('{}')")
    assert raised.value is failure
    store.s3.before = lambda operation, key: None
    with duckdb_session(MEMORY_LIMIT_MB) as (connection, _):
        assert ask(connection, store, "SELECT count(*) FROM '{}'") == [(ROWS,)]


def test_an_error_of_the_query_stays_what_it_is(connection, store):
    with pytest.raises(duckdb.BinderException, match="nonsense"):
        ask(connection, store, "SELECT nonsense FROM read_parquet('{}')")


def test_a_damaged_file_is_an_error_of_duckdb(store):
    store.put(KEY, store.get(KEY)[:-100])
    with pytest.raises(duckdb.Error), duckdb_session(MEMORY_LIMIT_MB) as (connection, _):
        ask(connection, store, "FROM read_parquet('{}')")


def test_two_buckets_are_read_at_once(connection, store, file, tmp_path):
    other = FakeObjectStore()
    duckdb.execute(f"COPY (FROM '{file}' LIMIT 5) TO '{tmp_path}/other.parquet' ({PARQUET})")
    other.put(KEY, (tmp_path / "other.parquet").read_bytes())
    with readable(connection, store) as url, readable(connection.cursor(), other) as others_url:
        counts = connection.execute(
            f"SELECT (SELECT count(*) FROM '{url(KEY)}'), (SELECT count(*) FROM '{others_url(KEY)}')"
        )
        assert counts.fetchall() == [(ROWS, 5)]


def test_the_waits_for_many_ranges_overlap(connection, store):
    under_way, most = [], []

    def wait(operation, key):
        under_way.append(key)
        time.sleep(0.01)
        most.append(len(under_way))
        under_way.pop()

    store.s3.before = wait
    assert len(ask(connection, store, "FROM read_parquet('{}')")) == ROWS
    assert max(most) > 2


def test_afterwards_the_engine_is_as_it_was(connection, store):
    settings = "SELECT current_setting('threads')"
    before = connection.execute(settings).fetchall()
    ask(connection, store, "SELECT count(*) FROM '{}'")
    assert connection.execute(settings).fetchall() == before
    assert connection.list_filesystems() == []
