"""The run ledger: which run is committed, and the manifest that describes a run.

An attempt at a run has a number, one more than the committed run's, and a name by chance; both are its id. The
protocol that rests on them is described in docs/architecture.md.
"""

from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from msgspec import Struct, structs

from chalicelib import broken_count, quarantine_count
from chalicelib.errors import ServiceUnavailableError
from chalicelib.object_store import ObjectStore
from chalicelib.thermistor import StatusLimits
from chalicelib.validation import decode_json

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

RUNS_PREFIX = "runs/"
# Below which runs over files of somebody's write; it expires.
STATIC_PREFIX = "static/"
RUN_ID = r"\d{12}-[0-9a-f]{16}"
_NUMBER_DIGITS = 12


class Counts(Struct, frozen=True):
    """Measurements by outcome; conflicts are duplicates with another value, and the late are among the counted.

    `quarantined` are the rows of landing objects that are set aside, `invalid` those of a static file.
    """

    measurements: int = 0
    duplicates: int = 0
    conflicts: int = 0
    late: int = 0
    quarantined: int = 0
    invalid: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        pairs = zip(structs.astuple(self), structs.astuple(other), strict=True)
        return Counts(*(mine + its for mine, its in pairs))


class Part(Struct, frozen=True):
    """A Parquet file with rows of one shard, measured between two seconds (UTC, `20260131T090000Z`) of one day."""

    key: str
    rows: int
    first: str
    last: str
    shard: str

    @property
    def date(self) -> str:
        """The day of measurement, as `2026-01-31`."""
        return f"{self.first[:4]}-{self.first[4:6]}-{self.first[6:8]}"


class Entry(Struct, frozen=True):
    """An archive file that the next claims write from parts of the spool, and since when."""

    key: str
    parts: list[Part]
    rows: int
    decided_at: str


class Quarantine(Struct, frozen=True):
    """A landing object that the next claim sets aside: why, and how many rows are missing with it."""

    key: str
    reason: str
    rows: int


class Manifest(Struct, frozen=True):
    """The description of one run, written once, before its commit.

    `landing` are the objects it consumed, `quarantine` those it refused, `reports` is the report of every location
    known so far. What committed runs have counted is in the archive, in the parts of the `spool` and in those of the
    `entries`, which the next claims hand over to the archive; `duplicates` are the parts that remember which
    duplicates were counted as such. `archived_through` is the number of the last run of which every row is in the
    archive. `counts` are the run's, `totals` those of all runs; it reported on so many `locations`. `quarantined`
    objects are set aside as of the run, `broken_sensors` those latched until it was summed up, `newly_broken_sensors`
    those that the run before did not know of; below the limits a moving average has the status that they are named
    after. Times are as `format_time` writes
    them; `swept_at` is that of the last claim that looked at all runs, `handed_over_at` and `late_handed_over_at` are
    those of the last entries of current and of past days.
    """

    run_id: str
    previous_run_id: str
    execution: str
    created_at: str
    landing: list[str]
    quarantine: list[Quarantine]
    reports: dict[str, str]
    spool: list[Part]
    entries: list[Entry]
    duplicates: list[Part]
    archived_through: int
    locations_summary_key: str
    latest_measurement: str
    counts: Counts
    totals: Counts
    swept_at: str
    handed_over_at: str
    late_handed_over_at: str
    locations: int = 0
    quarantined: int = 0
    broken_sensors: int = 0
    newly_broken_sensors: int = 0
    status_below_celsius: StatusLimits | None = None


class Tallies(Struct, frozen=True):
    """The counters in the ledger's table: the sensors ever latched as broken, and what was set aside."""

    broken_sensors: int
    quarantine: quarantine_count.QuarantineFigures


# No attempt can have this name.
NO_RUN = "(none)"
_NEVER = "1970-01-01T00:00:00.000Z"

# What the first run continues from. The ledger's condition compares run ids, so there must be one.
NO_MANIFEST = Manifest(
    run_id=NO_RUN,
    previous_run_id=NO_RUN,
    execution="",
    created_at=_NEVER,
    landing=[],
    quarantine=[],
    reports={},
    spool=[],
    entries=[],
    duplicates=[],
    archived_through=0,
    locations_summary_key="",
    latest_measurement=_NEVER,
    counts=Counts(),
    totals=Counts(),
    swept_at=_NEVER,
    handed_over_at=_NEVER,
    late_handed_over_at=_NEVER,
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
        return self.read_manifest(self.head() or NO_RUN)

    def read_manifest(self, run_id: str) -> Manifest:
        """Return a run's manifest, NO_MANIFEST of NO_RUN; raises ObjectNotFoundError."""
        return NO_MANIFEST if run_id == NO_RUN else self._read(manifest_key(run_folder(run_id)))

    def write_manifest(self, folder: str, manifest: Manifest) -> Manifest:
        """Write the manifest of the run whose folder this is unless it has one, and return the one that it has."""
        key = manifest_key(folder)
        return manifest if self._store.put_first(key, msgspec.json.encode(manifest)) else self._read(key)

    def tallies(self) -> Tallies:
        """Return what is counted beside runs, as it is now; raises ServiceUnavailableError when throttled."""
        ids = [*broken_count.COUNTER_IDS, *quarantine_count.COUNTER_IDS]
        keys = [{"id": {"S": one}} for one in ids]
        read = self._dynamodb.batch_get_item(RequestItems={self._table_name: {"Keys": keys, "ConsistentRead": True}})
        if read["UnprocessedKeys"]:
            raise ServiceUnavailableError("the ledger's table left counters unread, try again")
        items: dict[str, Any] = {item["id"]["S"]: item for item in read["Responses"].get(self._table_name, [])}
        return Tallies(broken_count.broken_sensors(items), quarantine_count.quarantine_figures(items))

    def _read(self, key: str) -> Manifest:
        return decode_json(self._store.get(key), Manifest, key)


def next_run_id(previous_run_id: str, name: UUID) -> str:
    """Name an attempt at the run that follows another: ids sort by number."""
    return f"{run_number(previous_run_id) + 1:0{_NUMBER_DIGITS}}-{short_name(name)}"


def short_name(name: UUID) -> str:
    """Return 64 bits of a UUID as 16 hexadecimal digits, enough among the few names of a run."""
    return name.hex[:16]


def run_number(run_id: str) -> int:
    """Return the number of an attempt, 0 before the first."""
    return 0 if run_id == NO_RUN else int(run_id[:_NUMBER_DIGITS])


def run_folder(run_id: str) -> str:
    """Name the folder below which an attempt writes all that may be committed."""
    return f"{RUNS_PREFIX}{run_id}"


def run_of(key: str) -> str:
    """Return the id of the run in whose folder a key is."""
    return key.split("/", maxsplit=2)[1]


def manifest_key(folder: str) -> str:
    """Name the manifest of the run whose folder this is."""
    return f"{folder}/manifest.json"


def report_key(folder: str, location_id: str, attempt: str) -> str:
    """Name the report about a location that one try of a reporter writes."""
    return f"{folder}/reports/location_id={location_id}/{attempt}.json"


def state_key(key_of_report: str) -> str:
    """Name the exact sums behind a report, from which the next report continues."""
    return key_of_report.replace("/reports/", "/state/", 1).removesuffix(".json") + ".parquet"
