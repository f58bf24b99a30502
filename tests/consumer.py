"""The queue's consumer on fakes, and what it leaves where."""

import gzip
import itertools
import json
from typing import Any

from chalicelib.ingest.buffering import Buffer, Buffered
from chalicelib.ingest.queue_messages import DeadLetters, QueuedMessage
from chalicelib.quarantine_count import QuarantineCount
from tests.contracts import LEDGER_TABLE, tallies
from tests.factories import MINUTE, NOW
from tests.fake_s3 import FakeObjectStore
from tests.fakes import FakeDynamoDb, FakeSqs


class Consumer:
    """A buffer with its services, whose batches come a microsecond apart, from NOW on."""

    def __init__(self) -> None:
        self.bucket, self.dynamodb, self.dead_letters = (
            FakeObjectStore(),
            FakeDynamoDb({LEDGER_TABLE: "id"}),
            FakeSqs(),
        )
        times = (NOW + number * MINUTE / 60_000_000 for number in itertools.count())
        count = QuarantineCount(LEDGER_TABLE, self.dynamodb, sleep=lambda _: None)
        dead_letters = DeadLetters("dead-letters", self.dead_letters)
        self._buffer = Buffer(self.bucket, count, dead_letters, lambda: next(times))

    def store(self, messages: list[QueuedMessage]) -> Buffered:
        return self._buffer.store(messages)

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of all landing objects."""
        return [line for key in self.bucket.list_keys("landing/") for line in self.lines_of(key)]

    def lines_of(self, key: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in gzip.decompress(self.bucket.get(key)).splitlines()]

    def quarantined(self) -> list[dict[str, Any]]:
        return [json.loads(self.bucket.get(key)) for key in self.bucket.list_keys("quarantine/")]

    def counted(self) -> int:
        """Return how many objects are counted as in quarantine."""
        return tallies(self.dynamodb).quarantine.objects


def body(*measurements: Any) -> str:
    return json.dumps(list(measurements))
