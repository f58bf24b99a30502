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
from chalicelib.analytics import workflow
from chalicelib.api import http
from chalicelib.api.access import Scope
from chalicelib.api.dashboard import AssetQuery, read_asset, read_page
from chalicelib.api.report_reader import ReportQuery
from chalicelib.api.tokens import SUBJECT_CHARACTERS_MAX
from chalicelib.aws import Aws
from chalicelib.fields import parse_id
from chalicelib.ingest.provisioning import SensorAnswer
from chalicelib.ingest.queue_messages import read_record
from chalicelib.ingest.readings import BatchAnswer
from chalicelib.metrics import Metrics
from chalicelib.services import Services
from chalicelib.settings import load_settings
from chalicelib.validation import convert

STAGE = os.environ.get("THERMONET_STAGE", "dev")
# curl -d says form-urlencoded unless another type is given; the body is JSON all the same.
JSON_BODY = ["application/json", "application/x-www-form-urlencoded"]
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


def count_refused(number: int) -> None:
    """Count the sensors that are kept out, by a limit or for want of a curve, whichever way they come."""
    metrics.count(RefusedSensors=number)


services = Services(SETTINGS, Aws(STAGE), logger.get_correlation_id, count_refused)
routes = http.Routes(app, logger, time.time)


# A minute, so that a key that is withdrawn is not remembered for long.
@app.authorizer(ttl_seconds=60)
def authorize(request: AuthRequest) -> AuthResponse:
    """Identify the token's owner; the gateway keeps the answer, so time, scope and location are for the routes."""
    try:
        access = services.tokens.authenticate(request.token)
    except errors.NotAuthenticatedError as error:
        logger.warning("token refused", extra={"reason": str(error)})
        return AuthResponse(routes=[], principal_id="nobody")
    except errors.ServiceUnavailableError:
        logger.exception("no token can be checked")
        # An error is no answer that the gateway would keep: it says 500 to this call alone.
        raise
    logger.info("token accepted", extra={"subject": access.subject})
    context = access.to_context()
    # The answer is kept for the token, whatever it asks for next. The principal is for the gateway's own logs.
    return AuthResponse(routes=["*"], principal_id=context["subject"][:SUBJECT_CHARACTERS_MAX], context=context)


@app.route("/readings", methods=["POST"], content_types=JSON_BODY, authorizer=authorize)
@routes.answers_errors
def post_readings() -> Response:
    """Take a reading or a batch; answer with temperature and status of each."""
    access = routes.access_for(Scope.WRITE_READINGS)
    try:
        answer = services.ingest.post(routes.body(), access.allows, app.lambda_context)
    except (errors.ValidationError, errors.ForbiddenError, errors.ReadingConflictError, errors.BodyTooLargeError):
        metrics.count(RejectedReadings=1)
        raise
    batch = answer if isinstance(answer, BatchAnswer) else BatchAnswer.of([answer])
    counts = {"accepted": batch.accepted, "broken": batch.broken, "rejected": batch.rejected}
    logger.info("readings answered", extra=counts)
    metrics.count(**{f"{kind.capitalize()}Readings": number for kind, number in counts.items()})
    return http.json_response(answer)


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
    known_id, _ = routes.access_to(location_id, Scope.READ_REPORTS)
    since = routes.query(ReportQuery).since
    return http.document_response(services.report_reader.report(known_id, routes.known_runs(), since))


@app.route("/locations/{location_id}/sensors", methods=["POST"], content_types=JSON_BODY, authorizer=authorize)
@routes.answers_errors
def post_sensors(location_id: str) -> Response:
    """Make or change several sensors of a location; answer with each as it then is."""
    known_id, access = routes.access_to(location_id, Scope.WRITE_SENSORS)
    answer = services.provisioning.put_all(known_id, routes.body())
    for one in answer.results:
        if isinstance(one, SensorAnswer):
            logger.info("sensor provisioned", extra={"subject": access.subject, **msgspec.to_builtins(one)})
    return http.json_response(answer)


@app.route("/locations/{location_id}/sensors/{sensor_id}", authorizer=authorize)
@routes.answers_errors
def get_sensor(location_id: str, sensor_id: str) -> Response:
    """Show a sensor: whether it is broken or retired, and its thermistor."""
    known_id, _ = routes.access_to(location_id, Scope.READ_REPORTS)
    return http.json_response(services.provisioning.find(known_id, parse_id("sensor_id", sensor_id)))


@app.route(
    "/locations/{location_id}/sensors/{sensor_id}", methods=["PUT"], content_types=JSON_BODY, authorizer=authorize
)
@routes.answers_errors
def put_sensor(location_id: str, sensor_id: str) -> Response:
    """Make or change a sensor."""
    known_id, access = routes.access_to(location_id, Scope.WRITE_SENSORS)
    answer = services.provisioning.put(known_id, parse_id("sensor_id", sensor_id), routes.body())
    logger.info("sensor provisioned", extra={"subject": access.subject, **msgspec.to_builtins(answer)})
    return http.json_response(answer)


@app.route("/locations/{location_id}/sensors/{sensor_id}", methods=["DELETE"], authorizer=authorize)
@routes.answers_errors
def delete_sensor(location_id: str, sensor_id: str) -> Response:
    """Retire a sensor, until its next reading."""
    known_id, access = routes.access_to(location_id, Scope.WRITE_SENSORS)
    answer = services.provisioning.retire(known_id, parse_id("sensor_id", sensor_id))
    logger.info("sensor retired", extra={"subject": access.subject, **msgspec.to_builtins(answer)})
    return http.json_response(answer)


@app.route("/runs/latest", authorizer=authorize)
@routes.answers_errors
def get_latest_run() -> Response:
    """Return the summary of the committed run, without figures to a token that is limited to locations."""
    access = routes.access_for(Scope.READ_REPORTS)
    return http.document_response(services.report_reader.latest_run(routes.known_runs(), access.only_locations))


@app.route("/")
def get_dashboard() -> Response:
    """Show the dashboard, which asks for data and token by itself."""
    page = read_page()
    return Response(page.content, {**page.headers})


@app.route("/assets/{name}")
@routes.answers_errors
def get_asset(name: str) -> Response:
    """Serve a script or style of the dashboard."""
    asset = read_asset(name, routes.query(AssetQuery).v)
    return Response(asset.content, {**asset.headers})


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
    arn = workflow.start_scheduled_run(
        event.to_dict()["time"], services.aws.resources.state_machine_arn, services.aws.stepfunctions
    )
    logger.info("run started" if arn else "no run started", extra={"execution_arn": arn})
    return {"execution_arn": arn}


def task(request_type: type[Any], log_message: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function a task of the workflow: typed request, logged answer, and one name for all failures of AWS."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def handler(event: Any, _context: Any) -> Any:
            request = convert(event, request_type)
            logger.set_correlation_id(request.run_id)
            try:
                answer = function(request)
            except (BotoCoreError, ClientError) as error:
                # The one that the workflow's Retry knows; boto3 has hundreds.
                raise errors.ServiceUnavailableError(str(error)) from error
            logger.info(log_message, extra=msgspec.to_builtins(answer))
            return msgspec.to_builtins(answer)

        return handler

    return decorate


@app.lambda_function()
@task(workflow.ClaimRequest, "run claimed")
def claimer(request: workflow.ClaimRequest) -> workflow.ClaimAnswer:
    """Do what the committed run left to do, and claim the next one's input."""
    answer = services.claimer.claim(request)
    metrics.count(ArchiveBehindMinutes=round(answer.archive_behind_minutes))
    return answer


@app.lambda_function()
@task(workflow.ReceiveRequest, "run prepared")
def receiver(request: workflow.ReceiveRequest) -> workflow.PlanAnswer:
    """Prepare a run of the workflow: what it counts, and one file of sums per location."""
    return services.receiver.receive(request)


@app.lambda_function()
@task(workflow.ReportRequest, "location reported")
def reporter(request: workflow.ReportRequest) -> workflow.ReportAnswer:
    """Report on one location of a run."""
    return services.reporter.report(request)


@app.lambda_function()
@task(workflow.SummaryRequest, "run summed up")
def summarizer(request: workflow.SummaryRequest) -> workflow.RunAnswer:
    """Sum up a run whose locations are reported."""
    answer = services.summarizer.summarize(request)
    if not answer.is_static:
        # Here, since a run that fails before has counted nothing.
        metrics.count(**{f"Run{kind.capitalize()}": number for kind, number in structs.asdict(answer.counts).items()})
    return answer
