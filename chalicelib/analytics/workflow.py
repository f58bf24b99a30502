"""The analytics workflow from the outside: the messages between its states, and how a scheduled run starts."""

import logging
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from chalicelib.fields import Timestamp
from chalicelib.ledger import STATIC_PREFIX, Counts, Part, Quarantine, run_of

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

logger = logging.getLogger(__name__)

ExecutionName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,80}\Z")]
RunId = Annotated[str, Meta(pattern=r"^[0-9a-f-]{1,80}\Z")]
Key = Annotated[str, Meta(min_length=1, max_length=1024)]


class SqsInput(Struct, frozen=True, forbid_unknown_fields=True, tag_field="source", tag="SQS"):
    """Input of a scheduled run: what the queue's consumer has landed."""


class S3Input(Struct, frozen=True, forbid_unknown_fields=True, tag_field="source", tag="S3"):
    """Input of a development run: an object of the bucket, .csv, .jsonl (both also .gz) or .parquet."""

    key: Key


class ClaimRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The request to the claimer: the execution's name and start, and the workflow's own input."""

    execution: ExecutionName
    started_at: Timestamp
    input: SqsInput | S3Input

    @property
    def run_id(self) -> str:
        """The name in the log of all that is done before the run has one of its own."""
        return self.execution


class ReportScope(Struct, frozen=True, forbid_unknown_fields=True):
    """What the reports of one run show, whatever a deployment changes meanwhile."""

    window_minutes: int
    history_hours: int


class Claim(Struct, frozen=True):
    """All that decides what a run contains, fixed before it begins.

    `landing` are the objects that it takes, or the one static file; `archived` the keys of those entries of the
    previous manifest that are in the archive by now; `swept_at` when all runs were last cleaned up behind.
    """

    folder: str
    execution: str
    started_at: datetime
    previous_run_id: str
    input: SqsInput | S3Input
    landing: list[str]
    archived: list[str]
    swept_at: str
    scope: ReportScope

    @property
    def run_id(self) -> str:
        """The attempt's number and name; of a static run its name."""
        return run_of(self.folder)

    @property
    def is_static(self) -> bool:
        """Whether it is over a file of somebody's, and leaves the ledger alone."""
        return isinstance(self.input, S3Input)


class ClaimAnswer(Struct, frozen=True):
    """The claimer's answer, with which the workflow goes on, or not; how long the archive has been waiting for rows."""

    run_id: str
    folder: str
    previous_run_id: str
    claim_key: str
    has_work: bool
    scope: ReportScope
    archive_behind_minutes: float


class ReceiveRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The request to the receiver: the run, and where its claim is."""

    run_id: RunId
    claim_key: Key


class Plan(Struct, frozen=True):
    """What a try of the receiver found and wrote: the claim goes on with the one whose answer counts.

    `spool` are the parts with what the run counts, `duplicates` all parts that remember duplicates from now on.
    """

    claim: Claim
    locations: int
    counts: Counts
    quarantine: list[Quarantine]
    spool: list[Part]
    duplicates: list[Part]
    latest_measurement: str | None


class PlanAnswer(Struct, frozen=True):
    """The receiver's answer; small, whatever the size of the run."""

    run_id: str
    plan_key: str
    locations_key: str
    locations: int
    counts: Counts


class LocationTask(Struct, frozen=True, forbid_unknown_fields=True):
    """An item of the Map: where a location's new sums and its previous state are, if there are any."""

    location_id: str
    increments_key: str | None
    previous_state_key: str | None
    counts: Counts


class ReportRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The request to a reporter: the run, its start, what reports show, and one location's task."""

    run_id: RunId
    folder: Key
    started_at: Timestamp
    scope: ReportScope
    task: LocationTask


class ReportAnswer(Struct, frozen=True):
    """A report that is written."""

    location_id: str
    report_key: str


class SummaryRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The request to the summarizer: the run whose locations are reported, and its plan."""

    run_id: RunId
    plan_key: Key


class RunAnswer(Struct, frozen=True):
    """The summarizer's answer, with which the workflow commits; small, whatever the size of the run.

    `reports` are the first ones of a run over a static input, which nobody finds through the ledger.
    """

    run_id: str
    previous_run_id: str
    manifest_key: str
    locations: int
    counts: Counts
    reports: list[ReportAnswer] = []

    @property
    def is_static(self) -> bool:
        """Whether nothing will be committed."""
        return self.manifest_key.startswith(STATIC_PREFIX)


def start_scheduled_run(event_time: str, state_machine_arn: str, stepfunctions: "SFNClient") -> str | None:
    """Start the run of a scheduled event, given as `2026-01-31T09:00:00Z`; return its execution's ARN.

    Returns None when that event has had its run, or another run is still going: its successor will
    find everything that this one would have.
    """
    running = stepfunctions.list_executions(stateMachineArn=state_machine_arn, statusFilter="RUNNING", maxResults=1)
    if running["executions"]:
        logger.warning("not started for %s: %s is running", event_time, running["executions"][0]["name"])
        return None
    # Named after the event, so that an event delivered twice cannot start two runs.
    name = event_time.replace(":", "-")
    try:
        started = stepfunctions.start_execution(stateMachineArn=state_machine_arn, name=name, input='{"source":"SQS"}')
    except stepfunctions.exceptions.ExecutionAlreadyExists:
        logger.warning("not started for %s: it has been before", event_time)
        return None
    return started["executionArn"]
