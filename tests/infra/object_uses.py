"""Plays a stage's life in memory, and notes what each function does to which keys of the bucket."""

import json
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from fnmatch import fnmatchcase
from functools import cache
from typing import Any
from uuid import uuid4

from chalicelib.api.report_reader import ReportReader
from chalicelib.ingest.buffering import Buffer
from chalicelib.landing import landing_key
from chalicelib.ledger import Ledger
from tests.factories import NOW, analytics_settings, measurement_fields, message
from tests.fake_s3 import FakeObjectStore
from tests.fakes import FakeDynamoDb
from tests.workflow_player import LEDGER_TABLE, WorkflowPlayer

# Every kind of key that the stage's own functions use.
KINDS = frozenset(
    {
        "landing/*",
        "quarantine/*",
        "runs/*",
        "scratch/*/locations.json",
        "scratch/*/location_id=*",
        "scratch/*/latest/*",
        "reports/location_id=*",
        "state/location_id=*",
        "state/seen/*",
    }
)
# A file of somebody's own, for a run over it.
ANY_KEY = "*"

_ACTIONS = {
    "get": "s3:GetObject",
    "put": "s3:PutObject",
    "put_first": "s3:PutObject",
    "delete": "s3:DeleteObject",
    "list_keys": "s3:ListBucket",
}

Uses = dict[str, set[str]]


@cache
def object_uses() -> dict[str, Uses]:
    """Return the kinds of keys that each function uses, by action; those of the state machine as `workflow`."""
    world = _World()
    for day in range(4):
        world.live(day)
    world.run_over_a_file()
    world.read()
    return {
        function: {action: _kinds(keys) for action, keys in used.items() if action != "s3:ListBucket"}
        for function, used in world.used.items()
    }


def _kinds(keys: set[str]) -> set[str]:
    found = set()
    for key in keys:
        kinds = [kind for kind in KINDS if fnmatchcase(key, kind)] or [ANY_KEY]
        assert len(kinds) == 1, key
        found |= set(kinds)
    # Who may use any key needs no right to some.
    return {ANY_KEY} if ANY_KEY in found else found


class _Player(WorkflowPlayer):
    """A workflow of which each function has its own way to the bucket."""

    def __init__(self, bucket_of: Callable[[str], FakeObjectStore], dynamodb: Any) -> None:
        super().__init__(analytics_settings(), bucket_of("workflow"), dynamodb)
        self._bucket_of = bucket_of

    def _invoke(self, parameters: dict[str, Any]) -> Any:
        own_store = self.store
        self.store = self._bucket_of(parameters["FunctionName"].removeprefix("${").removesuffix("_arn}"))
        try:
            return super()._invoke(parameters)
        finally:
            self.store = own_store


class _World:
    """One bucket and one ledger, and every function with its own way to them."""

    def __init__(self) -> None:
        self.used: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        self._objects: dict[str, bytes] = {}
        self._now = NOW
        dynamodb: Any = FakeDynamoDb({LEDGER_TABLE: "id"})
        reads = self._bucket_of("app")
        self._buffer = Buffer(self._bucket_of("buffer_measurements"), lambda: self._now, uuid4)
        self._player = _Player(self._bucket_of, dynamodb)
        self._reader = ReportReader(Ledger(LEDGER_TABLE, dynamodb, reads), reads)

    def _bucket_of(self, function: str) -> FakeObjectStore:
        bucket = FakeObjectStore()
        bucket.s3.objects = self._objects
        bucket.s3.before = lambda operation, key: self.used[function][_ACTIONS[operation]].add(key)
        return bucket

    def live(self, day: int) -> None:
        """Take in good, undecodable and damaged data, and run; a day later nobody remembers what was seen before."""
        self._now = NOW + timedelta(days=3 * day)
        fields = [measurement_fields(location_id=location, timestamp=self._now.isoformat()) for location in ("a", "b")]
        self._buffer.store([message(json.dumps(fields), f"good-{day}"), message("not JSON", f"bad-{day}")])
        self._objects[landing_key(self._now, uuid4())] = b"damaged"
        self._player.run(f"run-{day}", self._now)

    def run_over_a_file(self) -> None:
        """Run over a static input, which has any name."""
        self._objects["my.jsonl"] = json.dumps(measurement_fields(timestamp=NOW.isoformat())).encode()
        played = self._player.run("static", self._now, {"source": "S3", "key": "my.jsonl"})
        assert played.status == "SUCCEEDED"

    def read(self) -> None:
        """Ask for everything that readers can."""
        reads: list[Callable[[], Any]] = [
            lambda: self._reader.latest_run(()),
            lambda: self._reader.locations((), None),
            lambda: self._reader.locations((), {"a"}),
            lambda: self._reader.report("a", (), None),
        ]
        assert all(read().content for read in reads)
