"""The client of the route for sensors: what it tries again, for how long, and what it makes of the answers."""

import pytest

from chalicelib.errors import ValidationError
from ops.sensors_client import ATTEMPTS, ApiError, SensorsApi
from tests.functional.sensors_stub import echo, serving


@pytest.fixture
def stub():
    """An API that takes everything."""
    with serving(echo) as api:
        yield api


class Waits:
    """Waits for nothing and remembers how long it should have."""

    def __init__(self, interrupted_after=100):
        self.seconds = []
        self._interrupted_after = interrupted_after

    def __call__(self, seconds):
        self.seconds.append(seconds)
        return len(self.seconds) >= self._interrupted_after


def provision_one(url, waits):
    (result,) = SensorsApi(url, "token", waits).provision("a", [{"sensor_id": "1", "thermistor": None}])
    return result


@pytest.mark.parametrize("trouble", [(429, {}, b""), (503, {}, b""), (502, {}, b""), (500, {}, b"x"), None])
def test_what_may_pass_is_tried_again_after_longer_and_longer(stub, trouble):
    stub.respond = lambda _: trouble if len(stub.posted) < ATTEMPTS else ...
    waits = Waits()
    assert provision_one(stub.url, waits).error is None
    assert len(waits.seconds) == ATTEMPTS - 1
    assert all(2**n / 4 <= seconds <= 2**n / 2 for n, seconds in enumerate(waits.seconds, start=1))


def test_the_api_says_how_long_to_wait_at_least(stub):
    stub.respond = lambda _: (503, {"Retry-After": "9"}, b"") if len(stub.posted) == 1 else ...
    waits = Waits()
    provision_one(stub.url, waits)
    assert 9 <= waits.seconds[0] <= 18


@pytest.mark.parametrize("trouble", [(429, {}, b""), (503, {"Retry-After": "x"}, b""), None])
def test_an_api_that_is_not_available_ends_it(stub, trouble):
    stub.respond = lambda _: trouble
    with pytest.raises(ApiError, match="try again later"):
        provision_one(stub.url, Waits())
    assert len(stub.posted) == ATTEMPTS


def test_an_error_that_stays_is_of_its_group_alone(stub):
    stub.respond = lambda _: (500, {}, {"Message": "Internal server error"})
    assert provision_one(stub.url, Waits()).error == "500: Internal server error"


def test_an_interruption_ends_the_wait(stub):
    stub.respond = lambda _: None
    with pytest.raises(ApiError):
        provision_one(stub.url, Waits(interrupted_after=2))
    assert len(stub.posted) == 2


@pytest.mark.parametrize(
    "body", [b"", b"x", {"results": []}, {"results": [{"sensor_id": "2", "broken": False}]}, {"results": [1]}, b"\xff"]
)
def test_an_answer_that_cannot_be_read_provisions_nothing(stub, body):
    stub.respond = lambda _: (200, {}, body)
    assert provision_one(stub.url, Waits()).error.startswith("the answer cannot be read: ")


def test_a_token_in_more_than_one_line_is_refused():
    with pytest.raises(ValidationError, match="token: must be one line"):
        SensorsApi("http://127.0.0.1:9", "a\nb", Waits())
