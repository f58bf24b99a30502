"""docs/walkthrough.md shows what one reading really leaves at every stop of its way.

THERMONET_WRITE_WALKTHROUGH=1 .venv/bin/pytest tests/functional/test_walkthrough.py writes the blocks anew.
"""

import base64
import gzip
import json
import os
import random
import re
import tempfile
import time
import zlib
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import duckdb
import msgspec
import pytest

from chalicelib.landing import LANDING_PREFIX, read_landing_key
from chalicelib.ledger import Manifest, run_folder, state_key
from chalicelib.object_store import ObjectStore
from chalicelib.reports import outcomes_prefix
from chalicelib.settings import load_settings
from ops.project import PROJECT
from tests.functional.conftest import STAGE, Stage
from tests.functional.test_functions import SCHEDULED
from tests.workflow_player import SQS_INPUT, WorkflowPlayer

DOCUMENT = PROJECT / "docs" / "walkthrough.md"
# A block says what it shows behind its language, where no reader of the page sees it.
BLOCK = re.compile(r"^```(?P<language>\w+) (?P<name>[\w-]+)\n.*?^```$", re.DOTALL | re.MULTILINE)

POSTED_AT = datetime(2026, 3, 1, 12, 0, 8, tzinfo=UTC)
RUN_AT = datetime(2026, 3, 1, 12, 1, tzinfo=UTC)
NEXT_RUN_AT = datetime(2026, 3, 1, 12, 2, tzinfo=UTC)
READING = '{"sensor_id":1,"location_id":"a","value":2000,"timestamp":"2026-03-01T12:00:07Z"}'
MESSAGE_ID = "5fea7756-0ea4-451a-a703-a558b933e274"
HANDLER_TIMEOUT = timedelta(seconds=20)
# A landing object is named after its bytes, and how it is compressed is up to the machine's zlib.
FINGERPRINT = "52a07cc6-8d0b-8f4e-b6a3-1f9e30d2c775"


class AppPlayer(WorkflowPlayer):
    """The workflow on a stage, with the real functions of app.py as its tasks."""

    def __init__(self, stage: Stage) -> None:
        store = ObjectStore(stage.resources["bucket"], stage.aws("s3"))
        super().__init__(load_settings(STAGE), store, stage.aws("dynamodb"))
        self._functions = stage.lambdas

    def _invoke(self, parameters: dict[str, Any]) -> Any:
        function = re.fullmatch(r"\$\{(\w+)_arn\}", parameters["FunctionName"])[1]
        return self._functions.invoke(function, parameters["Payload"]).payload


@pytest.fixture
def fixed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """The stage with a clock that stands still and the same chance in every run."""
    chance = random.Random(1)
    clock = SimpleNamespace(time=POSTED_AT.timestamp, monotonic=time.monotonic)
    monkeypatch.setattr("chalicelib.services.time", clock)
    monkeypatch.setattr("chalicelib.services.secrets", SimpleNamespace(randbits=chance.getrandbits))
    monkeypatch.setattr("chalicelib.services._utc_now", lambda: POSTED_AT)
    monkeypatch.setattr("chalicelib.services.uuid4", lambda: UUID(int=chance.getrandbits(128), version=4))
    return stage


def test_the_walkthrough_shows_what_a_reading_really_leaves_at_every_stop(fixed):
    player = AppPlayer(fixed)
    shown = take(fixed) | land(fixed) | start(fixed) | run(fixed, player) | archive(fixed, player) | read(fixed, player)
    unique = read_landing_key(shown["landing-key"]).unique
    shown = {name: text.replace(unique, FINGERPRINT) for name, text in shown.items()}
    written = DOCUMENT.read_text()
    rendered = BLOCK.sub(lambda block: f"```{block['language']} {block['name']}\n{shown[block['name']]}\n```", written)
    if os.environ.get("THERMONET_WRITE_WALKTHROUGH"):
        DOCUMENT.write_text(rendered)
        written = rendered
    assert [block["name"] for block in BLOCK.finditer(written)] == list(shown)
    assert written == rendered


def take(stage: Stage) -> dict[str, str]:
    """Post the reading; return the request, its answer, and what ingest keeps of it."""
    answer = stage.post(READING)
    (remembered,) = rows(stage, "idempotency_table")
    # Powertools takes both from the wall clock.
    lifetime = timedelta(seconds=load_settings(STAGE).idempotency.expires_after_seconds)
    remembered["expiration"] = int((POSTED_AT + lifetime).timestamp())
    remembered["in_progress_expiration"] = int((POSTED_AT + HANDLER_TIMEOUT).timestamp()) * 1_000
    packed = json.loads(remembered["data"])["answers"]
    (sensor,) = rows(stage, "registry_table")
    counters = sorted(rows(stage, "ledger_table"), key=lambda row: row["id"])
    return {
        "request": f"""curl -sw '\\n' -H "$AUTH" -d '{READING}' $API/readings""",
        "answer": pretty(answer.json_body),
        # How it is compressed is up to the machine's zlib.
        "idempotency-record": pretty(remembered | {"data": '{"answers": "…"}'}),
        "idempotency-answers": zlib.decompress(base64.b64decode(packed)).decode(),
        "registry-row": pretty(sensor),
        "counters": "\n".join(json.dumps(counter) for counter in counters),
    }


def land(stage: Stage) -> dict[str, str]:
    """Hand the queued message to the consumer, as the event source mapping does; return message and landing object."""
    received = stage.aws("sqs").receive_message(QueueUrl=stage.resources["queue_url"], MessageAttributeNames=["All"])
    (message,) = received["Messages"]
    # SQS chooses id and time.
    record = {"messageId": MESSAGE_ID, "receiptHandle": "r", "body": message["Body"]}
    record["attributes"] = {"SentTimestamp": f"{POSTED_AT.timestamp() * 1_000:.0f}"}
    attributes = {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
    record["messageAttributes"] = {name: {"stringValue": text} for name, text in attributes.items()}
    stage.lambdas.invoke("buffer_measurements", {"Records": [record]})
    (key,) = stage.keys(LANDING_PREFIX)
    return {
        "message": message["Body"],
        "message-attributes": json.dumps(attributes),
        "landing-key": key,
        "landing-line": gzip.decompress(stage.object(key)).decode().strip(),
    }


def start(stage: Stage) -> dict[str, str]:
    """Let the schedule start a run; return the execution."""
    stage.lambdas.invoke("start_analytics", SCHEDULED | {"time": f"{RUN_AT:%Y-%m-%dT%H:%M:%SZ}"})
    sfn = stage.aws("stepfunctions")
    (execution,) = sfn.list_executions(stateMachineArn=stage.resources["state_machine_arn"])["executions"]
    assert json.loads(sfn.describe_execution(executionArn=execution["executionArn"])["input"]) == SQS_INPUT
    return {"execution": pretty({"name": execution["name"], "input": SQS_INPUT})}


def run(stage: Stage, player: AppPlayer) -> dict[str, str]:
    """Play the workflow; return what it leaves in bucket and ledger."""
    assert player.run(f"{RUN_AT:%Y-%m-%dT%H-%M-%SZ}", RUN_AT).passed[-1] == "Reported"
    manifest = player.committed()
    folder, report_key = run_folder(manifest.run_id), manifest.reports["a"]
    ((task,),) = (json.loads(stage.object(key)) for key in stage.keys("scratch/") if key.endswith("/locations.json"))
    (plan_key,) = stage.keys(f"{folder}/plans/")
    (head,) = [row for row in rows(stage, "ledger_table") if row["id"] == "head"]
    return {
        "claim-key": f"{folder}/claim.json",
        "claim": pretty(json.loads(stage.object(f"{folder}/claim.json"))),
        "task": pretty(task),
        "spool-key": part_of(manifest),
        "spool-row": pretty(parquet_row(stage, part_of(manifest))),
        # The claim in it is shown already.
        "plan": pretty(json.loads(stage.object(plan_key)) | {"claim": "…"}),
        "report-key": report_key,
        "report": pretty(json.loads(stage.object(report_key))),
        "state": pretty(parquet_row(stage, state_key(report_key))),
        "outcome": "\n".join(stage.keys(outcomes_prefix(manifest.run_id))),
        "locations-summary": pretty(json.loads(stage.object(manifest.locations_summary_key))),
        "manifest": pretty(msgspec.to_builtins(manifest)),
        "head": pretty(head),
        "run-summary": pretty(stage.get("/runs/latest").json_body),
    }


def part_of(manifest: Manifest) -> str:
    """Return the key of the one part that a manifest names."""
    (part,) = [*manifest.spool, *(part for entry in manifest.entries for part in entry.parts)]
    return part.key


def archive(stage: Stage, player: AppPlayer) -> dict[str, str]:
    """Play the next run, which has nothing to report; return what the archive has then."""
    part = part_of(player.committed())
    player.run(f"{NEXT_RUN_AT:%Y-%m-%dT%H-%M-%SZ}", NEXT_RUN_AT)
    (key,) = stage.keys("archive/")
    assert parquet_row(stage, key) == parquet_row(stage, part)
    return {"archive-key": key}


def parquet_row(stage: Stage, key: str) -> Any:
    """Return the one row of a Parquet file."""
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        file.write(stage.object(key))
        file.flush()
        ((row,),) = duckdb.sql(f"SELECT to_json(one) FROM read_parquet('{file.name}') AS one").fetchall()
    return json.loads(row)


def read(stage: Stage, player: AppPlayer) -> dict[str, str]:
    """Ask for the report twice, as the dashboard does; return request and answer."""
    path = "/locations/a/report"
    first = stage.http.get(path, headers=stage.headers)
    tag = first.headers["ETag"]
    second = stage.http.get(path, headers=stage.headers | {"If-None-Match": tag})
    assert (first.status_code, first.body) == (200, stage.object(player.committed().reports["a"]))
    assert (second.status_code, second.body) == (304, b"")
    return {
        "read": f"""curl -sw '\\n' -D - -H "$AUTH" $API{path}""",
        "read-answer": f"HTTP/1.1 200 OK\n{headers(first)}",
        "read-again": f"""curl -s -D - -H "$AUTH" -H 'If-None-Match: {tag}' $API{path}""",
        "read-again-answer": f"HTTP/1.1 304 Not Modified\n{headers(second)}",
    }


def headers(answer: Any) -> str:
    """Return the headers that the application sets, as they are sent."""
    return "\n".join(f"{name}: {value}" for name, value in answer.headers.items() if name != "Content-Length")


def rows(stage: Stage, table: str) -> list[dict[str, Any]]:
    """Return all items of a table, with plain values."""
    items = stage.aws("dynamodb").scan(TableName=stage.resources[table])["Items"]
    return [{name: plain(typed) for name, typed in item.items()} for item in items]


def plain(typed: dict[str, Any]) -> Any:
    """Return the value that DynamoDB gives with its type."""
    ((kind, value),) = typed.items()
    return int(value) if kind == "N" else value


def pretty(value: Any) -> str:
    """Write JSON as people read it."""
    return json.dumps(value, indent=2, ensure_ascii=False)
