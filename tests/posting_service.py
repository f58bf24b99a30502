"""The use case behind POST /readings on fakes."""

import json

import msgspec

from chalicelib.calibration import Thermistors
from chalicelib.fields import format_time
from chalicelib.ingest.alerts import Alerts
from chalicelib.ingest.idempotency import Idempotency
from chalicelib.ingest.measurement_queue import MeasurementQueue
from chalicelib.ingest.posting import Ingest
from tests.contracts import LEDGER_TABLE, REGISTRY_TABLE, new_registry
from tests.factories import DAY, MINUTE, NOW, SETTINGS, alert_settings, thermistor
from tests.fakes import FakeDynamoDb, FakeLambdaContext, FakeSns, FakeSqs

TOO_HIGH_OHM = 25_000
TIME = format_time(NOW - MINUTE)


class PostingService:
    """The use case with its services, and a clock that a test may set."""

    def __init__(self, limits=SETTINGS.limits):
        self.now = NOW
        self.refused = []
        self.dynamodb = FakeDynamoDb({REGISTRY_TABLE: "sensor_id", "idempotency": "id", LEDGER_TABLE: "id"})
        self.sns, self.sqs = FakeSns(), FakeSqs()
        self.registry = new_registry(self.dynamodb, limits)
        self.ingest = Ingest(
            Thermistors(SETTINGS.thermistors),
            SETTINGS.status_below_celsius,
            DAY,
            Idempotency(SETTINGS.idempotency, "idempotency", self.dynamodb),
            self.registry,
            MeasurementQueue("queue", self.sqs, NOW.timestamp, lambda bits: 2**bits - 1),
            Alerts(alert_settings(), "topic", "idempotency", self.sns, self.dynamodb, NOW.timestamp),
            lambda: self.now,
            self.refused.append,
        )

    def post(self, body, *locations):
        return self.post_bytes(json.dumps(body).encode(), *locations)

    def post_bytes(self, body, *locations):
        may_post = locations.__contains__ if locations else lambda _: True
        return msgspec.to_builtins(self.ingest.post(body, may_post, FakeLambdaContext()))

    def post_batch(self, *readings, locations=()):
        return self.post({"readings": readings}, *locations)

    def is_broken(self, key):
        return self.dynamodb.tables[REGISTRY_TABLE][key]["broken"]["BOOL"]


def temperature_of(resistance_ohm):
    return thermistor().temperature_celsius(resistance_ohm)


def answer_to(sensor_id="1", temperature=..., status="OK", timestamp=TIME):
    temperature = temperature_of(2000) if temperature is ... else temperature
    return {
        "sensor_id": sensor_id,
        "location_id": "a",
        "temperature": temperature,
        "status": status,
        "timestamp": timestamp,
    }
