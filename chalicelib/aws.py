"""AWS as the application sees it: the stage's resources, and clients with explicit time-outs and retries."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property, partial
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from msgspec import Struct

from chalicelib.connections import limit_attempt, use_limited_connections
from chalicelib.errors import ServiceUnavailableError
from chalicelib.validation import decode_json

if TYPE_CHECKING:
    from botocore.client import BaseClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_ssm import SSMClient
    from mypy_boto3_stepfunctions import SFNClient

Client = TypeVar("Client", bound="BaseClient")

# Short, and repeated once only: who waits for an answer can repeat the request.
_ONLINE = Config(
    connect_timeout=1,
    read_timeout=2,
    retries={"mode": "standard", "total_max_attempts": 2},
    # As many as an ObjectStore has under way at a time.
    max_pool_connections=16,
)
# An alert may not keep a reading waiting; the sensor's next reading is its retry.
_ALERT = Config(connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 1})
# Analytics move large objects over many connections, with minutes of time.
_BULK = Config(
    connect_timeout=2,
    read_timeout=30,
    retries={"mode": "standard", "total_max_attempts": 5},
    max_pool_connections=32,
)
# All tries together, for an object that arrives but trickles; one that does not arrive meets the time-outs above.
_BULK_SECONDS = 300
# A second at most for a throttled call, and 5 more when the service asks for them.
_BACKOFF_SECONDS_MAX = 6
# For what a function does after its last call.
_SPARE_SECONDS = 1

# In the context that botocore keeps for each call.
_CALL_ENDS_AT = "thermonet_call_ends_at"

_time_limit: ContextVar[float] = ContextVar("time_limit", default=math.inf)


class OutOfTimeError(BotoCoreError):
    """A call or its second try was not begun, since it could have ended too late. Trying again helps."""

    fmt = "too little time is left for a call that may take {seconds} s"


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Begin no call for a request that might not end within so many seconds; it raises OutOfTimeError instead."""
    token = _time_limit.set(monotonic() + seconds)
    try:
        yield
    finally:
        _time_limit.reset(token)


def longest_call_seconds(config: Any) -> float:
    """Return the seconds that a client's call may last, its second tries and the body of its answer included."""
    attempts: int = config.retries["total_max_attempts"]
    return attempts * _attempt_seconds(config) + (attempts - 1) * _BACKOFF_SECONDS_MAX


def timed(client: Client, longest_seconds: float | None = None) -> Client:
    """Make a client's calls heed the request's time limit, and end in time whatever the network does.

    An attempt lasts as long as connecting and one read may, or all tries together last `longest_seconds` where given.
    """
    config: Any = client.meta.config
    attempt_seconds = longest_seconds or _attempt_seconds(config)
    use_limited_connections(client)
    client.meta.events.register("before-call", partial(_begin_call, longest_seconds or longest_call_seconds(config)))
    client.meta.events.register("request-created", partial(_begin_attempt, attempt_seconds))
    return client


def _attempt_seconds(config: Any) -> float:
    return float(config.connect_timeout + config.read_timeout)


def _begin_call(longest_seconds: float, context: dict[str, Any], **_event: Any) -> None:
    now = monotonic()
    if now + longest_seconds + _SPARE_SECONDS > _time_limit.get():
        raise OutOfTimeError(seconds=longest_seconds)
    context[_CALL_ENDS_AT] = now + longest_seconds


def _begin_attempt(attempt_seconds: float, request: Any, **_event: Any) -> None:
    left_seconds = request.context[_CALL_ENDS_AT] - monotonic()
    if left_seconds <= 0:
        raise OutOfTimeError(seconds=attempt_seconds)
    limit_attempt(min(attempt_seconds, left_seconds))


class Resources(Struct, frozen=True):
    """The content of the SSM parameter /thermonet/<stage>/resources."""

    registry_table: str
    idempotency_table: str
    ledger_table: str
    bucket: str
    queue_url: str
    dead_letter_queue_url: str
    topic_arn: str
    state_machine_arn: str


class Aws:
    """The clients of one process and the resources of its stage, each made when first used."""

    def __init__(self, stage: str) -> None:
        self.stage = stage

    @cached_property
    def resources(self) -> Resources:
        """The stage's resources, read from SSM once; raises ServiceUnavailableError when they are not there."""
        name = f"/thermonet/{self.stage}/resources"
        try:
            parameter = self.ssm.get_parameter(Name=name)
        except self.ssm.exceptions.ParameterNotFound:
            raise ServiceUnavailableError(f"parameter {name} does not exist: is the stage deployed?") from None
        return decode_json(parameter["Parameter"]["Value"], Resources, f"parameter {name}")

    @cached_property
    def ssm(self) -> "SSMClient":
        return timed(self._session.client("ssm", config=_ONLINE))

    @cached_property
    def dynamodb(self) -> "DynamoDBClient":
        return timed(self._session.client("dynamodb", config=_ONLINE))

    @cached_property
    def sqs(self) -> "SQSClient":
        return timed(self._session.client("sqs", config=_ONLINE))

    @cached_property
    def sns(self) -> "SNSClient":
        return timed(self._session.client("sns", config=_ALERT))

    @cached_property
    def s3(self) -> "S3Client":
        """S3 for buffering and analytics."""
        return timed(self._session.client("s3", config=_BULK), _BULK_SECONDS)

    @cached_property
    def s3_online(self) -> "S3Client":
        """S3 for requests."""
        return timed(self._session.client("s3", config=_ONLINE))

    @cached_property
    def stepfunctions(self) -> "SFNClient":
        return timed(self._session.client("stepfunctions", config=_ONLINE))

    @cached_property
    def _session(self) -> boto3.session.Session:
        return boto3.session.Session()
