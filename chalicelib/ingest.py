"""The use case behind POST /readings: from a request body to an answer, in the order of the contract."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from chalicelib.alerts import Alerts
from chalicelib.errors import BodyTooLargeError
from chalicelib.idempotency import Once
from chalicelib.measurement_queue import MeasurementQueue
from chalicelib.readings import BODY_BYTES_MAX, Answer, Measurement, Reading, decode_body, parse_reading
from chalicelib.registry import SensorRegistry
from chalicelib.thermistor import Status, Thermistor


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

    def post(self, body: bytes, lambda_context: Any) -> dict[str, Any]:
        """Take one reading as JSON and return its answer, ready for JSON.

        Raises ValidationError naming the field, BodyTooLargeError, ReadingConflictError, ReadingInProgressError,
        ServiceUnavailableError, and botocore's errors when a service behind does not answer.
        """
        if len(body) > BODY_BYTES_MAX:
            raise BodyTooLargeError(f"body: more than {BODY_BYTES_MAX} bytes")
        reading = parse_reading(decode_body(body), self._clock(), self._oldest_age)
        return self._once.run(
            reading, lambda: msgspec.to_builtins(self._accept(reading), order="sorted"), lambda_context
        )

    def _accept(self, reading: Reading) -> Answer:
        temperature = self._temperature_celsius(reading)
        status = Status.BROKEN if temperature is None else self._thermistor.status(temperature)
        timestamp = reading.timestamp or self._clock()
        answer = Answer(reading.sensor_id, reading.location_id, temperature, status, timestamp)
        if temperature is not None:
            measurement = Measurement(
                sensor_id=reading.sensor_id,
                location_id=reading.location_id,
                temperature=temperature,
                status=status,
                timestamp=timestamp,
                value=reading.resistance_ohm,
            )
            self._queue.send([measurement])
        self._alerts.consider(answer, reading.resistance_ohm)
        return answer

    def _temperature_celsius(self, reading: Reading) -> float | None:
        """Consult and update the registry; None when the sensor is broken, now or since earlier."""
        if not self._thermistor.accepts(reading.resistance_ohm):
            self._registry.latch(reading.sensor_id)
            return None
        if self._registry.is_broken(reading.sensor_id):
            return None
        return self._thermistor.temperature_celsius(reading.resistance_ohm)
