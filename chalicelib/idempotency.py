"""One effect and one answer for each reading, however often it is delivered."""

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer,
    IdempotencyConfig,
    idempotent_function,
)
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyAlreadyInProgressError,
    IdempotencyInconsistentStateError,
    IdempotencyPersistenceLayerError,
    IdempotencyValidationError,
)

from chalicelib.errors import ReadingConflictError, ReadingInProgressError, ServiceUnavailableError
from chalicelib.readings import Reading, format_time
from chalicelib.settings import IdempotencySettings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class Once:
    """Runs a function once per request and repeats its answer to every further delivery.

    The same reading is the one with the same sensor and reading_id, else sensor and timestamp, else with
    the same everything within a short window, for which a constant temperature must not be swallowed.
    The same request is the one with the same readings in the same order.
    """

    def __init__(self, settings: IdempotencySettings, table_name: str, dynamodb: "DynamoDBClient") -> None:
        # A persistence layer keeps the first configuration it meets, hence one for each.
        self._identified = _OnceFor(settings.expires_after_seconds, table_name, dynamodb)
        self._anonymous = _OnceFor(settings.anonymous_window_seconds, table_name, dynamodb)

    def run(
        self, readings: Sequence[Reading], function: Callable[[], dict[str, Any]], lambda_context: Any
    ) -> dict[str, Any]:
        """Return the function's answer to these readings, calling it only for their first delivery.

        Raises ReadingConflictError when they were answered before with other content,
        ReadingInProgressError while they are being answered, ServiceUnavailableError when DynamoDB fails.
        """
        # Digests, because Powertools copies and hashes what it is given, more than once.
        key = _digest([identity_of(reading) for reading in readings])
        content = _digest([content_of(reading) for reading in readings])
        once = self._anonymous if all(map(is_anonymous, readings)) else self._identified
        return once.run(key, content, function, lambda_context)


def identity_of(reading: Reading) -> list[Any]:
    """Return what makes a reading the same one when it comes again."""
    if reading.reading_id is not None:
        return ["id", reading.sensor_id, reading.reading_id]
    if reading.timestamp is not None:
        return ["time", reading.sensor_id, format_time(reading.timestamp)]
    return ["all", reading.sensor_id, *content_of(reading)]


def content_of(reading: Reading) -> list[Any]:
    """Return what must not differ between deliveries of a reading."""
    return [reading.location_id, reading.resistance_ohm]


def is_anonymous(reading: Reading) -> bool:
    """Tell whether nothing but its content identifies a reading."""
    return reading.reading_id is None and reading.timestamp is None


def _digest(value: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()


class _OnceFor:
    """Powertools' idempotency under one expiry."""

    def __init__(self, expires_after_seconds: int, table_name: str, dynamodb: "DynamoDBClient") -> None:
        self._config = IdempotencyConfig(
            event_key_jmespath="key",
            payload_validation_jmespath="content",
            raise_on_no_idempotency_key=True,
            expires_after_seconds=expires_after_seconds,
            hash_function="sha256",
        )
        self._call_once = idempotent_function(
            lambda request, function: function(),  # noqa: ARG005 - the request is Powertools' to read
            data_keyword_argument="request",
            config=self._config,
            persistence_store=DynamoDBPersistenceLayer(table_name, boto3_client=dynamodb),
            key_prefix="reading",
        )

    def run(
        self, key: str, content: str, function: Callable[[], dict[str, Any]], lambda_context: Any
    ) -> dict[str, Any]:
        # Without the context Powertools cannot know when an attempt that died stops being in progress.
        self._config.register_lambda_context(lambda_context)
        try:
            answer: dict[str, Any] = self._call_once(request={"key": key, "content": content}, function=function)
        except IdempotencyValidationError:
            raise ReadingConflictError("the same reading was accepted before with another value or location") from None
        except IdempotencyAlreadyInProgressError:
            raise ReadingInProgressError("the same reading is still in progress") from None
        except (IdempotencyPersistenceLayerError, IdempotencyInconsistentStateError) as error:
            raise ServiceUnavailableError("the idempotency table does not answer") from error
        return answer
