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
# A second at most for a throttled call, and 5 more when the service asks for them.
_BACKOFF_SECONDS_MAX = 6
# For what a function does after its last call.
_SPARE_SECONDS = 1

_time_limit: ContextVar[float] = ContextVar("time_limit", default=math.inf)


class OutOfTimeError(BotoCoreError):
    """A call was not begun, since it could have lasted longer than the function may run. Trying again helps."""

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
    """Return the seconds that a client's call may last, its second tries included."""
    attempts: int = config.retries["total_max_attempts"]
    attempt_seconds: float = config.connect_timeout + config.read_timeout
    return attempts * attempt_seconds + (attempts - 1) * _BACKOFF_SECONDS_MAX


def _check_time(longest_seconds: float, **_event: Any) -> None:
    if monotonic() + longest_seconds + _SPARE_SECONDS > _time_limit.get():
        raise OutOfTimeError(seconds=longest_seconds)


def _timed(client: Client) -> Client:
    """Make a client heed the time limit of the request that it is used for."""
    longest_seconds = longest_call_seconds(client.meta.config)
    client.meta.events.register("before-call", partial(_check_time, longest_seconds))
    return client


class Resources(Struct, frozen=True):
    """The content of the SSM parameter /thermonet/<stage>/resources."""

    registry_table: str
    idempotency_table: str
    ledger_table: str
    bucket: str
    queue_url: str
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
        return _timed(self._session.client("ssm", config=_ONLINE))

    @cached_property
    def dynamodb(self) -> "DynamoDBClient":
        return _timed(self._session.client("dynamodb", config=_ONLINE))

    @cached_property
    def sqs(self) -> "SQSClient":
        return _timed(self._session.client("sqs", config=_ONLINE))

    @cached_property
    def sns(self) -> "SNSClient":
        return _timed(self._session.client("sns", config=_ALERT))

    @cached_property
    def s3(self) -> "S3Client":
        """S3 for buffering and analytics."""
        return self._session.client("s3", config=_BULK)

    @cached_property
    def s3_online(self) -> "S3Client":
        """S3 for requests."""
        return _timed(self._session.client("s3", config=_ONLINE))

    @cached_property
    def stepfunctions(self) -> "SFNClient":
        return _timed(self._session.client("stepfunctions", config=_ONLINE))

    @cached_property
    def _session(self) -> boto3.session.Session:
        return boto3.session.Session()
