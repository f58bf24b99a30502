"""Landing objects become rows, or are refused whole: whatever is damaged is never taken for a smaller object."""

import gzip
from datetime import timedelta
from decimal import Decimal

import duckdb
import pytest
from msgspec import structs

from chalicelib.analytics import landing_input
from chalicelib.analytics.duckdb_session import duckdb_session
from chalicelib.errors import ObjectNotFoundError
from chalicelib.landing import encode_landing, landing_key, landing_objects
from tests.factories import DAY, NOW, flip, forty_rows, landed
from tests.fake_s3 import FakeObjectStore

SECOND = timedelta(seconds=1)


@pytest.fixture
def store():
    return FakeObjectStore()


@pytest.fixture
def session(tmp_path):
    with duckdb_session(500, tmp_path) as (connection, folder):
        yield connection, folder


@pytest.fixture
def load(store, session):
    """Load what is in the bucket, and return what is refused."""

    def load_all():
        connection, folder = session
        refused = landing_input.load(connection, folder, store, sorted(store.s3.objects))
        assert list(folder.iterdir()) == [], "a local file is left"
        return {one.key: (one.rows, one.reason) for one in refused}

    return load_all


@pytest.fixture
def sensors(session):
    return lambda: sorted(row[0] for row in session[0].execute("SELECT sensor_id FROM incoming").fetchall())


def put(store, measurements, now=NOW, content=None, is_late=False):
    content = encode_landing(measurements) if content is None else content
    key = landing_key(now, measurements, content, is_late=is_late)
    store.put(key, content)
    return key


def test_rows_arrive_as_they_landed(store, session, load):
    ms = int(NOW.timestamp() * 1_000)
    current = structs.replace(landed("current", queued_at_ms=ms), delivery=5, place=7)
    late = structs.replace(landed("late", timestamp=NOW - DAY, queued_at_ms=ms), delivery=2**31 - 1)
    unknown = structs.replace(landed("unknown", "b", -0.0, NOW - DAY, queued_at_ms=None), place=3)
    store.put_all(landing_objects([current, late, unknown], NOW).items())
    assert load() == {}
    noon, day_before = NOW.replace(tzinfo=None), (NOW - DAY).replace(tzinfo=None)
    assert session[0].execute("FROM incoming ORDER BY sensor_id").fetchall() == [
        ("a", "current", noon, Decimal(35), 2000.0, "OK", ms, 5, 7),
        ("a", "late", day_before, Decimal(35), 2000.0, "OK", ms, 2**31 - 1, None),
        ("b", "unknown", day_before, Decimal(0), 2000.0, "OK", None, None, 3),
    ]
    assert session[0].execute("SELECT count(*) FROM incoming WHERE temperature::VARCHAR LIKE '-%'").fetchall() == [(0,)]


def test_what_was_cut_short_or_changed_is_refused_and_nothing_of_it_counted(store, load, sensors):
    key = put(store, forty_rows())
    whole = store.get(key)
    damaged = [*(flip(whole, bit) for bit in range(0, 8 * len(whole), 149)), whole[:-1], whole[:500], b"", whole + b"x"]
    store.delete([key])
    keys = [key.replace(".000000Z", f".{number:06}Z") for number in range(len(damaged))]
    store.put_all(zip(keys, damaged, strict=True))
    put(store, [landed("good")], NOW + DAY)
    reason = "was cut short or changed: its content is not what was written under its name"
    assert load() == dict.fromkeys(keys, (40, reason))
    assert sensors() == ["good"]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'"temperature":35.0', b'"temperature":1e6', "cannot be read: JSON transform error in line 1: Failed to cast"),
        (b'"temperature":35.0', b'"temperature":"hot"', "cannot be read: JSON transform error in line 1: Failed to ca"),
        (b'"temperature"', b'"warmth"', "cannot be read: NOT NULL constraint failed: incoming.temperature"),
        (b'"sensor_id":"bad"', b'"sensor_id":null', ""),
        (b'"place"', b"place", "cannot be read: Malformed JSON at byte"),
        (b'"place":null}', b'"place":null', "cannot be read: Malformed JSON at byte"),
        (b"2026-03-01T12:00:00", b"2026-13-01T12:00:00", "cannot be read: JSON transform error in line 1: timestamp"),
        (b'"sensor_id":"bad"', b'"sensor_id":"b/d"', "has 0 rows that keep to the contract and to its name, which"),
        (b'"location_id":"a"', b'"location_id":""', "has 0 rows that keep to the contract and to its name, which"),
        (b'"status":"OK"', b'"status":null', "has 0 rows that keep to the contract and to its name, which tells of 1"),
        (b"12:00:00.000", b"12:00:01.000", "has 0 rows that keep to the contract and to its name, which tells of 1"),
        (b"12:00:00.000", b"11:59:59.999", "has 0 rows that keep to the contract and to its name, which tells of 1"),
    ],
)
def test_an_object_with_a_line_that_breaks_a_rule_is_refused_alone(store, load, sensors, old, new, reason):
    content = gzip.decompress(encode_landing([landed("bad")]))
    assert old in content
    bad = put(store, [landed("bad")], content=gzip.compress(content.replace(old, new)))
    for number in range(3):
        put(store, [landed(f"good-{number}")])
    refused = load()
    assert [(key, rows) for key, (rows, _) in refused.items()] == [(bad, 1)]
    assert refused[bad][1].startswith(reason)
    assert str(store) not in refused[bad][1]
    assert sensors() == ["good-0", "good-1", "good-2"]


@pytest.mark.parametrize("content", [b"", b"no gzip", encode_landing([landed()])[:-20], b"\x1f\x8b\x08" + bytes(40)])
def test_what_was_no_whole_gzip_when_it_was_named_is_refused_alone(store, load, sensors, content):
    bad = put(store, [landed()], content=content)
    put(store, [landed("good")])
    assert [*load()] == [bad]
    assert sensors() == ["good"]


@pytest.mark.parametrize("lines", [39, 41])
def test_an_object_of_another_number_of_rows_than_its_name_tells_is_refused(store, load, sensors, lines):
    content = encode_landing((forty_rows() * 2)[:lines])
    bad = put(store, forty_rows(), content=content)
    reason = f"has {lines} rows that keep to the contract and to its name, which tells of 40"
    assert load() == {bad: (40, reason)}
    assert sensors() == []


def test_an_object_under_another_name_is_refused_with_the_rows_that_it_is_known_to_have(store, load):
    content = encode_landing(forty_rows())
    store.put("landing/anything", content)
    store.put("landing/nothing", b"nothing")
    assert load() == {
        "landing/anything": (40, "is not named as a landing object"),
        "landing/nothing": (0, "is not named as a landing object"),
    }


def test_an_object_that_is_gone_is_an_error_and_no_smaller_input(store, session):
    connection, folder = session
    key = put(store, [landed()])
    store.delete([key])
    with pytest.raises(ObjectNotFoundError):
        landing_input.load(connection, folder, store, [key])


def test_what_is_no_objects_fault_quarantines_none(store, session, monkeypatch):
    connection, folder = session
    key = put(store, [landed()])
    monkeypatch.setattr(landing_input, "_INSERT", "SELECT error('out of memory'), ?, ?")
    monkeypatch.setattr(landing_input, "_DATA_ERRORS", ())
    with pytest.raises(duckdb.Error, match="out of memory"):
        landing_input.load(connection, folder, store, [key])


def test_much_input_is_loaded_portion_by_portion(store, session, load, sensors, monkeypatch):
    monkeypatch.setattr(landing_input, "_ROWS_AT_A_TIME", 3)
    monkeypatch.setattr(landing_input, "_OBJECTS_AT_A_TIME", 2)
    for number in range(5):
        put(store, [landed(f"{number}")], NOW + number * SECOND)
    put(store, [landed(f"many-{number}") for number in range(4)], NOW + DAY)
    bad = put(store, [landed("bad")], NOW + 2 * DAY, content=gzip.compress(b"{}\n"))
    assert [*load()] == [bad]
    assert sensors() == ["0", "1", "2", "3", "4", "many-0", "many-1", "many-2", "many-3"]


def test_no_input_is_an_empty_table(load, sensors):
    assert load() == {}
    assert sensors() == []
