"""From the head of the ledger to what the manifest names, with few calls, while runs go on and clean up."""

import json

import msgspec
import pytest
from msgspec import structs

from chalicelib.api.report_reader import ReportReader
from chalicelib.errors import NotFoundError, ServiceUnavailableError
from chalicelib.ledger import NO_MANIFEST, Ledger, manifest_key, report_key, run_folder
from chalicelib.reports import LocationLatest, LocationsSummary, locations_summary_key
from tests.contracts import LEDGER_TABLE
from tests.factories import SETTINGS
from tests.fake_s3 import FakeObjectStore
from tests.fakes import FakeDynamoDb

# What each step's tries are called; the manifest names what the first one wrote.
TRIES = ["a" * 16, "f" * 16]


class Runs:
    """Runs as their steps leave them in the bucket, of which one at a time is the head."""

    def __init__(self):
        self.store = FakeObjectStore()
        self.dynamodb = FakeDynamoDb({LEDGER_TABLE: "id"})
        self.manifests = [NO_MANIFEST]
        self.objects_read = []
        self.store.s3.before = self._note

    def new_reader(self):
        """The reader of a process that has just started."""
        return ReportReader(Ledger(LEDGER_TABLE, self.dynamodb, self.store), self.store)

    def commit(self, *locations):
        """Write a run that reports on these locations, and make it the head; return its id."""
        previous, number = self.manifests[-1], len(self.manifests)
        run_id = f"{number:012}-{number:016x}"
        folder = run_folder(run_id)
        manifest = structs.replace(
            NO_MANIFEST,
            run_id=run_id,
            previous_run_id=previous.run_id,
            reports=previous.reports | {one: report_key(folder, one, TRIES[0]) for one in locations},
            locations_summary_key=locations_summary_key(folder, TRIES[0]),
            status_below_celsius=SETTINGS.status_below_celsius,
        )
        for attempt in TRIES:
            latest = [LocationLatest(one, attempt, 20.0) for one in sorted(manifest.reports)]
            self._write(locations_summary_key(folder, attempt), LocationsSummary(latest))
            for one in locations:
                self._write(report_key(folder, one, attempt), {"run_id": run_id, "generated_at": attempt})
        self._write(manifest_key(folder), manifest)
        self.manifests.append(manifest)
        self.move_head(run_id)
        return run_id

    def move_head(self, run_id):
        self.dynamodb.put_item(TableName=LEDGER_TABLE, Item={"id": {"S": "head"}, "run_id": {"S": run_id}})

    def calls(self):
        """The calls made since the last look."""
        made = [f"dynamodb:{one}" for one in self.dynamodb.calls if one != "put_item"] + self.objects_read
        self.dynamodb.calls, self.objects_read = [], []
        return made

    def _write(self, key, content):
        self.store.put(key, msgspec.json.encode(content))

    def _note(self, operation, key):
        if operation == "get":
            self.objects_read.append(key)


@pytest.fixture
def runs():
    return Runs()


READS = {
    "latest run": lambda reader, known=(): reader.latest_run(known, None),
    "outline of the latest run": lambda reader, known=(): reader.latest_run(known, ["a"]),
    "locations": lambda reader, known=(): reader.locations(known, None),
    "some locations": lambda reader, known=(): reader.locations(known, ["a"]),
    "report": lambda reader, known=(): reader.report("a", known, None),
}
every_read = pytest.mark.parametrize("read", READS.values(), ids=READS)


@every_read
def test_a_process_needs_three_calls_at_first_and_one_for_a_caller_who_has_the_answer(runs, read):
    run_id = runs.commit("a", "b")
    reader = runs.new_reader()
    assert read(reader).run_id == run_id
    assert len(runs.calls()) <= 3
    assert read(reader, {run_id}).content is None
    assert runs.calls() == ["dynamodb:get_item"]


@pytest.mark.parametrize("name", ["locations", "some locations", "report"])
def test_what_is_read_is_what_the_manifest_names_not_what_another_try_has_left(runs, name):
    runs.commit("a")
    content = READS[name](runs.new_reader()).content.decode()
    assert TRIES[0] in content
    assert TRIES[1] not in content


@every_read
def test_every_new_run_is_seen_by_who_remembers_the_one_before(runs, read):
    reader = runs.new_reader()
    for run_id in [runs.commit("a"), runs.commit("a", "b"), runs.commit("a")]:
        runs.move_head(run_id)
        assert read(reader).run_id == run_id


def test_a_report_is_tagged_with_the_run_that_wrote_it(runs):
    first = runs.commit("a", "b")
    second = runs.commit("b")
    reader = runs.new_reader()
    assert reader.report("a", (), None).run_id == first
    assert reader.report("b", (), None).run_id == second
    assert json.loads(reader.report("a", (), None).content)["run_id"] == first


@pytest.mark.parametrize(
    ("name", "missing"),
    [(name, 1) for name in READS] + [(name, 2) for name in ("locations", "some locations", "report")],
)
def test_a_reader_who_is_overtaken_is_given_what_the_new_head_names(runs, name, missing):
    """Whatever it reads behind the head may be gone by then: the next runs have committed and cleaned up."""
    read = READS[name]
    old, new = runs.commit("a"), runs.commit("a")
    runs.move_head(old)
    read(runs.new_reader())
    gone = runs.calls()[missing]

    def overtake(_operation, key):
        if key == gone:
            del runs.store.s3.objects[key]
            runs.move_head(new)

    runs.store.s3.before = overtake
    assert read(runs.new_reader()).run_id == new


@every_read
def test_a_reader_who_is_overtaken_twice_is_told_to_try_again(runs, read):
    runs.commit("a")
    runs.store.s3.objects.clear()
    with pytest.raises(ServiceUnavailableError):
        read(runs.new_reader())


def test_an_outline_has_names_and_times_and_no_figures(runs):
    runs.commit("a")
    outline = json.loads(runs.new_reader().latest_run((), ["a"]).content)
    assert outline.keys() == {"run_id", "previous_run_id", "started_at", "status_below_celsius"}


def test_before_the_first_run_nothing_is_there(runs):
    reader = runs.new_reader()
    assert json.loads(reader.locations((), None).content) == {"locations": []}
    for read in (READS["latest run"], READS["report"]):
        with pytest.raises(NotFoundError):
            read(reader)
