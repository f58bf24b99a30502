"""The way of what cannot be processed: into quarantine at once, or as a dead letter to whoever looks into it."""

import json

import pytest

from localcloud.cloud import Cloud
from ops.packaging import build_triage
from tests.e2e.cloud_tools import call, post_reading, retried_at_once, wait_for, without_action
from tests.infra.terraform_files import INFRA, load

TRIAGE = "thermonet-dev-dead_letter_triage"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "lambda.amazonaws.com"}}],
}


@pytest.fixture(scope="module")
def triage(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The triage function, deployed with the code, rights and environment that Terraform gives it."""
    (module,) = [block["dead_letter_triage"] for block in load(INFRA / "dead_letters.tf")["module"]]
    resources = resources_of(cloud)
    statements = [
        {
            "Effect": "Allow",
            "Action": statement["actions"],
            "Resource": [filled(resource, resources) for resource in statement["resources"]],
        }
        for statement in module["policy_statements"]
    ]
    iam = cloud.client("iam")
    role = iam.create_role(RoleName=TRIAGE, AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    iam.put_role_policy(RoleName=TRIAGE, PolicyName="function", PolicyDocument=policy)
    cloud.client("lambda").create_function(
        FunctionName=TRIAGE,
        Role=role["Arn"],
        Runtime="python3.13",
        Handler=module["handler"],
        Timeout=module["timeout_seconds"],
        Environment={"Variables": {key: filled(value, resources) for key, value in module["environment"].items()}},
        Code={"ZipFile": build_triage(tmp_path_factory.mktemp("triage") / "function.zip").read_bytes()},
    )
    return TRIAGE


def resources_of(cloud: Cloud) -> dict[str, str]:
    def arn(url: str) -> str:
        attributes = cloud.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        found: str = attributes["Attributes"]["QueueArn"]
        return found

    resources = cloud.resources
    table = cloud.client("dynamodb").describe_table(TableName=resources.ledger_table)["Table"]
    return {
        "aws_sqs_queue.dead_letters.arn": arn(resources.dead_letter_queue_url),
        "aws_sqs_queue.measurements.arn": arn(resources.queue_url),
        "aws_sqs_queue.dead_letters.url": resources.dead_letter_queue_url,
        "aws_sqs_queue.measurements.url": resources.queue_url,
        "aws_s3_bucket.data.arn": f"arn:aws:s3:::{resources.bucket}",
        "aws_s3_bucket.data.id": resources.bucket,
        "aws_dynamodb_table.analytics_runs.arn": table["TableArn"],
        "aws_dynamodb_table.analytics_runs.name": resources.ledger_table,
    }


def filled(text: str, resources: dict[str, str]) -> str:
    for name, value in resources.items():
        text = text.replace(f"${{{name}}}", value)
    assert "${" not in text
    return text


def bury(cloud: Cloud, *sensor_ids: str) -> None:
    """Take readings whose measurements the consumer fails to land, until they are dead letters."""
    dead_letters = cloud.resources.dead_letter_queue_url
    cloud.wait_until_drained()
    cloud.client("sqs").purge_queue(QueueUrl=dead_letters)
    # Each receive that fails costs a process of the function.
    with retried_at_once(cloud, maxReceiveCount=2), without_action(cloud, "buffer_measurements", "s3:PutObject"):
        for sensor_id in sensor_ids:
            assert post_reading(cloud, sensor_id=sensor_id, location_id="dead", value=2_000)[0] == 200
        wait_for(lambda: cloud.count_messages(dead_letters) == len(sensor_ids))
    assert cloud.count_messages(cloud.resources.queue_url) == 0


def test_a_poison_message_goes_to_quarantine_and_its_neighbours_go_on(cloud: Cloud) -> None:
    quarantined, landed = cloud.count_objects("quarantine/"), cloud.count_objects("landing/")
    cloud.client("sqs").send_message(QueueUrl=cloud.resources.queue_url, MessageBody="poison")
    assert post_reading(cloud, sensor_id="neighbour", location_id="dead", value=2_000)[0] == 200
    cloud.wait_until_drained()
    wait_for(lambda: cloud.count_objects("quarantine/") == quarantined + 1)
    wait_for(lambda: cloud.count_objects("landing/") > landed)
    assert cloud.count_messages(cloud.resources.dead_letter_queue_url) == 0


def test_dead_letters_are_reported_and_go_back_to_be_landed(cloud: Cloud, triage: str) -> None:
    bury(cloud, "back-1", "back-2")
    report = call(cloud, triage, action="report")
    assert (report["examined"], report["moved"], report["remaining"]) == (2, 0, 2)
    assert report["reasons"] == {"looks like measurements: the consumer failed": 2}
    landed = cloud.count_objects("landing/")
    assert call(cloud, triage, action="redrive")["moved"] == 2
    cloud.wait_until_drained()
    wait_for(lambda: cloud.count_objects("landing/") > landed)
    assert cloud.count_messages(cloud.resources.dead_letter_queue_url) == 0


def test_dead_letters_can_be_set_aside(cloud: Cloud, triage: str) -> None:
    bury(cloud, "aside")
    quarantined, counted = cloud.count_objects("quarantine/"), count_quarantine(cloud)
    report = call(cloud, triage, action="quarantine", limit=10)
    assert (report["moved"], report["failed"], report["remaining"]) == (1, 0, 0)
    assert (cloud.count_objects("quarantine/"), count_quarantine(cloud)) == (quarantined + 1, counted + 1)


def count_quarantine(cloud: Cloud) -> int:
    key = {"id": {"S": "quarantined"}}
    item = cloud.client("dynamodb").get_item(TableName=cloud.resources.ledger_table, Key=key).get("Item")
    return int(item["object_count"]["N"]) if item else 0
