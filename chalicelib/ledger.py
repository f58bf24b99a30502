"""The run ledger: which run is committed, and the manifest that describes a run.

The protocol that rests on them is described in docs/architecture.md.
"""

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct, structs

from chalicelib.object_store import ObjectStore
from chalicelib.validation import decode_json

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class Counts(Struct, frozen=True):
    """Measurements by outcome; conflicts are those duplicates that had another temperature."""

    measurements: int = 0
    duplicates: int = 0
    conflicts: int = 0
    late: int = 0
    invalid: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        pairs = zip(structs.astuple(self), structs.astuple(other), strict=True)
        return Counts(*(mine + its for mine, its in pairs))


class Manifest(Struct, frozen=True):
    """The description of one run, written once, before its reports and its commit.

    `landing` are the objects it consumed, `locations_key` holds a task for each of its `locations`, `reports`
    is the report of every location known so far, `seen` the files of what was already counted, by UTC hour,
    and `watermark` the latest measurement of all runs; `counts` are the run's, `totals` those of all runs.
    `broken_sensors` are those latched until the run was prepared, `newly_broken_sensors` those that the run before
    did not know of. Times are as `format_time` writes them.
    """

    run_id: str
    created_at: str
    previous_run_id: str
    landing: list[str]
    locations_key: str
    locations: int
    reports: dict[str, str]
    seen: dict[str, list[str]]
    watermark: str
    counts: Counts
    totals: Counts
    broken_sensors: int = 0
    newly_broken_sensors: int = 0


# No execution can have this name.
_NO_RUN = "(none)"
_NEVER = "1970-01-01T00:00:00.000Z"

# What the first run continues from. The ledger's condition compares run ids, so there must be one.
NO_MANIFEST = Manifest(
    run_id=_NO_RUN,
    created_at=_NEVER,
    previous_run_id=_NO_RUN,
    landing=[],
    locations_key="",
    locations=0,
    reports={},
    seen={},
    watermark=_NEVER,
    counts=Counts(),
    totals=Counts(),
)


class Ledger:
    """Reads the committed run; only the workflow's commit writes it."""

    def __init__(self, table_name: str, dynamodb: "DynamoDBClient", store: ObjectStore) -> None:
        self._table_name = table_name
        self._dynamodb = dynamodb
        self._store = store

    def head(self) -> str | None:
        """Return the last committed run's id, None before the first; sees every commit."""
        found = self._dynamodb.get_item(TableName=self._table_name, Key={"id": {"S": "head"}}, ConsistentRead=True)
        return found["Item"]["run_id"]["S"] if "Item" in found else None

    def committed(self) -> Manifest:
        """Return the manifest of the last committed run, NO_MANIFEST before the first."""
        run_id = self.head()
        return self.read_manifest(run_id) if run_id else NO_MANIFEST

    def read_manifest(self, run_id: str) -> Manifest:
        """Return a run's manifest; raises ObjectNotFoundError."""
        key = manifest_key(run_id)
        return decode_json(self._store.get(key), Manifest, key)

    def write_manifest(self, manifest: Manifest) -> bool:
        """Write a run's manifest unless it has one; return whether this call wrote it."""
        return self._store.put_first(manifest_key(manifest.run_id), msgspec.json.encode(manifest))


def manifest_key(run_id: str) -> str:
    """Name the manifest of a run."""
    return f"runs/{run_id}/manifest.json"


def report_key(location_id: str, run_id: str) -> str:
    """Name the report that a run writes about a location."""
    return f"reports/location_id={location_id}/{run_id}.json"


def run_of_report(key_of_report: str) -> str:
    """Return the id of the run that wrote a report."""
    return key_of_report.rpartition("/")[2].removesuffix(".json")


def state_key(key_of_report: str) -> str:
    """Name the exact sums behind a report, from which the next report continues."""
    return "state/" + key_of_report.removeprefix("reports/").removesuffix(".json") + ".parquet"
