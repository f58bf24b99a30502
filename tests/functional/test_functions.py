"""The functions behind the queue, the schedule and the workflow, through the real app."""

import functools
import gzip
import json

import msgspec
import pytest
from botocore.exceptions import ClientError

from chalicelib.errors import ServiceUnavailableError
from chalicelib.ledger import NO_MANIFEST
from chalicelib.object_store import ObjectStore
from tests.contracts import LEDGER_TABLE, REGISTRY_TABLE, ObjectStoreContract, RegistryContract, is_broken, new_registry
from tests.factories import NOW, measurement_fields, posted
from tests.fakes import service_error
from tests.runs import player_on, settle

SCHEDULED = {
    "version": "0", "id": "1", "detail-type": "Scheduled Event", "source": "aws.events", "account": "1",
    "time": "2026-03-01T12:00:00Z", "region": "us-east-1", "resources": [], "detail": {},
}  # fmt: skip
CLAIM = {"execution": "execution-1", "started_at": "2026-03-01T12:00:00Z", "input": {"source": "SQS"}}
# Requests that are right, and about nothing that is there.
RUN = {"run_id": "000000000001-0123456789abcdef"}
TASK = {"location_id": "a", "increments_key": "scratch/a.parquet", "previous_state_key": None, "counts": {}}
SCOPE = {"window_minutes": 5, "history_hours": 24}
REQUESTS = {
    "claimer": CLAIM,
    "receiver": {**RUN, "claim_key": "runs/1/claim.json"},
    "reporter": {**RUN, "folder": "runs/1", "started_at": CLAIM["started_at"], "scope": SCOPE, "task": TASK},
    "summarizer": {**RUN, "plan_key": "runs/1/plan.json"},
}


def sqs_event(*bodies):
    return {
        "Records": [
            {
                "messageId": f"m{number}",
                "receiptHandle": "r",
                "body": body,
                "attributes": {"SentTimestamp": "1772366400000"},
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:1:thermonet-dev-measurements",
            }
            for number, body in enumerate(bodies)
        ]
    }


def executions(stage):
    sfn = stage.aws("stepfunctions")
    return sfn.list_executions(stateMachineArn=stage.resources["state_machine_arn"])["executions"]


def landed_lines(stage):
    return [
        json.loads(line) for key in stage.keys("landing/") for line in gzip.decompress(stage.object(key)).splitlines()
    ]


def test_a_batch_of_the_queue_lands_and_its_bad_message_is_set_aside(stage):
    event = sqs_event(json.dumps([measurement_fields()]), "no json", json.dumps([measurement_fields(sensor_id="2")]))
    stage.lambdas.invoke("buffer_measurements", event)
    assert [line["sensor_id"] for line in landed_lines(stage)] == ["1", "2"]
    assert {line["queued_at_ms"] for line in landed_lines(stage)} == {1772366400000}
    (key,) = stage.keys("quarantine/")
    assert json.loads(stage.object(key))["body"] == "no json"


def test_a_message_is_known_by_what_ingest_gave_it_however_often_and_late_it_comes(stage):
    stage.post(posted())
    (message,) = stage.aws("sqs").receive_message(QueueUrl=stage.resources["queue_url"], MessageAttributeNames=["All"])[
        "Messages"
    ]
    attributes = {name: int(value["StringValue"]) for name, value in message["MessageAttributes"].items()}
    for message_id, days in (("m1", 0), ("m2", 8)):
        event = sqs_event(message["Body"])
        event["Records"][0] |= {
            "messageId": message_id,
            "attributes": {"SentTimestamp": str(attributes["first_queued_at_ms"] + days * 86_400_000)},
            "messageAttributes": {
                name: {"stringValue": value["StringValue"], "dataType": value["DataType"]}
                for name, value in message["MessageAttributes"].items()
            },
        }
        stage.lambdas.invoke("buffer_measurements", event)
    first, again = landed_lines(stage)
    assert first == again
    assert first["delivery"] == attributes["identity"] % 2**31
    assert first["queued_at_ms"] == attributes["first_queued_at_ms"]


@pytest.mark.parametrize("service", ["s3:", "dynamodb:"])
def test_what_cannot_be_set_aside_becomes_a_dead_letter(stage, aws_calls, service):
    event = sqs_event("no json")
    event["Records"][0]["messageAttributes"] = {"identity": {"stringValue": "5", "dataType": "Number"}}
    aws_calls.fail(service, service_error())
    stage.lambdas.invoke("buffer_measurements", event)
    aws_calls.heal()
    (letter,) = stage.aws("sqs").receive_message(
        QueueUrl=stage.resources["dead_letter_queue_url"], MessageAttributeNames=["All"]
    )["Messages"]
    assert (letter["Body"], letter["MessageAttributes"]["identity"]["StringValue"]) == ("no json", "5")
    assert letter["MessageAttributes"]["first_queued_at_ms"]["StringValue"] == "1772366400000"


def test_a_batch_without_sending_times_lands_too(stage):
    event = sqs_event(json.dumps([measurement_fields()]))
    del event["Records"][0]["attributes"]
    stage.lambdas.invoke("buffer_measurements", event)
    assert landed_lines(stage)[0]["queued_at_ms"] is None


def test_a_failing_bucket_fails_the_batch(stage, aws_calls):
    aws_calls.fail("s3:", service_error())
    with pytest.raises(ClientError):
        stage.lambdas.invoke("buffer_measurements", sqs_event(json.dumps([measurement_fields()])))


def test_the_schedule_starts_an_execution_named_after_its_time(stage):
    answer = stage.lambdas.invoke("start_analytics", SCHEDULED).payload
    (execution,) = executions(stage)
    assert execution["name"] == "2026-03-01T12-00-00Z"
    assert answer == {"execution_arn": execution["executionArn"]}
    described = stage.aws("stepfunctions").describe_execution(executionArn=execution["executionArn"])
    assert json.loads(described["input"]) == {"source": "SQS"}


def test_an_event_delivered_twice_starts_one_run(stage):
    arn = stage.lambdas.invoke("start_analytics", SCHEDULED).payload["execution_arn"]
    stage.aws("stepfunctions").stop_execution(executionArn=arn)
    assert stage.lambdas.invoke("start_analytics", SCHEDULED).payload == {"execution_arn": None}
    assert len(executions(stage)) == 1


def test_no_run_starts_while_another_is_going(stage):
    arn = stage.lambdas.invoke("start_analytics", SCHEDULED).payload["execution_arn"]
    later = {**SCHEDULED, "time": "2026-03-01T12:01:00Z"}
    assert stage.lambdas.invoke("start_analytics", later).payload == {"execution_arn": None}
    stage.aws("stepfunctions").stop_execution(executionArn=arn)
    assert stage.lambdas.invoke("start_analytics", later).payload["execution_arn"].endswith("2026-03-01T12-01-00Z")
    assert len(executions(stage)) == 2


def test_the_whole_way_from_a_posted_reading_to_a_report(stage):
    answer = stage.post(posted()).json_body
    (message,) = stage.queued()
    stage.lambdas.invoke("buffer_measurements", sqs_event(json.dumps([message])))
    claim = stage.lambdas.invoke("claimer", CLAIM).payload
    assert (claim["has_work"], claim["previous_run_id"]) == (True, NO_MANIFEST.run_id)
    run = {"run_id": claim["run_id"]}
    plan = stage.lambdas.invoke("receiver", {**run, "claim_key": claim["claim_key"]}).payload
    (task,) = json.loads(stage.object(plan["locations_key"]))
    request = {**run, "folder": claim["folder"], "started_at": CLAIM["started_at"], "scope": claim["scope"]}
    reported = stage.lambdas.invoke("reporter", {**request, "task": task}).payload
    assert reported["location_id"] == "a"
    report = json.loads(stage.object(reported["report_key"]))
    assert [minute["mean"] for minute in report["minutes"]] == [pytest.approx(answer["temperature"], abs=1e-12)]
    assert report["minutes"][0]["timestamp"] == answer["timestamp"][:17] + "00.000Z"
    summary = stage.lambdas.invoke("summarizer", {**run, "plan_key": plan["plan_key"]}).payload
    assert (summary["locations"], summary["counts"]["measurements"]) == (1, 1)
    manifest = json.loads(stage.object(summary["manifest_key"]))
    assert manifest["reports"] == {"a": reported["report_key"]}


def test_the_claimer_finds_nothing_to_do_when_nothing_has_landed(stage):
    assert stage.lambdas.invoke("claimer", CLAIM).payload["has_work"] is False


WRONG_PAYLOADS = [{}, [], None, "text"]
WRONG_REQUESTS = [
    *((function, payload) for function in REQUESTS for payload in WRONG_PAYLOADS),
    *((function, {**request, "run_id": "a/b"}) for function, request in REQUESTS.items()),
    ("claimer", {**CLAIM, "execution": "a/b"}),
    ("claimer", {**CLAIM, "input": {"source": "FTP"}}),
]


def test_a_wrong_payload_fails_under_a_name_that_the_workflow_can_tell(stage, subtests):
    for function, payload in WRONG_REQUESTS:
        with subtests.test(function, payload=payload):
            with pytest.raises(Exception) as raised:  # noqa: PT011 - the name is what counts
                stage.lambdas.invoke(function, payload)
            assert type(raised.value).__name__ == "ValidationError"


def test_a_missing_input_fails_under_a_name_that_the_workflow_can_tell(stage):
    static = {**CLAIM, "input": {"source": "S3", "key": "nowhere.csv"}}
    claim = stage.lambdas.invoke("claimer", static).payload
    with pytest.raises(Exception, match="no object nowhere") as raised:
        stage.lambdas.invoke("receiver", {"run_id": claim["run_id"], "claim_key": claim["claim_key"]})
    assert type(raised.value).__name__ == "ObjectNotFoundError"


def test_runs_play_on_real_clients_as_they_do_on_fakes(stage):
    """Commit, clean up and carry on, with the condition evaluated by something else than our fake."""
    player = player_on(stage)
    for number in range(3):
        stage.lambdas.invoke("buffer_measurements", sqs_event(json.dumps([measurement_fields(sensor_id=str(number))])))
        overtaken = player.start(f"slow-{number}", NOW).advance_to("Commit")
        assert player.run(f"run-{number}", NOW).passed[-1] == "Reported"
        assert overtaken.finish().passed[-1] == "Overtaken"
    assert msgspec.to_builtins(player.committed().totals)["measurements"] == 3
    assert player.reports()["a"].measurements == 3
    settle(player)
    assert stage.keys("landing/") == []


@pytest.fixture
def dynamodb(stage):
    assert stage.resources["registry_table"] == REGISTRY_TABLE
    assert stage.resources["ledger_table"] == LEDGER_TABLE
    return stage.aws("dynamodb")


class TestRegistryOnDynamoDb(RegistryContract):
    """The registry's contract, evaluated by moto."""

    def test_a_sensor_has_one_record(self, registry, dynamodb):
        is_broken(registry, "a/s")
        registry.latch_all(["a/s"])
        is_broken(new_registry(dynamodb), "a/s")
        assert dynamodb.scan(TableName=REGISTRY_TABLE)["Items"] == [
            {"sensor_id": {"S": "a/s"}, "broken": {"BOOL": True}}
        ]


class TestObjectStoreOnS3(ObjectStoreContract):
    """The bucket's contract, on moto."""

    @pytest.fixture
    def store(self, stage):
        return ObjectStore(stage.resources["bucket"], stage.aws("s3"))

    def test_more_keys_than_a_page_are_all_listed(self, stage, store, monkeypatch):
        for number in range(5):
            store.put(f"many/{number}", b"")
        client = store._s3
        paginator = client.get_paginator("list_objects_v2")
        pages = functools.partial(paginator.paginate, PaginationConfig={"PageSize": 2})
        monkeypatch.setattr(paginator, "paginate", pages)
        monkeypatch.setattr(client, "get_paginator", lambda operation: paginator)
        assert store.list_keys("many/") == [f"many/{number}" for number in range(5)]


@pytest.mark.parametrize("function", REQUESTS)
def test_a_failure_of_aws_has_the_one_name_that_the_workflow_retries(stage, aws_calls, function):
    aws_calls.fail("s3:", service_error("SlowDown"))
    with pytest.raises(ServiceUnavailableError):
        stage.lambdas.invoke(function, REQUESTS[function])
