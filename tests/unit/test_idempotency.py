"""One effect and one answer for each reading, on the fake table."""

from datetime import timedelta
from time import time

import pytest
from botocore.exceptions import ReadTimeoutError
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.errors import ReadingConflictError, ReadingInProgressError, ServiceUnavailableError
from chalicelib.fields import format_time
from chalicelib.ingest.idempotency import Idempotency
from chalicelib.ingest.readings import Answer
from chalicelib.ingest.records import Interrupted
from chalicelib.thermistor import Status
from tests.factories import MINUTE, NOW, SETTINGS, reading
from tests.fakes import FakeDynamoDb, FakeLambdaContext, service_error

TIME, LATER = format_time(NOW), format_time(NOW + MINUTE)
TABLE = "idempotency"


@pytest.fixture
def dynamodb():
    return FakeDynamoDb({TABLE: "id"})


class Effects:
    """A use case that counts its effects and answers with their number."""

    def __init__(self, dynamodb):
        self.count = 0
        self.idempotency = Idempotency(SETTINGS.idempotency, TABLE, dynamodb)

    def take(self, one):
        (answer,) = self.attempt(one, lambda: self._act(one))
        return answer

    def attempt(self, one, attempt, context=None):
        return self.idempotency.run([one], attempt, context or FakeLambdaContext())

    def _act(self, one):
        self.count += 1
        return [effect(self.count, one)]


def effect(number, one):
    return Answer(one.sensor_id, one.location_id, number + 0.1 + 0.2, Status.OK, one.timestamp or TIME)


@pytest.fixture
def effects(dynamodb):
    return Effects(dynamodb)


SAME_READINGS = {
    "reading_id": (reading(reading_id="r"), reading(reading_id="r")),
    "timestamp and another reading_id": (
        reading(reading_id="r", timestamp=TIME), reading(reading_id="q", timestamp=TIME)
    ),
    "timestamp": (reading(timestamp=TIME), reading(timestamp=TIME)),
    "everything, within the window": (reading(), reading()),
}  # fmt: skip
OTHER_READINGS = {
    "reading_id": (reading(reading_id="r"), reading(reading_id="q")),
    "sensor of a reading_id": (reading(reading_id="r"), reading(sensor_id="2", reading_id="r")),
    "timestamp": (reading(timestamp=TIME), reading(timestamp=format_time(NOW + timedelta(milliseconds=1)))),
    "sensor of a timestamp": (reading(timestamp=TIME), reading(sensor_id="2", timestamp=TIME)),
    "value, without identity": (reading(), reading(resistance_ohm=2001.0)),
    "location, without identity": (reading(), reading(location_id="b")),
    "location of a reading_id": (reading(reading_id="r"), reading(location_id="b", reading_id="r")),
    "location of a timestamp": (reading(timestamp=TIME), reading(location_id="b", timestamp=TIME)),
    "timestamp of a reading_id": (
        reading(reading_id="r", timestamp=TIME), reading(reading_id="r", timestamp=LATER)
    ),
    "reading_id that looks like a timestamp": (reading(timestamp=TIME), reading(reading_id=TIME)),
}  # fmt: skip


@pytest.mark.parametrize(("one", "other"), SAME_READINGS.values(), ids=SAME_READINGS)
def test_the_same_reading_has_one_effect_and_one_answer(effects, one, other):
    first = effects.take(one)
    assert effects.take(other) == first
    assert effects.take(one) == first
    assert effects.count == 1


@pytest.mark.parametrize(("one", "other"), OTHER_READINGS.values(), ids=OTHER_READINGS)
def test_another_reading_has_its_own_effect(effects, one, other):
    assert effects.take(one) != effects.take(other)
    assert effects.count == 2


@pytest.mark.parametrize("identity", [{"reading_id": "r"}, {"timestamp": TIME}])
def test_an_accepted_reading_that_comes_again_with_another_value_is_a_conflict(effects, identity):
    effects.take(reading(**identity))
    with pytest.raises(ReadingConflictError):
        effects.take(reading(**identity, resistance_ohm=2001.0))
    assert effects.count == 1
    assert effects.take(reading(**identity)) == effect(1, reading(**identity))


def test_another_process_gives_the_same_answer(dynamodb, effects):
    other = Effects(dynamodb)
    assert effects.take(reading(timestamp=TIME)) == other.take(reading(timestamp=TIME))
    assert other.count == 0


def test_a_first_delivery_costs_two_calls_and_a_repeat_one(dynamodb, effects):
    effects.take(reading(timestamp=TIME))
    assert dynamodb.calls == ["put_item", "update_item"]
    dynamodb.calls.clear()
    effects.take(reading(timestamp=TIME))
    assert dynamodb.calls == ["put_item"]


def expire(dynamodb, attribute="expiration"):
    for item in dynamodb.tables[TABLE].values():
        item[attribute] = {"N": "1"}


def test_a_constant_temperature_is_taken_again_when_the_window_is_over(dynamodb, effects):
    effects.take(reading())
    expire(dynamodb)
    effects.take(reading())
    assert effects.count == 2


@pytest.mark.parametrize(("one", "lifetime_seconds"), [(reading(timestamp=TIME), 86_400), (reading(), 5)])
def test_a_reading_is_remembered_for_its_own_time(dynamodb, effects, one, lifetime_seconds):
    before = int(time())
    effects.take(one)
    (record,) = dynamodb.tables[TABLE].values()
    assert before + lifetime_seconds <= int(record["expiration"]["N"]) <= int(time()) + lifetime_seconds


def test_a_failed_attempt_leaves_nothing_behind_and_may_be_repeated(dynamodb, effects):
    error = service_error()

    def fail():
        raise error

    with pytest.raises(type(error)) as raised:
        effects.attempt(reading(timestamp=TIME), fail)
    assert raised.value is error
    assert dynamodb.tables[TABLE] == {}
    assert effects.take(reading(timestamp=TIME)) == effect(1, reading(timestamp=TIME))


def test_a_reading_under_way_in_another_process_is_in_progress(dynamodb, effects):
    def meanwhile():
        with pytest.raises(ReadingInProgressError):
            effects.take(reading(timestamp=TIME))
        return [effect(1, reading(timestamp=TIME))]

    Effects(dynamodb).attempt(reading(timestamp=TIME), meanwhile)
    assert effects.count == 0


def test_an_attempt_is_in_progress_no_longer_than_its_lambda_can_run(dynamodb):
    begun = []

    def look():
        (record,) = dynamodb.tables[TABLE].values()
        begun.append(int(record["in_progress_expiration"]["N"]))
        return [effect(1, reading(timestamp=TIME))]

    before_ms = int(time() * 1000)
    Effects(dynamodb).attempt(reading(timestamp=TIME), look, FakeLambdaContext(remaining_ms=20_000))
    assert before_ms + 20_000 <= begun[0] <= int(time() * 1000) + 20_000


def test_an_attempt_that_died_is_over_with_its_lambda_and_not_before(dynamodb, effects):
    def die():
        raise KeyboardInterrupt

    dynamodb.failing["delete_item"] = service_error()
    with pytest.raises(BaseException):  # noqa: B017, PT011 - whatever it dies of
        Effects(dynamodb).attempt(reading(timestamp=TIME), die)
    with pytest.raises(ReadingInProgressError):
        effects.take(reading(timestamp=TIME))
    expire(dynamodb, "in_progress_expiration")
    assert effects.take(reading(timestamp=TIME)) == effect(1, reading(timestamp=TIME))


def test_an_interrupted_attempt_is_known_to_itself_and_remembered_by_its_time_alone(effects):
    interrupted = Interrupted(NOW, service_error())
    assert effects.attempt(reading(), lambda: interrupted) is interrupted
    assert effects.attempt(reading(), pytest.fail) == Interrupted(NOW)


def test_what_a_resumed_attempt_comes_to_is_remembered_and_what_fails_is_not(dynamodb, effects):
    def run(attempt, **options):
        return effects.idempotency.run([reading()], attempt, FakeLambdaContext(), **options)

    def fail():
        raise ServiceUnavailableError("again")

    run(lambda: Interrupted(NOW, service_error()))
    with pytest.raises(ServiceUnavailableError, match="again"):
        run(fail, is_resumed=True)
    answers = [effect(1, reading())]
    assert run(lambda: answers, is_resumed=True) == answers
    assert run(pytest.fail) == Interrupted(NOW)
    assert run(pytest.fail, is_resumed=True) == answers


@pytest.mark.parametrize("change", [{"resistance_ohm": 2001.0}, {"sensor_id": "2"}, {"location_id": "b"}])
def test_a_batch_is_the_same_only_with_the_same_values(effects, change):
    def take(number, *readings):
        answers = [effect(number, one) for one in readings]
        return effects.idempotency.run(readings, lambda: answers, FakeLambdaContext(), is_batch=True)

    one, other = reading(timestamp=TIME), reading(sensor_id="3", timestamp=TIME)
    assert take(1, one, other) == take(2, one, other) == [effect(1, one), effect(1, other)]
    changed = reading(**{"sensor_id": "3", "timestamp": TIME, **change})
    assert take(3, one, changed) == [effect(3, one), effect(3, changed)]


@pytest.mark.parametrize("operation", ["put_item", "update_item"])
@pytest.mark.parametrize("error", [service_error(), ReadTimeoutError(endpoint_url="https://dynamodb")])
def test_a_table_that_does_not_answer_is_unavailable(dynamodb, effects, operation, error):
    dynamodb.failing[operation] = error
    with pytest.raises(ServiceUnavailableError, match="idempotency table"):
        effects.take(reading(timestamp=TIME))


READINGS = st.builds(
    reading,
    sensor_id=st.sampled_from(["1", "2"]),
    timestamp=st.sampled_from([None, TIME, LATER]),
    reading_id=st.sampled_from([None, "r", "q"]),
)


@given(st.lists(READINGS, max_size=12))
def test_however_readings_are_repeated_each_has_one_effect_and_one_answer(deliveries):
    effects = Effects(FakeDynamoDb({TABLE: "id"}))
    answers = {}
    for one in deliveries:
        identity = (one.sensor_id, ("time", one.timestamp) if one.timestamp else ("id", one.reading_id))
        assert effects.take(one) == answers.setdefault(identity, effects.take(one))
    assert effects.count == len(answers)
