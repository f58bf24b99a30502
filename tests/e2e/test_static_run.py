"""A development run: a file in the bucket goes through the deployed workflow, and nothing committed is touched."""

import json
from typing import Any

from localcloud.cloud import Cloud

CSV = """sensor_id,location_id,temperature,timestamp
1,cellar,20.5,2026-01-31T09:00:01Z
1,cellar,20.5,2026-01-31T09:00:01Z
2,cellar,30.5,2026-01-31T09:01:00Z
3,roof,10,2026-01-31T09:01:00Z
4,roof,not a number,2026-01-31T09:01:00Z
"""


def test_a_csv_file_becomes_reports_and_nothing_committed_is_touched(cloud: Cloud) -> None:
    s3, bucket = cloud.client("s3"), cloud.resources.bucket
    s3.put_object(Bucket=bucket, Key="input/day.csv", Body=CSV.encode())
    before = committed(cloud)
    execution = cloud.client("stepfunctions").start_execution(
        stateMachineArn=cloud.resources.state_machine_arn, input='{"source": "S3", "key": "input/day.csv"}'
    )
    answer = cloud.wait_for_run(execution["executionArn"])
    assert (answer["locations"], answer["counts"]["measurements"], answer["counts"]["invalid"]) == (2, 3, 1)
    reports = {report["location_id"]: report["report_key"] for report in answer["reports"]}
    cellar = json.loads(s3.get_object(Bucket=bucket, Key=reports["cellar"])["Body"].read())
    assert [one["moving_average"] for one in cellar["minutes"]] == [20.5, 25.5]
    # Where nothing that is committed is, and what is there expires.
    assert all(key.startswith("static/") for key in reports.values())
    assert committed(cloud) == before


def committed(cloud: Cloud) -> Any:
    """The ledger, and the names of all that runs have left or still are to take."""
    ledger = cloud.client("dynamodb").scan(TableName=cloud.resources.ledger_table)["Items"]
    return ledger, [cloud.store.list_keys(prefix) for prefix in ("landing/", "runs/", "archive/", "quarantine/")]
