"""Every entry point of Thermonet: HTTP routes, the queue's consumer, the schedule, and the workflow's functions."""

import functools
import json
import logging
import os
import time
from collections.abc import Callable
from typing import Any

import msgspec
from aws_lambda_powertools import Logger
from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers
from botocore.exceptions import BotoCoreError, ClientError
from chalice.app import AuthRequest, AuthResponse, Chalice, CloudWatchEvent, Rate, Response, SQSEvent
from msgspec import structs

from chalicelib import errors
from chalicelib.analytics.workflow import ReportRequest, RunRequest, SummaryRequest, start_scheduled_run
from chalicelib.api import http
from chalicelib.api.access import Scope
from chalicelib.api.dashboard import read_asset, read_page
from chalicelib.api.report_reader import ReportQuery
from chalicelib.aws import Aws
from chalicelib.fields import parse_id
from chalicelib.ingest.buffering import read_record
from chalicelib.metrics import Metrics
from chalicelib.services import Services
from chalicelib.settings import load_settings
from chalicelib.validation import convert

STAGE = os.environ.get("THERMONET_STAGE", "dev")
# The decorators below need figures of the stage, so this much is read at import.
SETTINGS = load_settings(STAGE)

app = Chalice(app_name="thermonet", configure_logs=False)
app.register_middleware(http.shorten_refusal, "http")
# Chalice's own logger has the same name, so what it logs is JSON too.
# In ASCII, so that nothing in a text that somebody else has chosen can end a line or steer a terminal.
logger = Logger(service=app.app_name, json_serializer=functools.partial(json.dumps, default=str))
logging.getLogger("chalicelib")
copy_config_to_registered_loggers(logger, include={"chalicelib"})
metrics = Metrics(service=app.app_name, stage=STAGE)
services = Services(SETTINGS, Aws(STAGE), correlation_id=logger.get_correlation_id)
routes = http.Routes(app, logger, time.time)


# A minute, so that a key that is withdrawn, or keys that cannot be read, are not remembered for long.
@app.authorizer(ttl_seconds=60)
def authorize(request: AuthRequest) -> AuthResponse:
    """Identify the token's owner; the gateway keeps the answer, so expiry, scope and location are for the routes."""
    try:
        access = services.tokens.authenticate(request.token)
    except errors.NotAuthenticatedError as error:
        logger.warning("token refused", extra={"reason": str(error)})
        return AuthResponse(routes=[], principal_id="nobody")
    except errors.ServiceUnavailableError as error:
        logger.exception("no token can be checked")
        return http.unavailable_authorizer_response(error)
    logger.info("token accepted", extra={"subject": access.subject})
    return http.authorizer_response(access)


# curl -d says form-urlencoded unless another type is given; the body is JSON all the same.
@app.route(
    "/readings",
    methods=["POST"],
    content_types=["application/json", "application/x-www-form-urlencoded"],
    authorizer=authorize,
)
@routes.answers_errors
def post_readings() -> Any:
    """Take a reading or a batch; answer with temperature and status of each."""
    access = routes.access_for(Scope.WRITE_READINGS)
    try:
        answer = services.ingest.post(routes.body(), access.allows, app.lambda_context)
    except (errors.ValidationError, errors.ReadingConflictError, errors.BodyTooLargeError):
        metrics.count(RejectedReadings=1)
        raise
    counts = structs.asdict(answer.counts)
    logger.info("readings answered", extra=counts)
    metrics.count(**{f"{kind.capitalize()}Readings": number for kind, number in counts.items()})
    return msgspec.to_builtins(answer)


@app.route("/sensors/{sensor_id}", authorizer=authorize)
@routes.answers_errors
def get_sensor(sensor_id: str) -> dict[str, Any]:
    """Return whether a sensor is broken."""
    routes.access_for(Scope.READ_REPORTS)
    known_id = parse_id("sensor_id", sensor_id)
    broken = services.registry.find(known_id)
    if broken is None:
        raise errors.NotFoundError(f"sensor {known_id} has sent nothing yet")
    return {"sensor_id": known_id, "broken": broken}


@app.route("/locations", authorizer=authorize)
@routes.answers_errors
def get_locations() -> Response:
    """List the latest moving average of every location that the token is for."""
    access = routes.access_for(Scope.READ_REPORTS)
    return http.document_response(services.report_reader.locations(routes.known_runs(), access.only_locations))


@app.route("/locations/{location_id}/report", authorizer=authorize)
@routes.answers_errors
def get_report(location_id: str) -> Response:
    """Return a location's report, from the minute `since` on if the query has it."""
    access = routes.access_for(Scope.READ_REPORTS)
    known_id = parse_id("location_id", location_id)
    access.require_location(known_id)
    since = routes.query(ReportQuery).since
    return http.document_response(services.report_reader.report(known_id, routes.known_runs(), since))


@app.route("/runs/latest", authorizer=authorize)
@routes.answers_errors
def get_latest_run() -> Response:
    """Return the summary of the committed run."""
    routes.access_for(Scope.READ_REPORTS)
    return http.document_response(services.report_reader.latest_run(routes.known_runs()))


@app.route("/")
def get_dashboard() -> Response:
    """Show the dashboard, which asks for data and token by itself."""
    return http.page_response(read_page(), routes.path())


@app.route("/assets/{name}")
@routes.answers_errors
def get_asset(name: str) -> Response:
    """Serve a script or style of the dashboard."""
    return http.file_response(read_asset(name))


@app.route("/health")
def health() -> dict[str, str]:
    """Answer that the application runs, and nothing else."""
    return {"status": "OK"}


@app.on_sqs_message(
    queue=f"thermonet-{STAGE}-measurements",
    batch_size=1_000,
    maximum_batching_window_in_seconds=10,
    maximum_concurrency=10,
)
def buffer_measurements(event: SQSEvent) -> None:
    """Move a batch of queued measurements into the landing area of the bucket."""
    buffered = services.buffer.store([read_record(record) for record in event.to_dict()["Records"]])
    logger.info("batch buffered", extra=msgspec.to_builtins(buffered))
    metrics.count(LandedMeasurements=buffered.measurements, QuarantinedMessages=buffered.quarantined_messages)


@app.schedule(Rate(SETTINGS.message_retention_seconds // 60, unit=Rate.MINUTES))
def start_analytics(event: CloudWatchEvent) -> dict[str, Any]:
    """Start the analytics workflow for what has been buffered."""
    arn = start_scheduled_run(
        event.to_dict()["time"], services.aws.resources.state_machine_arn, services.aws.stepfunctions
    )
    logger.info("run started" if arn else "no run started", extra={"execution_arn": arn})
    return {"execution_arn": arn}


def fails_by_name(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give every failure of AWS the one name that the workflow's Retry knows; boto3 has hundreds."""

    @functools.wraps(function)
    def failing_function(*args: Any) -> Any:
        try:
            return function(*args)
        except (BotoCoreError, ClientError) as error:
            raise errors.ServiceUnavailableError(str(error)) from error

    return failing_function


@app.lambda_function()
@fails_by_name
def receiver(event: Any, _context: Any) -> Any:
    """Prepare a run of the workflow: one file of new measurements per location."""
    request = convert(event, RunRequest)
    logger.set_correlation_id(request.run_id)
    answer = services.receiver.receive(request)
    logger.info("run prepared", extra=msgspec.to_builtins(answer))
    return msgspec.to_builtins(answer)


@app.lambda_function()
@fails_by_name
def reporter(event: Any, _context: Any) -> Any:
    """Report on one location of a run."""
    request = convert(event, ReportRequest)
    logger.set_correlation_id(request.run_id)
    answer = services.reporter.report(request)
    logger.info("location reported", extra=msgspec.to_builtins(answer))
    return msgspec.to_builtins(answer)


@app.lambda_function()
@fails_by_name
def summarizer(event: Any, _context: Any) -> Any:
    """Sum up a run whose locations are reported."""
    request = convert(event, SummaryRequest)
    logger.set_correlation_id(request.run_id)
    summary = services.summarizer.summarize(request)
    logger.info("run summed up", extra=msgspec.to_builtins(summary))
    # Here, since a run that fails before has counted nothing.
    metrics.count(**{f"Run{kind.capitalize()}": number for kind, number in structs.asdict(summary.counts).items()})
    return {"run_id": summary.run_id}
