"""The use case behind POST /readings: a reading or a batch becomes temperatures, statuses and measurements."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from itertools import count
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from msgspec import Struct

from chalicelib.calibration import Thermistors
from chalicelib.errors import ForbiddenError, ServiceUnavailableError
from chalicelib.fields import format_time
from chalicelib.ingest.alerts import Alerts
from chalicelib.ingest.batch import sort_out
from chalicelib.ingest.idempotency import Idempotency
from chalicelib.ingest.measurement_queue import MeasurementQueue, QueuedMeasurement
from chalicelib.ingest.readings import (
    Answer,
    BatchAnswer,
    Delivery,
    PostedBatch,
    Reading,
    decode_request,
    parse_deliveries,
    parse_reading,
)
from chalicelib.ingest.records import Attempt, Interrupted, Outcome
from chalicelib.ingest.registration import Refused
from chalicelib.ingest.registry import SensorRegistry
from chalicelib.ingest.sensors import Sensor
from chalicelib.thermistor import Status, StatusLimits
from chalicelib.validation import convert

_UNAVAILABLE = "a service behind this one failed, try again"


class _NothingTakenError(Exception):
    """All readings are refused; raised so that nothing is remembered, and the next delivery asks again."""

    def __init__(self, outcomes: list[Outcome]) -> None:
        super().__init__()
        self.outcomes = outcomes


class _Judged(Struct, frozen=True):
    """The outcome of each reading, in order, the sensors that have broken by them, and those that have no curve."""

    outcomes: list[Outcome]
    newly_broken: list[str]
    without_curve: set[str]


class Ingest:
    """Accepts readings: validates, drops repeats, latches broken sensors, queues temperatures, alerts."""

    def __init__(
        self,
        thermistors: Thermistors,
        status_limits: StatusLimits,
        oldest_age: timedelta,
        idempotency: Idempotency,
        registry: SensorRegistry,
        queue: MeasurementQueue,
        alerts: Alerts,
        clock: Callable[[], datetime],
        on_refused: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._thermistors = thermistors
        self._status_limits = status_limits
        self._oldest_age = oldest_age
        self._idempotency = idempotency
        self._registry = registry
        self._queue = queue
        self._alerts = alerts
        self._clock = clock
        self._on_refused = on_refused

    def post(self, body: bytes, may_post: Callable[[str], bool], lambda_context: Any) -> Answer | BatchAnswer:
        """Take a reading or a batch as JSON, of the locations for whose ids `may_post` is true.

        Raises ValidationError naming the field, BodyTooLargeError, ForbiddenError, ReadingConflictError,
        ReadingInProgressError, ServiceUnavailableError, and botocore's errors when a service does not answer.
        """
        posted = decode_request(body)
        if isinstance(posted, dict) and "readings" in posted:
            items = convert(posted, PostedBatch).readings
            return self.take([Delivery(item, may_post) for item in items], lambda_context)
        reading = parse_reading(Delivery(posted, may_post), self._clock(), self._oldest_age)
        (outcome,) = self._take_once([reading], lambda_context, is_batch=False)
        if isinstance(outcome, Refused):
            raise ForbiddenError(outcome.reason)
        return outcome

    def take(self, deliveries: Sequence[Delivery], lambda_context: Any) -> BatchAnswer:
        """Take the readings that are good and that their senders may post, at least one delivery of any kind.

        Raises ReadingInProgressError, ServiceUnavailableError, and botocore's errors when a service does not answer.
        """
        batch = sort_out(parse_deliveries(deliveries, self._clock(), self._oldest_age))
        return batch.answer(self._take_once(batch.readings, lambda_context, is_batch=True))

    def _take_once(self, readings: list[Reading], lambda_context: Any, *, is_batch: bool) -> list[Outcome]:
        if not readings:
            return []

        def run(attempt: Callable[[], Attempt], *, is_resumed: bool = False) -> Attempt:
            return self._idempotency.run(readings, attempt, lambda_context, is_batch=is_batch, is_resumed=is_resumed)

        try:
            attempt = run(lambda: self._attempt(readings, self._clock()))
            if isinstance(attempt, Interrupted) and attempt.cause is None:
                began_at = attempt.began_at
                attempt = run(lambda: self._resume(readings, began_at), is_resumed=True)
        except _NothingTakenError as nothing:
            return nothing.outcomes
        if isinstance(attempt, Interrupted):
            raise ServiceUnavailableError(_UNAVAILABLE) from attempt.cause
        return attempt

    def _resume(self, readings: Sequence[Reading], began_at: datetime) -> Attempt:
        """Attempt again what was interrupted: what it queued is queued again under the same time, and dropped later."""
        attempt = self._attempt(readings, began_at)
        if isinstance(attempt, Interrupted):
            # Remembered is only what succeeds.
            raise ServiceUnavailableError(_UNAVAILABLE) from attempt.cause
        return attempt

    def _attempt(self, readings: Sequence[Reading], now: datetime) -> Attempt:
        """Answer the readings in order, queue the temperatures, latch what is broken, and alert.

        Returns Interrupted for a failure after which readings that got the server's time may be in the queue.
        """
        judged = self._judge(readings, self._registry.see(reading.key for reading in readings), now)
        if judged.without_curve:
            self._on_refused(len(judged.without_curve))
        if all(isinstance(outcome, Refused) for outcome in judged.outcomes):
            raise _NothingTakenError(judged.outcomes)
        answered = [
            (outcome, reading.resistance_ohm)
            for reading, outcome in zip(readings, judged.outcomes, strict=True)
            if isinstance(outcome, Answer)
        ]
        measurements = [
            QueuedMeasurement(
                one.sensor_id, one.location_id, one.temperature, one.status, one.timestamp, resistance_ohm
            )
            for one, resistance_ohm in answered
            if one.temperature is not None
        ]
        try:
            self._queue.send(measurements)
            # Not before the queue has the good readings: a repetition would find their sensors broken.
            self._registry.latch_all(judged.newly_broken)
        except (BotoCoreError, ClientError, ServiceUnavailableError) as error:
            if measurements and any(reading.timestamp is None for reading in readings):
                return Interrupted(now, error)
            raise
        self._alerts.consider(answered)
        return judged.outcomes

    def _judge(self, readings: Sequence[Reading], seen: Mapping[str, Sensor | Refused], now: datetime) -> _Judged:
        """Judge the readings in order: a sensor is broken from its first value out of range on."""
        times = _ServerTimes(readings, now)
        newly_broken: dict[str, None] = {}
        without_curve: set[str] = set()
        outcomes: list[Outcome] = []
        for reading in readings:
            key = reading.key
            sensor = seen[key]
            if isinstance(sensor, Refused):
                outcomes.append(sensor)
                continue
            is_broken = sensor.broken or key in newly_broken
            curve = None if is_broken else self._thermistors.curve_of(sensor.thermistor)
            if curve is None and not is_broken:
                without_curve.add(key)
                outcomes.append(_unknown_type(sensor))
                continue
            if curve and not curve.accepts(reading.resistance_ohm):
                newly_broken[key] = None
                curve = None
            temperature = curve.temperature_celsius(reading.resistance_ohm) if curve else None
            status = Status.BROKEN if temperature is None else self._status_limits.status_of(temperature)
            timestamp = reading.timestamp or times.next_for(key)
            outcomes.append(Answer(reading.sensor_id, reading.location_id, temperature, status, timestamp))
        return _Judged(outcomes, list(newly_broken), without_curve)


def _unknown_type(sensor: Sensor) -> Refused:
    return Refused(f"sensor_id: the settings have no thermistor {sensor.thermistor!r} (thermistors) any more")


class _ServerTimes:
    """Times for readings that have none: now, and a millisecond apart, so that two of one sensor stay two."""

    def __init__(self, readings: Sequence[Reading], now: datetime) -> None:
        self._readings = readings
        self._now = now
        # After the last one, so that a batch of one sensor's readings does not try all times again for each.
        self._milliseconds: dict[str, Iterator[int]] = defaultdict(count)

    @cached_property
    def _given(self) -> set[tuple[str, str | None]]:
        return {(reading.key, reading.timestamp) for reading in self._readings}

    def next_for(self, key: str) -> str:
        """Return the first time that no other reading of the sensor has."""
        times = (format_time(self._now + timedelta(milliseconds=one)) for one in self._milliseconds[key])
        return next(time for time in times if (key, time) not in self._given)
