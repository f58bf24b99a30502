"""What the application tells about itself: metrics of what happened, and one id from the request to the run."""

import json
import logging
from typing import Any

import pytest

from chalicelib.ledger import Counts
from tests.factories import measurement_fields
from tests.functional.conftest import STAGE, Stage
from tests.functional.test_functions import CLAIM, sqs_event


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


def play(stage: Stage, request: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    """Call the workflow's functions one after the other; return what they have counted, the last of them last."""
    claim = stage.lambdas.invoke("claimer", request).payload
    assert metrics(capsys) == {"ArchiveBehindMinutes": 0}
    run = {"run_id": claim["run_id"]}
    plan = stage.lambdas.invoke("receiver", {**run, "claim_key": claim["claim_key"]}).payload
    (task,) = json.loads(stage.object(plan["locations_key"]))
    one = {**run, "folder": claim["folder"], "started_at": request["started_at"], "scope": claim["scope"], "task": task}
    stage.lambdas.invoke("reporter", one)
    assert metrics(capsys) == {}, "nothing before the run is about to be committed"
    stage.lambdas.invoke("summarizer", {**run, "plan_key": plan["plan_key"]})
    return metrics(capsys)


def test_a_run_counts_what_became_of_its_measurements(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    bodies = [json.dumps([measurement_fields()]) for _ in range(3)]
    stage.lambdas.invoke("buffer_measurements", sqs_event(*bodies))
    capsys.readouterr()
    kinds = [f"Run{kind.capitalize()}" for kind in Counts.__struct_fields__]
    assert play(stage, CLAIM, capsys) == {**dict.fromkeys(kinds, 0), "RunMeasurements": 1, "RunDuplicates": 2}


def test_a_run_over_a_static_input_counts_nothing(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.put_object("input.csv", b"sensor_id,location_id,temperature,timestamp\n1,a,20,2026-03-01T11:00:00Z\n")
    assert play(stage, {**CLAIM, "input": {"source": "S3", "key": "input.csv"}}, capsys) == {}


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
