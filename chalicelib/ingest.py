"""The use case behind POST /readings: a reading or a batch becomes temperatures, statuses and measurements."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from botocore.exceptions import BotoCoreError, ClientError
from msgspec import structs

from chalicelib import batch
from chalicelib.access import Access
from chalicelib.alerts import Alerts
from chalicelib.errors import BodyTooLargeError, ServiceUnavailableError
from chalicelib.idempotency import Once
from chalicelib.measurement_queue import MeasurementQueue
from chalicelib.readings import (
    BODY_BYTES_MAX,
    Answer,
    Measurement,
    Reading,
    decode_body,
    format_time,
    parse_batch,
    parse_reading,
)
from chalicelib.registry import SensorRegistry
from chalicelib.thermistor import Status, Thermistor

_UNFINISHED = "unfinished_at"


class _PerhapsQueuedError(ServiceUnavailableError):
    """An attempt failed after readings without a time of their own may have been queued. Its cause tells why."""


class Ingest:
    """Accepts readings: validates, drops repeats, latches broken sensors, queues temperatures, alerts."""

    def __init__(
        self,
        thermistor: Thermistor,
        oldest_age: timedelta,
        once: Once,
        registry: SensorRegistry,
        queue: MeasurementQueue,
        alerts: Alerts,
        clock: Callable[[], datetime],
    ) -> None:
        self._thermistor = thermistor
        self._oldest_age = oldest_age
        self._once = once
        self._registry = registry
        self._queue = queue
        self._alerts = alerts
        self._clock = clock

    def post(self, body: bytes, access: Access, lambda_context: Any) -> dict[str, Any]:
        """Take a reading or a batch as JSON and return its answer, ready for JSON.

        Raises ValidationError naming the field, BodyTooLargeError, ForbiddenError, ReadingConflictError,
        ReadingInProgressError, ServiceUnavailableError, and botocore's errors when a service does not answer.
        """
        if len(body) > BODY_BYTES_MAX:
            raise BodyTooLargeError(f"body: more than {BODY_BYTES_MAX} bytes")
        posted = decode_body(body)
        if isinstance(posted, dict) and "readings" in posted:
            sorted_out = batch.sort_out(parse_batch(posted, self._clock(), self._oldest_age), access)
            return sorted_out.results(self._answer_once(sorted_out.readings, lambda_context))
        reading = parse_reading(posted, self._clock(), self._oldest_age)
        access.require_location(reading.location_id)

        (answer,) = self._answer_once([reading], lambda_context)
        fields: dict[str, Any] = msgspec.to_builtins(answer)
        return fields

    def _answer_once(self, readings: list[Reading], lambda_context: Any) -> list[Answer]:
        """Answer the readings once; a repetition of an attempt that may have queued some uses the time of the first.

        What it has queued is then queued again under the same time and dropped as a duplicate.
        """
        if not readings:
            return []
        failures: list[_PerhapsQueuedError] = []

        def first_attempt() -> dict[str, Any]:
            now = self._clock()
            try:
                return batch.pack_answers(readings, self._accept(readings, now))
            except _PerhapsQueuedError as failure:
                failures.append(failure)
                return {_UNFINISHED: format_time(now)}

        packed = self._once.run(readings, first_attempt, lambda_context)
        if failures:
            raise failures[0]
        if _UNFINISHED in packed:
            return self._accept(readings, datetime.fromisoformat(packed[_UNFINISHED]))
        return batch.unpack_answers(readings, packed)

    def _accept(self, readings: Sequence[Reading], now: datetime) -> list[Answer]:
        """Answer the readings in order, queue the temperatures, latch what is broken, and alert."""
        accepts = self._thermistor.accepts
        broken = self._registry.broken_among(
            {reading.sensor_id for reading in readings if accepts(reading.resistance_ohm)}
        )
        newly_broken: list[str] = []
        answers, measurements = [], []
        for place, reading in enumerate(readings):
            if not accepts(reading.resistance_ohm):
                newly_broken.append(reading.sensor_id)
                broken.add(reading.sensor_id)
            # A microsecond apart, so that two readings of one sensor stay two.
            timestamp = reading.timestamp or now + timedelta(microseconds=place)
            answer = self._answer(reading, timestamp, is_broken=reading.sensor_id in broken)
            answers.append(answer)
            if answer.temperature is not None:
                measurements.append(Measurement(**structs.asdict(answer), value=reading.resistance_ohm))
        try:
            self._queue.send(measurements)
            # Not before the queue has the good readings: a repetition would find their sensors broken.
            self._registry.latch_all(newly_broken)
        except (BotoCoreError, ClientError, ServiceUnavailableError) as error:
            if any(reading.timestamp is None for reading in readings) and measurements:
                raise _PerhapsQueuedError("a service behind this one failed, try again") from error
            raise
        self._alerts.consider(
            [(answer, reading.resistance_ohm) for answer, reading in zip(answers, readings, strict=True)]
        )
        return answers

    def _answer(self, reading: Reading, timestamp: datetime, *, is_broken: bool) -> Answer:
        temperature = None if is_broken else self._thermistor.temperature_celsius(reading.resistance_ohm)
        status = Status.BROKEN if temperature is None else self._thermistor.status(temperature)
        return Answer(reading.sensor_id, reading.location_id, temperature, status, timestamp)
