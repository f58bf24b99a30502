"""What is good of a quarantined landing object comes back once, however often and interrupted it is brought back."""

import gzip
import json

import pytest

from chalicelib.errors import ObjectNotFoundError, ValidationError
from chalicelib.landing import encode_landing, is_whole, landing_key, read_landing_key, salvage_landing
from chalicelib.quarantine_count import QuarantineCount, QuarantineFigures, quarantine_figures
from ops.quarantine import list_quarantine, restore
from tests.contracts import LEDGER_TABLE
from tests.factories import DAY, HOUR, NOW, flip, forty_rows, landed
from tests.fake_s3 import FakeObjectStore
from tests.fakes import FakeDynamoDb, service_error
from tests.runs import counts, land, new_player
from tests.workflow_player import new_quarantine_count


@pytest.fixture
def store():
    return FakeObjectStore()


@pytest.fixture
def dynamodb():
    return FakeDynamoDb({LEDGER_TABLE: "id"})


@pytest.fixture
def bring_back(store, dynamodb):
    return lambda key, now=NOW + DAY: restore(key, store, QuarantineCount(LEDGER_TABLE, dynamodb), now)


@pytest.fixture
def counted(dynamodb):
    return lambda: quarantine_figures(dynamodb.tables[LEDGER_TABLE])


def set_aside(store, rows, damaged):
    """Put into quarantine what became of the landing object of these rows."""
    key = landing_key(NOW, rows, encode_landing(rows), is_late=False).replace("landing/", "quarantine/")
    store.put(key, damaged)
    return key


def landed_again(store):
    rows = []
    for key in store.list_keys("landing/"):
        name, content = read_landing_key(key), store.get(key)
        some = salvage_landing(content)
        assert is_whole(content, name)
        assert name.rows == len(some)
        rows += some
    return rows


def test_the_lines_before_a_cut_land_again_as_they_were(store, bring_back, counted, capsys):
    rows = forty_rows()
    whole = encode_landing(rows)
    key = set_aside(store, rows, whole[: len(whole) // 2])
    assert bring_back(key) == 0
    again = landed_again(store)
    assert 0 < len(again) < 40
    assert again == rows[: len(again)]
    assert counted() == QuarantineFigures(0, 1, len(again))
    kept = key.replace("quarantine/", "quarantine/restored/")
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"{kept}: lines landed again: {len(again)}, lost: {40 - len(again)}"
    assert [line.strip() for line in printed[1:]] == store.list_keys("landing/")
    assert store.list_keys("quarantine/") == [kept]
    assert store.get(kept) == whole[: len(whole) // 2]


def test_an_object_with_a_flipped_bit_comes_back_complete(store, bring_back, counted):
    key = set_aside(store, forty_rows(), flip(encode_landing(forty_rows()), 3_000))
    assert bring_back(key) == 0
    assert landed_again(store) == forty_rows()
    assert counted().restored_rows == 40


def test_what_comes_back_complete_is_counted_however_long_the_head_names_what_was_refused():
    player = new_player()
    key = land(player, landed())
    player.store.put(key, b"x" + player.store.get(key)[1:])
    for number in range(2):
        player.run(f"run-{number}")
    restore(key.replace("landing/", "quarantine/"), player.store, new_quarantine_count(player.dynamodb), NOW + DAY)
    assert player.committed().quarantine[0].key == key
    for number in range(2):
        player.run(f"next-{number}", NOW + DAY)
    assert counts(player) == {"a": 1}


def test_good_lines_come_back_beside_bad_ones_with_the_late_by_day(store, bring_back):
    ages = [0 * HOUR, HOUR, DAY, DAY + HOUR, 3 * DAY]
    ms = int(NOW.timestamp() * 1_000)
    rows = [landed(f"{number}", timestamp=NOW - age, queued_at_ms=ms) for number, age in enumerate(ages)]
    lines = gzip.decompress(encode_landing(rows)).splitlines(keepends=True)
    lines[1] = b"nonsense\n"
    key = set_aside(store, rows, gzip.compress(b"".join(lines)))
    assert bring_back(key) == 0
    names = [read_landing_key(one) for one in store.list_keys("landing/")]
    assert sorted((name.is_late, name.rows) for name in names) == [(False, 1), (True, 1), (True, 2)]
    assert sorted(one.sensor_id for one in landed_again(store)) == ["0", "2", "3", "4"]


def test_an_object_under_a_wrong_name_gets_a_true_one(store, bring_back, capsys):
    store.put("quarantine/anything", encode_landing([landed()]))
    store.put("quarantine/20269999T999999.000000Z_1_x", encode_landing([landed()]))
    assert bring_back("quarantine/anything") == 0
    assert "lines landed again: 1, lost: unknown" in capsys.readouterr().out
    assert landed_again(store) == [landed()]
    assert bring_back("quarantine/20269999T999999.000000Z_1_x") == 0


@pytest.mark.parametrize("interrupted_at", ["put landing", "transact", "put quarantine", "delete quarantine", None])
def test_a_repetition_lands_and_counts_nothing_twice(store, dynamodb, bring_back, counted, interrupted_at):
    rows = forty_rows()
    key = set_aside(store, rows, encode_landing(rows)[:-1])

    def interrupt(operation, name):
        if f"{operation} {name}".startswith(interrupted_at or "never"):
            raise service_error()

    store.s3.before = interrupt
    if interrupted_at == "transact":
        dynamodb.failing["transact_write_items"] = service_error()
    if interrupted_at is None:
        bring_back(key)
        key = key.replace("quarantine/", "quarantine/restored/")
    else:
        with pytest.raises(type(service_error())):
            bring_back(key)
    store.s3.before = lambda operation, name: None
    dynamodb.failing.clear()
    assert bring_back(key, NOW + 2 * DAY) == 0
    assert landed_again(store) == rows
    assert counted() == QuarantineFigures(0, 1, 40)
    assert [one.split("/")[1] for one in store.list_keys("quarantine/")] == ["restored"]


def test_what_was_changed_beyond_repair_stays_where_it_is(store, bring_back, counted, capsys):
    key = set_aside(store, forty_rows(), flip(flip(encode_landing(forty_rows()), 3_000), 4_000))
    assert bring_back(key) == 1
    assert "it stays where it is; lines lost: 40" in capsys.readouterr().out
    assert store.list_keys("") == [key]
    assert counted() == QuarantineFigures()


def test_what_is_no_landing_object_in_quarantine_is_refused_by_name(store, bring_back):
    with pytest.raises(ValidationError, match=r"^key: must begin with quarantine/"):
        bring_back("landing/x.jsonl.gz")
    with pytest.raises(ValidationError, match=r"^quarantine/5-6\.json: is a message: "):
        bring_back("quarantine/5-6.json")
    with pytest.raises(ObjectNotFoundError, match="no object quarantine/gone"):
        bring_back("quarantine/gone.jsonl.gz")


def test_the_list_tells_what_is_in_quarantine_and_not_what_was_brought_back(store, bring_back, monkeypatch, capsys):
    message = {"message_id": "m", "body": "x", "quarantined_at": "", "reasons": ["body: not valid JSON", "[1]: bad"]}
    store.put("quarantine/1-1.json", json.dumps(message).encode())
    store.put("quarantine/2-2.json", b"nonsense")
    store.put("quarantine/restored/3-3.json", b"nonsense")
    key = set_aside(store, forty_rows(), b"")
    store.put("quarantine/unknown", b"")
    assert list_quarantine(store) == 0
    assert capsys.readouterr().out.splitlines() == [
        "quarantine/1-1.json: a message: body: not valid JSON; [1]: bad",
        "quarantine/2-2.json: unreadable",
        f"{key}: a landing object, lines: 40; the log of the run that refused it has the reason",
        "quarantine/unknown: a landing object, lines: unknown; the log of the run that refused it has the reason",
        "4 objects in quarantine",
    ]
    monkeypatch.setattr("ops.quarantine._LISTED_MAX", 2)
    list_quarantine(store)
    assert capsys.readouterr().out.splitlines()[2:] == ["4 objects in quarantine, of which the first 2 are listed"]
