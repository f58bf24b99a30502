"""Checks every answer against what was sent: equation, latch, the same again for a repeat, the reason of a refusal."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum, auto
from http import HTTPStatus

import msgspec
from msgspec import Struct

from chalicelib.fields import sensor_key
from chalicelib.thermistor import Status, StatusLimits, Thermistor
from simulator.faults import PlannedReading
from simulator.messages import Answer, Exchange, PostedReading, encode_one

TOLERANCE_CELSIUS = 1e-9
# These say something about the service or about whoever asks, not about the reading.
_NO_ANSWER = frozenset({401, 403, 404, 408, 429})

# The identity of a request's readings: sensors and when they measured.
RequestKey = tuple[tuple[str, int], ...]


class Mismatch(Struct, frozen=True):
    """An answer that is not what it should be, for people to read."""

    sent: str
    expected: str
    answered: str


class Verdict(Struct, frozen=True):
    """The result of a check; `is_replay` when the API had to answer from memory, so that nothing was accepted again."""

    mismatch: Mismatch | None = None
    is_replay: bool = False


class _State(Enum):
    """The knowledge of a sensor; a SUSPECT one may have been broken by a reading that was sent in vain."""

    UNKNOWN = auto()
    WORKING = auto()
    SUSPECT = auto()
    BROKEN = auto()


class _Outcome(Struct, frozen=True):
    status: Status
    temperature: float | None = None


class _Original(Struct, frozen=True):
    request: RequestKey
    outcome: _Outcome


class _Sensor:
    """A sensor's state, and how those of its readings that will be sent again were answered."""

    def __init__(self, state: _State) -> None:
        self.state = state
        self.originals: dict[int, _Original] = {}


_BROKEN = _Outcome(Status.BROKEN)


class Checker:
    """Knows what each sensor has sent, and its type's curve.

    Two requests of a sensor must not overlap; not for several threads at once.

    Unless they are new, sensors may be broken from the start; `broken_before` counts those.
    """

    def __init__(self, curves: Mapping[str, Thermistor], limits: StatusLimits, *, sensors_are_new: bool) -> None:
        self._curves = curves
        self._limits = limits
        self._first_state = _State.WORKING if sensors_are_new else _State.UNKNOWN
        self._sensors: dict[str, _Sensor] = {}
        self.broken_before = 0

    def check(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """Check what came of one request's readings."""
        plans = [exchange.delivery.planned for exchange in exchanges]
        request = tuple((_key(plan), plan.measured_us) for plan in plans if plan.malformation is None)
        return [self._check(exchange, request) for exchange in exchanges]

    def _check(self, exchange: Exchange, request: RequestKey) -> Verdict:
        planned = exchange.delivery.planned
        if planned.malformation is not None:
            return Verdict(_check_rejection(exchange, planned.malformation.field))
        sensor = self._sensors.setdefault(_key(planned), _Sensor(self._first_state))
        original = sensor.originals.pop(planned.measured_us, None) if planned.is_repeat else None
        is_replay = original is not None and original.request == request
        mismatch = None
        if not _is_unanswered(exchange) and not _is_in_progress(exchange, original):
            expected = [original.outcome] if original and is_replay else self._expect(planned, sensor, original)
            mismatch = _check_answer(exchange, expected)
        if exchange.answer is None:
            self._doubt(sensor, planned)
        else:
            self._learn(sensor, planned, exchange.answer, request)
        return Verdict(mismatch, is_replay)

    def _expect(self, planned: PlannedReading, sensor: _Sensor, original: _Original | None) -> list[_Outcome]:
        """Return what the API may answer to a reading that is not in the very request of its original."""
        if not self._accepts(planned):
            return [_BROKEN]
        temperature = self._curves[planned.thermistor].temperature_celsius(planned.resistance_ohm)
        working = _Outcome(self._limits.status_of(temperature), temperature)
        if sensor.state is _State.WORKING:
            return [working]
        if sensor.state is _State.BROKEN and not planned.is_repeat:
            return [_BROKEN]
        # Nobody knows, or a repeat is answered as before the sensor broke, or, in another batch, as it is now.
        return [working if original is None else original.outcome, _BROKEN]

    def _learn(self, sensor: _Sensor, planned: PlannedReading, answer: Answer, request: RequestKey) -> None:
        if planned.repeat_after is not None:
            outcome = _Outcome(answer.status, answer.temperature)
            sensor.originals[planned.measured_us] = _Original(request, outcome)
        if not self._accepts(planned):
            sensor.state = _State.BROKEN
        elif planned.is_repeat:
            # It may be of the past.
            return
        elif answer.status is Status.BROKEN and sensor.state in {_State.UNKNOWN, _State.SUSPECT}:
            self.broken_before += sensor.state is _State.UNKNOWN
            sensor.state = _State.BROKEN
        elif sensor.state is _State.UNKNOWN:
            sensor.state = _State.WORKING

    def _doubt(self, sensor: _Sensor, planned: PlannedReading) -> None:
        if sensor.state is not _State.BROKEN and not self._accepts(planned):
            sensor.state = _State.SUSPECT

    def _accepts(self, planned: PlannedReading) -> bool:
        return self._curves[planned.thermistor].accepts(planned.resistance_ohm)


def _key(planned: PlannedReading) -> str:
    return sensor_key(planned.location_id, planned.sensor_id)


def _is_unanswered(exchange: Exchange) -> bool:
    status = exchange.http_status
    return status is None or status in _NO_ANSWER or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _is_in_progress(exchange: Exchange, original: _Original | None) -> bool:
    """Return whether an earlier attempt at the reading, which nobody saw answered, may be the reason of a conflict."""
    tried_before = exchange.was_retried or (exchange.delivery.planned.is_repeat and original is None)
    return tried_before and exchange.http_status == HTTPStatus.CONFLICT


def _check_rejection(exchange: Exchange, field: str) -> Mismatch | None:
    if _is_unanswered(exchange):
        return None
    if exchange.rejection is not None:
        path = exchange.rejection.partition(":")[0]
        if path.rpartition(".")[2] == field:
            return None
    return _mismatch(exchange, f"a rejection that names {field}")


def _check_answer(exchange: Exchange, expected: Sequence[_Outcome]) -> Mismatch | None:
    answer = exchange.answer
    if (
        answer is not None
        and exchange.http_status == HTTPStatus.OK
        and _is_echoed(answer, exchange.delivery.reading)
        and any(_is_same(outcome, answer) for outcome in expected)
    ):
        return None
    return _mismatch(exchange, " or ".join(_describe(outcome) for outcome in expected))


def _is_echoed(answer: Answer, reading: PostedReading) -> bool:
    if (answer.sensor_id, answer.location_id) != (reading.sensor_id, reading.location_id):
        return False
    return answer.timestamp == reading.timestamp or _is_same_time(answer.timestamp, reading.timestamp)


def _is_same_time(one: str, other: str) -> bool:
    try:
        return datetime.fromisoformat(one) == datetime.fromisoformat(other)
    except ValueError:
        return False


def _is_same(outcome: _Outcome, answer: Answer) -> bool:
    if outcome.status is not answer.status:
        return False
    if outcome.temperature is None or answer.temperature is None:
        return outcome.temperature is answer.temperature
    return math.isclose(outcome.temperature, answer.temperature, rel_tol=0, abs_tol=TOLERANCE_CELSIUS)


def _mismatch(exchange: Exchange, expected: str) -> Mismatch:
    if exchange.answer is not None:
        answered = msgspec.json.encode(exchange.answer).decode()
    elif exchange.rejection is not None:
        answered = f"rejected: {exchange.rejection}"
    else:
        answered = f"no answer: {exchange.error}"
    return Mismatch(encode_one(exchange.delivery).decode(), expected, f"HTTP {exchange.http_status} {answered}")


def _describe(outcome: _Outcome) -> str:
    return outcome.status if outcome.temperature is None else f"{outcome.status} {outcome.temperature!r} °C"
