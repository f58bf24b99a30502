"""Every entry point of Thermonet: HTTP routes, the queue's consumer, the schedule, and the workflow's functions."""

import functools
import json
import logging
import os
import time
from collections.abc import Callable, Container
from typing import Any, cast

import msgspec
from aws_lambda_powertools import Logger
from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers
from botocore.exceptions import BotoCoreError, ClientError
from chalice.app import AuthRequest, AuthResponse, Chalice, CloudWatchEvent, Rate, Request, Response, SQSEvent
from msgspec import structs

from chalicelib import errors
from chalicelib.access import UNAVAILABLE, Access, Scope, access_of
from chalicelib.aws import Aws, time_limit
from chalicelib.batch import tally_of
from chalicelib.buffering import read_record
from chalicelib.counters import Counters
from chalicelib.dashboard import read_asset, read_page
from chalicelib.http_cache import entity_tag, known_runs
from chalicelib.http_errors import HTTP_ERRORS, http_refusal
from chalicelib.readings import parse_id
from chalicelib.report_reader import Document, ReportQuery
from chalicelib.services import Services
from chalicelib.settings import load_settings
from chalicelib.validation import convert, shorten
from chalicelib.workflow import ReportRequest, RunRequest, SummaryRequest, start_scheduled_run

STAGE = os.environ.get("THERMONET_STAGE", "dev")
# The decorators below need figures of the stage, so this much is read at import.
SETTINGS = load_settings(STAGE)

app = Chalice(app_name="thermonet", configure_logs=False)
# Chalice's own logger has the same name, so what it logs is JSON too.
# In ASCII, so that nothing in a text that somebody else has chosen can end a line or steer a terminal.
logger = Logger(service=app.app_name, json_serializer=functools.partial(json.dumps, default=str))
logging.getLogger("chalicelib")
copy_config_to_registered_loggers(logger, include={"chalicelib"})
counters = Counters(service=app.app_name, stage=STAGE)
services = Services(SETTINGS, Aws(STAGE), correlation_id=logger.get_correlation_id)

_LONGEST_MESSAGE = 200


def answers_errors(view: Callable[..., Any]) -> Callable[..., Any]:
    """Answer the errors of a view in Chalice's shape, with the status that http_errors gives them."""

    @functools.wraps(view)
    def answering_view(*args: Any, **kwargs: Any) -> Any:
        logger.set_correlation_id(_request().context.get("requestId"))
        try:
            with time_limit(_seconds_left()):
                return view(*args, **kwargs)
        except (BotoCoreError, ClientError) as error:
            logger.exception("a service behind the request failed")
            return _error_response(errors.ServiceUnavailableError("a service behind this one failed, try again"), error)
        except HTTP_ERRORS as error:
            return _error_response(error, error.__cause__)

    return answering_view


def _seconds_left() -> float:
    context: Any = app.lambda_context
    return float(context.get_remaining_time_in_millis()) / 1_000


def fails_by_name(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give every failure of AWS the one name that the workflow's Retry knows; boto3 has hundreds."""

    @functools.wraps(function)
    def failing_function(*args: Any) -> Any:
        try:
            return function(*args)
        except (BotoCoreError, ClientError) as error:
            raise errors.ServiceUnavailableError(str(error)) from error

    return failing_function


def _error_response(error: Exception, cause: BaseException | None) -> Response:
    refusal = http_refusal(error)
    logger.warning("request refused", extra={"status": refusal.status, "reason": str(error), "cause": repr(cause)})
    return Response({"Code": refusal.code, "Message": str(error)}, {**refusal.headers}, refusal.status)


@app.middleware("http")
def refuse_briefly(request: Request, answer: Callable[[Request], Response]) -> Response:
    """Cut what Chalice's own refusals (405, 415) repeat of the request."""
    response = answer(request)
    if isinstance(response.body, dict) and "Message" in response.body:
        response.body["Message"] = shorten(response.body["Message"], _LONGEST_MESSAGE)
    return response


# A minute, so that a key that is withdrawn, or keys that cannot be read, are not remembered for long.
@app.authorizer(ttl_seconds=60)
def authorize(request: AuthRequest) -> AuthResponse:
    """Tell the gateway whose token this is; expiry, scope and location are for the routes, since answers are kept."""
    try:
        access = services.tokens.authenticate(request.token)
    except errors.NotAuthenticatedError as error:
        logger.warning("token refused", extra={"reason": str(error)})
        return AuthResponse(routes=[], principal_id="nobody")
    except errors.ServiceUnavailableError as error:
        logger.exception("no token can be checked")
        return AuthResponse(routes=["*"], principal_id="unknown", context={UNAVAILABLE: str(error)})
    logger.info("token accepted", extra={"subject": access.subject})
    # The answer is kept for the token, whatever it asks for next.
    return AuthResponse(routes=["*"], principal_id=access.subject, context=access.to_context())


def access_for(scope: Scope) -> Access:
    """Return what the current request's token allows, or raise NotAuthenticatedError or ForbiddenError."""
    access = access_of(_request().context.get("authorizer") or {})
    access.require(scope, time.time())
    return access


# curl -d says form-urlencoded unless told otherwise; the body is JSON all the same.
@app.route(
    "/readings",
    methods=["POST"],
    content_types=["application/json", "application/x-www-form-urlencoded"],
    authorizer=authorize,
)
@answers_errors
def post_readings() -> dict[str, Any]:
    """Take a reading or a batch; answer with temperature and status of each."""
    access = access_for(Scope.WRITE_READINGS)
    try:
        answer = services.ingest.post(_body(_request()), access, app.lambda_context)
    except (errors.ValidationError, errors.ReadingConflictError, errors.BodyTooLargeError):
        counters.count(RejectedReadings=1)
        raise
    tally = tally_of(answer)
    logger.info("readings answered", extra=tally)
    counters.count(
        AcceptedReadings=tally["accepted"], BrokenReadings=tally["broken"], RejectedReadings=tally["rejected"]
    )
    return answer


def _body(request: Request) -> bytes:
    try:
        body = request.raw_body
    except ValueError:
        raise errors.ValidationError("body: not valid Base64 or UTF-8") from None
    # Chalice gives a missing body as text.
    return body.encode() if isinstance(body, str) else body


@app.route("/sensors/{sensor_id}", authorizer=authorize)
@answers_errors
def get_sensor(sensor_id: str) -> dict[str, Any]:
    """Tell whether a sensor is broken."""
    access_for(Scope.READ_REPORTS)
    known_id = parse_id("sensor_id", sensor_id)
    broken = services.registry.find(known_id)
    if broken is None:
        raise errors.NotFoundError(f"sensor {known_id} has sent nothing yet")
    return {"sensor_id": known_id, "broken": broken}


@app.route("/locations", authorizer=authorize)
@answers_errors
def get_locations() -> Response:
    """List the latest moving average of every location that the token is for."""
    access = access_for(Scope.READ_REPORTS)
    return _document_response(services.report_reader.locations(_known_runs(), access.only_locations))


@app.route("/locations/{location_id}/report", authorizer=authorize)
@answers_errors
def get_report(location_id: str) -> Response:
    """Return a location's report, from the minute `since` on if the query has it."""
    access = access_for(Scope.READ_REPORTS)
    known_id = parse_id("location_id", location_id)
    access.require_location(known_id)
    query = convert(dict(_request().query_params or {}), ReportQuery)
    return _document_response(services.report_reader.report(known_id, _known_runs(), query.since))


@app.route("/runs/latest", authorizer=authorize)
@answers_errors
def get_latest_run() -> Response:
    """Return the summary of the committed run."""
    access_for(Scope.READ_REPORTS)
    return _document_response(services.report_reader.latest_run(_known_runs()))


def _request() -> Request:
    return cast("Request", app.current_request)


def _known_runs() -> Container[str]:
    return known_runs(_request().headers.get("if-none-match", ""))


def _document_response(document: Document) -> Response:
    headers: dict[str, str | list[str]] = {
        "Content-Type": "application/json",
        "ETag": entity_tag(document.run_id),
        # What a token may see is its own: no cache may share it, and every use is asked for again.
        "Cache-Control": "private, no-cache",
        "Vary": "Authorization",
    }
    if document.content is None:
        return Response("", headers, 304)
    # As text, since Chalice would encode bytes in base64 and anything else as JSON once more.
    return Response(document.content.decode(), headers)


@app.route("/")
def get_dashboard() -> Response:
    """Show the dashboard, which asks for data and token by itself."""
    path = _request().context.get("path", "/")
    if not path.endswith("/"):
        # The page finds its files relative to its own address.
        return Response("", {"Location": f"{path.rpartition('/')[2]}/"}, 307)
    page = read_page()
    return Response(page.content, {**page.headers})


@app.route("/assets/{name}")
@answers_errors
def get_asset(name: str) -> Response:
    """Serve a script or style of the dashboard."""
    asset = read_asset(name)
    return Response(asset.content, {**asset.headers})


@app.route("/health")
def health() -> dict[str, str]:
    """Tell that the application runs, and nothing else."""
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
    counters.count(LandedMeasurements=buffered.measurements, QuarantinedMessages=buffered.quarantined_messages)


@app.schedule(Rate(SETTINGS.message_retention_seconds // 60, unit=Rate.MINUTES))
def start_analytics(event: CloudWatchEvent) -> dict[str, Any]:
    """Start the analytics workflow for what has been buffered."""
    arn = start_scheduled_run(
        event.to_dict()["time"], services.aws.resources.state_machine_arn, services.aws.stepfunctions
    )
    logger.info("run started" if arn else "no run started", extra={"execution_arn": arn})
    return {"execution_arn": arn}


@app.lambda_function()
@fails_by_name
def receiver(event: Any, _context: Any) -> Any:
    """Prepare a run of the workflow, one file of new measurements per location; after the reports, sum it up."""
    if "task" in event:
        task = convert(event, SummaryRequest)
        logger.set_correlation_id(task.run_id)
        summary = services.summarizer.summarize(task)
        logger.info("run summed up", extra=msgspec.to_builtins(summary))
        # Here, since a run that fails before has counted nothing.
        counters.count(**{f"Run{fate.capitalize()}": n for fate, n in structs.asdict(summary.counts).items()})
        return {"run_id": summary.run_id}
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
