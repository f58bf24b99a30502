"""One effect and one answer for each request; analytics/deduplication.py is for measurements that come again."""

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

    The same single reading with another value is a conflict. The same batch is the one with the same readings and
    values in the same order, so that a corrected value makes another batch and stops none of its neighbours.
    What nothing but values identifies is remembered for a short window: a constant temperature must not be swallowed.
    """

    def __init__(self, settings: IdempotencySettings, table_name: str, dynamodb: "DynamoDBClient") -> None:
        # A persistence layer keeps the first configuration it meets, hence one for each.
        self._identified, self._anonymous = (
            (_config(expires_after_seconds), DynamoDBPersistenceLayer(table_name, boto3_client=dynamodb))
            for expires_after_seconds in (settings.expires_after_seconds, settings.anonymous_window_seconds)
        )

    def run(
        self,
        readings: Sequence[Reading],
        attempt: Callable[[], Attempt],
        lambda_context: Any,
        *,
        is_batch: bool = False,
        is_resumed: bool = False,
    ) -> Attempt:
        """Return what the attempt at these readings came to, making it only for their first delivery.

        What an interrupted attempt comes to when it is resumed is remembered beside it.
        Raises ReadingConflictError when they were answered before with other content,
        ReadingInProgressError while they are being answered, ServiceUnavailableError when DynamoDB fails.
        What the attempt itself raises is passed on, and nothing is remembered of it.
        """
        config, layer = self._anonymous if all(one.is_anonymous for one in readings) else self._identified
        # Without the context Powertools cannot know when an attempt that died stops being in progress.
        config.register_lambda_context(lambda_context)
        attempt_once = idempotent_function(
            lambda request: attempt(),  # noqa: ARG005 - the request is Powertools' to read
            data_keyword_argument="request",
            config=config,
            persistence_store=layer,
            output_serializer=CustomDictSerializer(partial(pack, readings), partial(unpack, readings)),
            key_prefix="resumed" if is_resumed else "reading",
        )
        identities = [one.identity for one in readings]
        values = [one.resistance_ohm for one in readings]
        # Digests, because Powertools copies and hashes what it is given, more than once.
        key, content = (_digest([identities, values]), "") if is_batch else (_digest(identities), _digest(values))
        try:
            outcome: Attempt = attempt_once(request={"key": key, "content": content})
        except IdempotencyValidationError:
            raise ReadingConflictError("value: the same reading was accepted before with another one") from None
        except IdempotencyAlreadyInProgressError:
            raise ReadingInProgressError("the same reading is still in progress") from None
        except (IdempotencyPersistenceLayerError, IdempotencyInconsistentStateError) as error:
            raise ServiceUnavailableError("the idempotency table does not answer") from error
        return outcome


def _config(expires_after_seconds: int) -> IdempotencyConfig:
    return IdempotencyConfig(
        event_key_jmespath="key",
        payload_validation_jmespath="content",
        raise_on_no_idempotency_key=True,
        expires_after_seconds=expires_after_seconds,
        hash_function="sha256",
    )


def _digest(value: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()
