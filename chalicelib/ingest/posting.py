"""The use case behind POST /readings: a reading or a batch becomes temperatures, statuses and measurements."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from msgspec import structs

from chalicelib.errors import BodyTooLargeError, ForbiddenError, ServiceUnavailableError
from chalicelib.ingest.alerts import Alerts
from chalicelib.ingest.batch import sort_out
from chalicelib.ingest.idempotency import Idempotency
from chalicelib.ingest.measurement_queue import MeasurementQueue
from chalicelib.ingest.readings import BODY_BYTES_MAX, Answer, BatchAnswer, Reading, parse_batch, parse_reading
from chalicelib.ingest.records import Attempt, Interrupted
from chalicelib.ingest.registry import SensorRegistry
from chalicelib.measurements import Measurement
from chalicelib.thermistor import Status, StatusLimits, Thermistor
from chalicelib.validation import decode_body

# What is queued of a reading beside its answer.
_FROM_READING = sorted({*Reading.__struct_fields__} & {*Measurement.__struct_fields__} - {*Answer.__struct_fields__})


class Ingest:
    """Accepts readings: validates, drops repeats, latches broken sensors, queues temperatures, alerts."""

    def __init__(
        self,
        thermistor: Thermistor,
        status_limits: StatusLimits,
        oldest_age: timedelta,
        idempotency: Idempotency,
        registry: SensorRegistry,
        queue: MeasurementQueue,
        alerts: Alerts,
        clock: Callable[[], datetime],
    ) -> None:
        self._thermistor = thermistor
        self._status_limits = status_limits
        self._oldest_age = oldest_age
        self._idempotency = idempotency
        self._registry = registry
        self._queue = queue
        self._alerts = alerts
        self._clock = clock

    def post(self, body: bytes, may_post: Callable[[str], bool], lambda_context: Any) -> Answer | BatchAnswer:
        """Take a reading or a batch as JSON, of the locations for whose ids `may_post` is true.

        Raises ValidationError naming the field, BodyTooLargeError, ForbiddenError, ReadingConflictError,
        ReadingInProgressError, ServiceUnavailableError, and botocore's errors when a service does not answer.
        """
        if len(body) > BODY_BYTES_MAX:
            raise BodyTooLargeError(f"body: more than {BODY_BYTES_MAX} bytes")
        posted = decode_body(body)
        if isinstance(posted, dict) and "readings" in posted:
            batch = sort_out(parse_batch(posted, self._clock(), self._oldest_age), may_post)
            return batch.answer(self._answer_once(batch.readings, lambda_context))
        reading = parse_reading(posted, self._clock(), self._oldest_age)
        if not may_post(reading.location_id):
            raise ForbiddenError("location_id: the token is not for this location")
        (answer,) = self._answer_once([reading], lambda_context)
        return answer

    def _answer_once(self, readings: list[Reading], lambda_context: Any) -> list[Answer]:
        if not readings:
            return []
        attempt = self._idempotency.run(readings, lambda: self._attempt(readings, self._clock()), lambda_context)
        if isinstance(attempt, Interrupted) and attempt.cause is None:
            # Of an earlier delivery: what it queued is queued again under the same time, and dropped as a duplicate.
            attempt = self._attempt(readings, attempt.began_at)
        if isinstance(attempt, Interrupted):
            raise ServiceUnavailableError("a service behind this one failed, try again") from attempt.cause
        return attempt

    def _attempt(self, readings: Sequence[Reading], now: datetime) -> Attempt:
        """Answer the readings in order, queue the temperatures, latch what is broken, and alert.

        Returns Interrupted for a failure after which readings that got the server's time may be in the queue.
        """
        newly_broken = [reading.sensor_id for reading in readings if not self._accepts(reading)]
        answers = self._judge(readings, now)
        measurements = [
            _measurement(reading, answer)
            for reading, answer in zip(readings, answers, strict=True)
            if answer.temperature is not None
        ]
        try:
            self._queue.send(measurements)
            # Not before the queue has the good readings: a repetition would find their sensors broken.
            self._registry.latch_all(newly_broken)
        except (BotoCoreError, ClientError, ServiceUnavailableError) as error:
            if measurements and any(reading.timestamp is None for reading in readings):
                return Interrupted(now, error)
            raise
        resistances_ohm = [reading.resistance_ohm for reading in readings]
        self._alerts.consider(list(zip(answers, resistances_ohm, strict=True)))
        return answers

    def _judge(self, readings: Sequence[Reading], now: datetime) -> list[Answer]:
        """Answer the readings in order: a sensor is broken from its first value out of range on."""
        broken = self._registry.broken_among({reading.sensor_id for reading in readings if self._accepts(reading)})
        answers = []
        for index, reading in enumerate(readings):
            if not self._accepts(reading):
                broken.add(reading.sensor_id)
            is_broken = reading.sensor_id in broken
            temperature = None if is_broken else self._thermistor.temperature_celsius(reading.resistance_ohm)
            status = Status.BROKEN if temperature is None else self._status_limits.status_of(temperature)
            # A microsecond apart, so that two readings of one sensor stay two.
            timestamp = reading.timestamp or now + timedelta(microseconds=index)
            answers.append(Answer(reading.sensor_id, reading.location_id, temperature, status, timestamp))
        return answers

    def _accepts(self, reading: Reading) -> bool:
        return self._thermistor.accepts(reading.resistance_ohm)


def _measurement(reading: Reading, answer: Answer) -> Measurement:
    from_reading = {name: getattr(reading, name) for name in _FROM_READING}
    return Measurement(**structs.asdict(answer), **from_reading, value=reading.resistance_ohm)
