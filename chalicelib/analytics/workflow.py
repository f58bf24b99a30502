"""The analytics workflow from the outside: the messages between its states, and how a scheduled run starts."""

import logging
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from chalicelib.fields import Timestamp
from chalicelib.ledger import Counts

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

logger = logging.getLogger(__name__)

RunId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,80}\Z")]


class SqsInput(Struct, frozen=True, forbid_unknown_fields=True, tag_field="source", tag="SQS"):
    """Input of a scheduled run: what the queue's consumer has landed."""


class S3Input(Struct, frozen=True, forbid_unknown_fields=True, tag_field="source", tag="S3"):
    """Input of a development run: an object of the bucket, .csv, .jsonl (both also .gz) or .parquet."""

    key: Annotated[str, Meta(min_length=1, max_length=1024)]


class RunRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The request to the receiver: the execution's name and start, and the workflow's own input."""

    run_id: RunId
    started_at: Timestamp
    input: SqsInput | S3Input


class ReportAnswer(Struct, frozen=True):
    """A report that is written, or about to be."""

    location_id: str
    report_key: str


class RunAnswer(Struct, frozen=True):
    """The receiver's answer, with which the workflow goes on; small, whatever the size of the run.

    `reports` are the first ones of a run over a static input, which nobody finds through the ledger.
    """

    run_id: str
    has_input: bool
    previous_run_id: str
    manifest_key: str
    locations_key: str
    locations: int
    counts: Counts
    reports: list[ReportAnswer] = []


class LocationTask(Struct, frozen=True, forbid_unknown_fields=True):
    """An item of the Map: where a location's new measurements and its previous sums are, if there are any."""

    location_id: str
    report_key: str
    measurements_key: str | None
    previous_state_key: str | None
    counts: Counts


class ReportRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The request to a reporter: the run, its start, and one location's task."""

    run_id: RunId
    started_at: Timestamp
    task: LocationTask


class SummaryRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The request to the summarizer: the run whose locations are reported."""

    run_id: RunId


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
