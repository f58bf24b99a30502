"""What the application tells about itself: metrics of what happened, and one id from the request to the run."""

import json
import logging
from typing import Any

import pytest

from chalicelib.ledger import Counts
from tests.factories import measurement_fields
from tests.functional.conftest import STAGE, Stage
from tests.functional.test_functions import RUN, sqs_event


def metrics(captured: pytest.CaptureFixture[str]) -> dict[str, float]:
    """The metrics that were emitted, of the stage and of nothing else."""
    found: dict[str, float] = {}
    for line in captured.readouterr().out.splitlines():
        if '"_aws"' in line:
            content = json.loads(line)
            (directive,) = content["_aws"]["CloudWatchMetrics"]
            assert directive["Namespace"] == "Thermonet"
            assert sorted(directive["Dimensions"][0]) == ["service", "stage"]
            assert (content["service"], content["stage"]) == ("thermonet", STAGE)
            found |= {metric["Name"]: sum(content[metric["Name"]]) for metric in directive["Metrics"]}
    return found


GOOD = {"sensor_id": "1", "location_id": "a", "value": 2_000}
OUT_OF_RANGE = {"sensor_id": "2", "location_id": "a", "value": 25_000}
INVALID = {"sensor_id": "3", "location_id": "a"}


@pytest.mark.parametrize(
    ("posted", "counted"),
    [
        (GOOD, {"AcceptedReadings": 1}),
        (OUT_OF_RANGE, {"BrokenReadings": 1}),
        (INVALID, {"RejectedReadings": 1}),
        (
            {"readings": [GOOD, OUT_OF_RANGE, INVALID, INVALID]},
            {"AcceptedReadings": 1, "BrokenReadings": 1, "RejectedReadings": 2},
        ),
    ],
)
def test_a_reading_is_counted_by_what_became_of_it(
    stage: Stage, capsys: pytest.CaptureFixture[str], posted: Any, counted: dict[str, int]
) -> None:
    stage.post(posted)
    assert {name: number for name, number in metrics(capsys).items() if number} == counted


def test_a_batch_counts_what_landed_and_what_was_set_aside(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.lambdas.invoke("buffer_measurements", sqs_event(json.dumps([measurement_fields()] * 2), "no json"))
    assert metrics(capsys) == {"LandedMeasurements": 2, "QuarantinedMessages": 1}


def test_a_run_counts_what_became_of_its_measurements(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    bodies = [json.dumps([measurement_fields()]) for _ in range(3)]
    stage.lambdas.invoke("buffer_measurements", sqs_event(*bodies))
    capsys.readouterr()
    prepared = stage.lambdas.invoke("receiver", RUN).payload
    (task,) = json.loads(stage.object(prepared["locations_key"]))
    stage.lambdas.invoke("reporter", {"run_id": "run-1", "started_at": RUN["started_at"], "task": task})
    assert metrics(capsys) == {}, "nothing before the run is about to be committed"
    stage.lambdas.invoke("summarizer", {"run_id": "run-1"})
    kinds = [f"Run{kind.capitalize()}" for kind in Counts.__struct_fields__]
    assert metrics(capsys) == {**dict.fromkeys(kinds, 0), "RunMeasurements": 1, "RunDuplicates": 2}


def test_a_run_over_a_static_input_counts_nothing(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.put_object("input.csv", b"sensor_id,location_id,temperature,timestamp\n1,a,20,2026-03-01T11:00:00Z\n")
    stage.lambdas.invoke("receiver", {**RUN, "input": {"source": "S3", "key": "input.csv"}})
    assert metrics(capsys) == {}


def test_the_id_of_a_request_travels_with_its_measurement(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    import app as app_module
    from chalicelib.aws import Aws
    from chalicelib.services import Services

    services = Services(app_module.SETTINGS, Aws(STAGE), correlation_id=lambda: "request-1")
    monkeypatch.setattr(app_module, "services", services)
    stage.post({"sensor_id": "1", "location_id": "a", "value": 2_000})
    (message,) = stage.aws("sqs").receive_message(QueueUrl=stage.resources["queue_url"], MessageAttributeNames=["All"])[
        "Messages"
    ]
    assert message["MessageAttributes"]["correlation_id"]["StringValue"] == "request-1"


def test_landed_measurements_are_told_with_the_ids_of_their_requests(
    stage: Stage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = sqs_event(json.dumps([measurement_fields()]), json.dumps([measurement_fields(sensor_id="2")]))
    event["Records"][0]["messageAttributes"] = {"correlation_id": {"stringValue": "request-1", "dataType": "String"}}
    # Records of chalicelib end at its own logger once app.py has set up the log.
    logger = logging.getLogger("chalicelib")
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    stage.lambdas.invoke("buffer_measurements", event)
    landed = next(record for record in caplog.records if record.message == "landed")
    assert landed.correlation_ids == ["request-1"]
    assert landed.landing_keys == stage.keys("landing/")
