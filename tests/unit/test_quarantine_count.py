"""The count of quarantine: every object once, whatever is repeated, interrupted or done by two at once."""

import pytest

from chalicelib.errors import ServiceUnavailableError
from chalicelib.quarantine_count import QuarantineCount, QuarantineFigures
from tests.contracts import LEDGER_TABLE, tallies
from tests.fakes import FakeDynamoDb, service_error


@pytest.fixture
def dynamodb():
    return FakeDynamoDb({LEDGER_TABLE: "id"})


@pytest.fixture
def count(dynamodb):
    return QuarantineCount(LEDGER_TABLE, dynamodb, clock=lambda: 1_000_000.5, sleep=lambda _: None)


def test_nothing_is_in_quarantine_at_first(count, dynamodb):
    assert tallies(dynamodb).quarantine == QuarantineFigures(0, 0, 0)


def test_an_object_counts_once_however_often_it_is_set_aside_and_brought_back(count, dynamodb):
    for _ in range(3):
        count.set_aside("quarantine/a.json")
        count.set_aside("quarantine/b.jsonl.gz")
        count.brought_back("quarantine/b.jsonl.gz", 38)
    assert tallies(dynamodb).quarantine == QuarantineFigures(objects=2, restored_objects=1, restored_rows=38)


def test_many_objects_are_counted_in_few_transactions_and_each_once(count, dynamodb):
    keys = [f"quarantine/{number}.json" for number in range(250)]
    count.set_aside(*keys[::2])
    dynamodb.calls.clear()
    for _ in range(2):
        count.set_aside(*keys)
    assert tallies(dynamodb).quarantine.objects == 250
    # The first three once more, without what was counted; then each finds everything counted.
    assert dynamodb.calls.count("transact_write_items") == 6 + 3


def test_nothing_set_aside_is_no_call(count, dynamodb):
    count.set_aside()
    assert dynamodb.calls == []


def test_objects_that_meet_another_transaction_are_counted_all_the_same(count, dynamodb):
    count.set_aside("quarantine/a.json")
    dynamodb.conflicts = 3
    count.set_aside("quarantine/a.json", "quarantine/b.json")
    assert tallies(dynamodb).quarantine.objects == 2


def test_an_object_is_the_same_before_and_after_it_was_moved(count, dynamodb):
    count.set_aside("landing/b.jsonl.gz")
    count.set_aside("quarantine/b.jsonl.gz")
    assert tallies(dynamodb).quarantine.objects == 1


def test_an_object_of_which_nothing_was_left_is_brought_back_too(count, dynamodb):
    count.set_aside("quarantine/b.jsonl.gz")
    count.brought_back("quarantine/b.jsonl.gz", 0)
    assert tallies(dynamodb).quarantine == QuarantineFigures(objects=1, restored_objects=1, restored_rows=0)


def test_a_call_that_fails_counts_nothing_and_its_repetition_once(count, dynamodb):
    dynamodb.failing["transact_write_items"] = service_error()
    with pytest.raises(type(service_error())):
        count.set_aside("quarantine/a.json")
    dynamodb.failing.clear()
    assert tallies(dynamodb).quarantine.objects == 0
    count.set_aside("quarantine/a.json")
    assert tallies(dynamodb).quarantine.objects == 1


def test_a_call_whose_answer_is_lost_counts_once_with_its_repetition(count, dynamodb, monkeypatch):
    write = dynamodb.transact_write_items

    def write_and_die(**request):
        write(**request)
        raise service_error()

    monkeypatch.setattr(dynamodb, "transact_write_items", write_and_die)
    with pytest.raises(type(service_error())):
        count.brought_back("quarantine/b.jsonl.gz", 38)
    monkeypatch.undo()
    count.brought_back("quarantine/b.jsonl.gz", 38)
    assert tallies(dynamodb).quarantine == QuarantineFigures(objects=0, restored_objects=1, restored_rows=38)


def test_transactions_that_meet_are_tried_again(count, dynamodb):
    dynamodb.conflicts = 3
    count.set_aside("quarantine/a.json")
    assert tallies(dynamodb).quarantine.objects == 1


def test_transactions_that_keep_meeting_are_left_to_whoever_tries_again(count, dynamodb):
    dynamodb.conflicts = 4
    with pytest.raises(dynamodb.exceptions.TransactionCanceledException):
        count.set_aside("quarantine/a.json")
    count.set_aside("quarantine/a.json")
    assert tallies(dynamodb).quarantine.objects == 1


def test_a_throttled_count_is_no_smaller_one(count, dynamodb):
    count.set_aside("quarantine/a.json")
    dynamodb.batch_get_max = 1
    with pytest.raises(ServiceUnavailableError, match="left counters unread"):
        tallies(dynamodb)


def test_the_figures_are_read_in_one_call_that_sees_every_write(count, dynamodb):
    count.set_aside("quarantine/a.json")
    dynamodb.calls.clear()
    assert tallies(dynamodb).quarantine.objects == 1
    assert dynamodb.calls == ["batch_get_item"]


def test_markers_expire_and_counters_do_not(count, dynamodb):
    count.set_aside("quarantine/a.json")
    count.brought_back("quarantine/a.json", 1)
    expiring = {
        key: item["expires_at"]["N"] for key, item in dynamodb.tables[LEDGER_TABLE].items() if "expires_at" in item
    }
    after_half_a_year = str(1_000_000 + 180 * 86_400)
    assert expiring == {"quarantine/a.json": after_half_a_year, "restored/a.json": after_half_a_year}
    assert {"quarantined", "restored"} < set(dynamodb.tables[LEDGER_TABLE])


def test_of_two_that_count_at_once_the_second_finds_it_counted(count, dynamodb, monkeypatch):
    write = dynamodb.transact_write_items

    def overtaken_write(**request):
        monkeypatch.undo()
        QuarantineCount(LEDGER_TABLE, dynamodb).set_aside("quarantine/a.json")
        write(**request)

    monkeypatch.setattr(dynamodb, "transact_write_items", overtaken_write)
    count.set_aside("quarantine/a.json")
    assert tallies(dynamodb).quarantine.objects == 1
