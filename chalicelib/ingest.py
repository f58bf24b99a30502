"""The use case behind POST /readings: a reading or a batch becomes temperatures, statuses and measurements."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

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

# Every answer of a request, taken at a server's time.
Attempt = Callable[[datetime], dict[str, Any]]
RunOnce = Callable[[Callable[[], dict[str, Any]]], dict[str, Any]]

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
            return self._post_batch(posted, access, lambda_context)
        return self._post_one(posted, access, lambda_context)

    def _post_one(self, posted: Any, access: Access, lambda_context: Any) -> dict[str, Any]:
        reading = parse_reading(posted, self._clock(), self._oldest_age)
        access.require_location(reading.location_id)

        def attempt(now: datetime) -> dict[str, Any]:
            (answer,) = self._accept([reading], now)
            # Sorted, as a repeated answer comes back from the table.
            fields: dict[str, Any] = msgspec.to_builtins(answer, order="sorted")
            return fields

        return self._once_at_one_time(attempt, lambda function: self._once.run(reading, function, lambda_context))

    def _post_batch(self, posted: Any, access: Access, lambda_context: Any) -> dict[str, Any]:
        checked = parse_batch(posted, self._clock(), self._oldest_age)
        sorted_out = batch.sort_out(checked, access)
        readings = sorted_out.readings
        if not readings:
            return sorted_out.results([])

        def attempt(now: datetime) -> dict[str, Any]:
            return batch.pack_answers(readings, self._accept(readings, now))

        packed = self._once_at_one_time(
            attempt, lambda function: self._once.run_batch(readings, function, lambda_context)
        )
        return sorted_out.results(batch.unpack_answers(readings, packed))

    def _once_at_one_time(self, attempt: Attempt, run_once: RunOnce) -> dict[str, Any]:
        """Run an attempt once; a repetition of one that may have queued something uses the server time of the first.

        What it has queued is then queued again under the same time and dropped as a duplicate.
        """
        failures: list[BaseException | None] = []

        def first_attempt() -> dict[str, Any]:
            now = self._clock()
            try:
                return attempt(now)
            except _PerhapsQueuedError as failure:
                failures.append(failure.__cause__)
                return {_UNFINISHED: format_time(now)}

        answer = run_once(first_attempt)
        if failures:
            raise ServiceUnavailableError("a service behind this one failed, try again") from failures[0]
        if _UNFINISHED in answer:
            return attempt(datetime.fromisoformat(answer[_UNFINISHED]))
        return answer

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
                measurements.append(_measurement(answer, answer.temperature, reading.resistance_ohm))
        try:
            self._queue.send(measurements)
            # Not before the queue has the good readings: a repetition would find their sensors broken.
            for sensor_id in dict.fromkeys(newly_broken):
                self._registry.latch(sensor_id)
        except (BotoCoreError, ClientError) as error:
            if any(reading.timestamp is None for reading in readings) and measurements:
                raise _PerhapsQueuedError from error
            raise
        self._alerts.consider(
            [(answer, reading.resistance_ohm) for answer, reading in zip(answers, readings, strict=True)]
        )
        return answers

    def _answer(self, reading: Reading, timestamp: datetime, *, is_broken: bool) -> Answer:
        if is_broken:
            return Answer(reading.sensor_id, reading.location_id, None, Status.BROKEN, timestamp)
        temperature = self._thermistor.temperature_celsius(reading.resistance_ohm)
        status = self._thermistor.status(temperature)
        return Answer(reading.sensor_id, reading.location_id, temperature, status, timestamp)


def _measurement(answer: Answer, temperature: float, resistance_ohm: float) -> Measurement:
    return Measurement(
        sensor_id=answer.sensor_id,
        location_id=answer.location_id,
        temperature=temperature,
        status=answer.status,
        timestamp=answer.timestamp,
        value=resistance_ohm,
    )
