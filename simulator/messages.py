"""The messages between sensors and API: single readings and batches as JSON, and each reading's part of them."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct

from chalicelib.thermistor import Status
from chalicelib.validation import shorten
from simulator.client import Reply
from simulator.faults import PlannedReading

SUCCESS = range(200, 300)


class PostedReading(Struct, frozen=True, kw_only=True):
    """A reading as a sensor sends it unless it is malformed; the resistance `value` is in ohm."""

    sensor_id: str
    location_id: str
    value: float
    timestamp: str


class Delivery(Struct, frozen=True):
    """A planned reading on its way, with the time that the sensor gives it."""

    planned: PlannedReading
    timestamp: str

    @property
    def reading(self) -> PostedReading:
        """The reading as the sensor would send it if nothing were wrong with it."""
        planned = self.planned
        return PostedReading(
            sensor_id=planned.sensor_id,
            location_id=planned.location_id,
            value=planned.resistance_ohm,
            timestamp=self.timestamp,
        )

    @property
    def fields(self) -> Mapping[str, Any]:
        """The reading as the sensor sends it."""
        fields = msgspec.to_builtins(self.reading)
        if self.planned.malformation is not None:
            fields[self.planned.malformation.field] = self.planned.malformation.value
        return {name: value for name, value in fields.items() if value is not UNSET}


class Answer(Struct, frozen=True):
    """The API's answer to a reading; the temperature is in °C, None of a broken sensor."""

    sensor_id: str
    location_id: str
    temperature: float | None
    status: Status
    timestamp: str


class Exchange(Struct, frozen=True, kw_only=True):
    """A reading that was sent and what came back: an `answer`, a `rejection`, or else the `error` that kept it away."""

    delivery: Delivery
    http_status: int | None = None
    answer: Answer | None = None
    rejection: str | None = None
    error: str | None = None
    was_retried: bool = False


class _ErrorBody(Struct):
    message: str = msgspec.field(name="Message")


class _BatchBody(Struct):
    results: list[Raw]
    accepted: int
    broken: int
    rejected: int


class _Rejection(Struct):
    error: str


def encode_one(delivery: Delivery) -> bytes:
    """Encode a reading as the body of a request, or as a part of it."""
    if delivery.planned.malformation is None:
        return msgspec.json.encode(delivery.reading)
    # Unlike msgspec, this writes NaN and Infinity, which are no JSON.
    return json.dumps(delivery.fields).encode()


def encode_batch(deliveries: Sequence[Delivery]) -> bytes:
    """Encode several readings as the body of one request."""
    return b'{"readings":[' + b",".join(map(encode_one, deliveries)) + b"]}"


def read_one(delivery: Delivery, reply: Reply) -> Exchange:
    """Read the reply to a single reading."""
    if reply.http_status not in SUCCESS:
        return _refused(delivery, reply)
    try:
        answer = msgspec.json.decode(reply.body, type=Answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Exchange(delivery=delivery, http_status=reply.http_status, error=shorten(str(error)))
    return Exchange(delivery=delivery, http_status=reply.http_status, answer=answer)


def read_batch(deliveries: Sequence[Delivery], reply: Reply) -> list[Exchange]:
    """Read the reply to a batch, for each of its readings."""
    if reply.http_status not in SUCCESS:
        return [_refused(delivery, reply) for delivery in deliveries]
    try:
        body = msgspec.json.decode(reply.body, type=_BatchBody)
        exchanges = [_read_result(*pair, reply) for pair in zip(deliveries, body.results, strict=True)]
        _check_counts(body, exchanges)
    except ValueError as error:
        unreadable = shorten(str(error))
        return [Exchange(delivery=one, http_status=reply.http_status, error=unreadable) for one in deliveries]
    return exchanges


def _read_result(delivery: Delivery, result: Raw, reply: Reply) -> Exchange:
    try:
        rejection = msgspec.json.decode(result, type=_Rejection)
    except msgspec.DecodeError:
        return read_one(delivery, Reply(reply.http_status, bytes(result)))
    return Exchange(delivery=delivery, http_status=reply.http_status, rejection=shorten(rejection.error))


def _check_counts(body: _BatchBody, exchanges: Sequence[Exchange]) -> None:
    broken = sum(one.answer is not None and one.answer.status is Status.BROKEN for one in exchanges)
    rejected = sum(one.rejection is not None for one in exchanges)
    unreadable = sum(one.error is not None for one in exchanges)
    counts = (len(exchanges) - broken - rejected - unreadable, broken, rejected)
    if not unreadable and (body.accepted, body.broken, body.rejected) != counts:
        raise ValueError("accepted, broken and rejected are not what the results are")


def _refused(delivery: Delivery, reply: Reply) -> Exchange:
    if reply.http_status is None:
        return Exchange(delivery=delivery, error=reply.error)
    message = _error_message(reply.body)
    if reply.http_status == HTTPStatus.BAD_REQUEST:
        return Exchange(delivery=delivery, http_status=reply.http_status, rejection=message)
    return Exchange(delivery=delivery, http_status=reply.http_status, error=message, was_retried=reply.was_retried)


def _error_message(body: bytes) -> str:
    try:
        return shorten(msgspec.json.decode(body, type=_ErrorBody).message)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return shorten(body.decode("utf-8", "replace"))
