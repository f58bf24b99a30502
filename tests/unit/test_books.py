"""The books that `make run` closes: every accepted reading is in one place."""

from types import SimpleNamespace

import pytest
from msgspec import structs

from chalicelib.ledger import NO_MANIFEST, Counts, Tallies
from chalicelib.quarantine_count import QuarantineFigures
from localcloud.run import Books, close_books, describe_books
from tests.fake_s3 import FakeObjectStore

BOOKS = Books(accepted=15, reported=8, late=3, duplicates=1, quarantined=4, in_flight=2)


def test_what_arrived_late_is_among_what_is_reported():
    assert BOOKS.balance
    assert describe_books(BOOKS) == (
        "15 accepted, 8 reported (of which 3 late) + 1 duplicate + 4 quarantined + 2 in flight: the books balance"
    )


@pytest.mark.parametrize("place", ["reported", "duplicates", "quarantined", "in_flight"])
def test_a_reading_that_is_nowhere_or_in_two_places_is_told(place):
    for difference in (-1, 1):
        books = structs.replace(BOOKS, **{place: getattr(BOOKS, place) + difference})
        assert describe_books(books).endswith("THE BOOKS DO NOT BALANCE")


def test_a_quarantined_landing_object_counts_with_its_rows_until_they_are_brought_back_and_a_message_as_one():
    store = FakeObjectStore()
    for name in ("20260301T120000.000000Z_7_20260301T115900Z_20260301T115959Z_0of1_1.jsonl.gz", "m1.json"):
        store.put(f"quarantine/{name}", b"")
    cloud = SimpleNamespace(
        store=store,
        ledger=SimpleNamespace(tallies=lambda: Tallies(0, QuarantineFigures(2, 1, restored_rows=3))),
        resources=SimpleNamespace(queue_url="queue", dead_letter_queue_url="dead letters"),
        count_messages={"queue": 2, "dead letters": 1}.get,
    )
    manifest = structs.replace(NO_MANIFEST, totals=Counts(measurements=8, duplicates=2, late=4, quarantined=7))
    books = close_books(SimpleNamespace(accepted=18), manifest, cloud)
    assert books == Books(accepted=18, reported=8, late=4, duplicates=2, quarantined=7 - 3 + 1, in_flight=3)
    assert books.balance
