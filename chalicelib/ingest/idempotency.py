"""One effect and one answer for each reading, however often it is delivered."""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
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
from aws_lambda_powertools.utilities.idempotency.serialization.custom_dict import CustomDictSerializer

from chalicelib.errors import ReadingConflictError, ReadingInProgressError, ServiceUnavailableError
from chalicelib.ingest.readings import Reading
from chalicelib.ingest.records import Attempt, pack, unpack
from chalicelib.settings import IdempotencySettings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class Idempotency:
    """Attempts readings once, and repeats the outcome to every further delivery of them.

    The same request is the one with the same readings in the same order. One of readings that nothing but their
    content identifies is remembered for a short window: a constant temperature must not be swallowed.
    """

    def __init__(self, settings: IdempotencySettings, table_name: str, dynamodb: "DynamoDBClient") -> None:
        # A persistence layer keeps the first configuration it meets, hence one for each.
        self._identified = _Memory(settings.expires_after_seconds, table_name, dynamodb)
        self._anonymous = _Memory(settings.anonymous_window_seconds, table_name, dynamodb)

    def run(self, readings: Sequence[Reading], attempt: Callable[[], Attempt], lambda_context: Any) -> Attempt:
        """Return what the attempt at these readings came to, making it only for their first delivery.

        Raises ReadingConflictError when they were answered before with other content,
        ReadingInProgressError while they are being answered, ServiceUnavailableError when DynamoDB fails.
        What the attempt itself raises is passed on, and nothing is remembered of it.
        """
        memory = self._anonymous if all(reading.is_anonymous for reading in readings) else self._identified
        try:
            return memory.run(readings, attempt, lambda_context)
        except IdempotencyValidationError:
            raise ReadingConflictError("the same reading was accepted before with another value or location") from None
        except IdempotencyAlreadyInProgressError:
            raise ReadingInProgressError("the same reading is still in progress") from None
        except (IdempotencyPersistenceLayerError, IdempotencyInconsistentStateError) as error:
            raise ServiceUnavailableError("the idempotency table does not answer") from error


class _Memory:
    """Powertools' idempotency under one expiry."""

    def __init__(self, expires_after_seconds: int, table_name: str, dynamodb: "DynamoDBClient") -> None:
        self._config = IdempotencyConfig(
            event_key_jmespath="key",
            payload_validation_jmespath="content",
            raise_on_no_idempotency_key=True,
            expires_after_seconds=expires_after_seconds,
            hash_function="sha256",
        )
        self._layer = DynamoDBPersistenceLayer(table_name, boto3_client=dynamodb)

    def run(self, readings: Sequence[Reading], attempt: Callable[[], Attempt], lambda_context: Any) -> Attempt:
        # Without the context Powertools cannot know when an attempt that died stops being in progress.
        self._config.register_lambda_context(lambda_context)
        attempt_once = idempotent_function(
            lambda request: attempt(),  # noqa: ARG005 - the request is Powertools' to read
            data_keyword_argument="request",
            config=self._config,
            persistence_store=self._layer,
            output_serializer=CustomDictSerializer(partial(pack, readings), partial(unpack, readings)),
            key_prefix="reading",
        )
        # Digests, because Powertools copies and hashes what it is given, more than once.
        key = _digest([reading.identity for reading in readings])
        content = _digest([reading.content for reading in readings])
        outcome: Attempt = attempt_once(request={"key": key, "content": content})
        return outcome


def _digest(value: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()
