"""Puts one stage into an emulated account: its resources, then the packaged application."""

import json
import re
import secrets
import urllib.error
from typing import Any
from urllib.parse import urlsplit

import msgspec

from chalicelib.api.tokens import signing_keys_parameter
from chalicelib.aws import Resources
from chalicelib.errors import ThermonetError
from chalicelib.settings import Settings
from localcloud.polling import polls
from ops.packaging import Package
from ops.project import PROJECT
from ops.running_cloud import HOST, ClientFactory, open_directly

WORKFLOW_PATH = PROJECT / "stepfunctions" / "analytics.asl.json"

_QUEUE_RETENTION_SECONDS = 14 * 86_400
_RECEIVES_BEFORE_DEAD_LETTER = 5
_DEPLOYED_SECONDS = 300
_HEALTHY_SECONDS = 180
# On a busy machine all takes longer than on AWS, and late is better than never. A consumer's time stays below the
# visibility timeout of its queue, which would else give the same messages out again.
_TIMEOUT_FACTOR = 6
_TIMEOUT_SECONDS_MAX = 900


class StackError(ThermonetError):
    """The emulated account did not take what was deployed. Trying again does not help."""


def function_name(stage: str, function: str) -> str:
    """Name a deployed function as `chalice deploy` does; the API's handler is `app`."""
    return f"thermonet-{stage}" if function == "app" else f"thermonet-{stage}-{function}"


def create_resources(stage: str, settings: Settings, client: ClientFactory) -> Resources:
    """Create what Terraform creates on AWS; raises StackError when the workflow cannot be rendered."""
    prefix, account_id = f"thermonet-{stage}", _account_id(client)
    bucket = f"{prefix}-data-{account_id}"
    client("s3").create_bucket(Bucket=bucket)
    queue_url, dead_letter_queue_url = _create_queues(
        client("sqs"), f"{prefix}-measurements", settings.message_retention_seconds
    )
    topic_arn = client("sns").create_topic(Name=f"{prefix}-alerts")["TopicArn"]
    ledger = _create_table(client("dynamodb"), f"{prefix}-analytics-runs", "id", expiring="expires_at")
    # The functions will have these: the workflow is created before them.
    functions = f"arn:aws:lambda:{client('lambda').meta.region_name}:{account_id}:function"
    text = WORKFLOW_PATH.read_text(encoding="utf-8")
    values = {
        f"{function}_arn": f"{functions}:{function_name(stage, function)}"
        for function in re.findall(r"\$\{(\w+)_arn\}", text)
    } | {
        "topic_arn": topic_arn,
        "ledger_table": ledger,
        "bucket": bucket,
        "max_concurrency": settings.analytics.max_concurrency,
    }
    definition = render_workflow(text, values)
    resources = Resources(
        registry_table=_create_table(client("dynamodb"), f"{prefix}-sensor-registry", "sensor_id"),
        idempotency_table=_create_table(client("dynamodb"), f"{prefix}-idempotency", "id", expiring="expiration"),
        ledger_table=ledger,
        bucket=bucket,
        queue_url=queue_url,
        dead_letter_queue_url=dead_letter_queue_url,
        topic_arn=topic_arn,
        state_machine_arn=_create_state_machine(client, f"{prefix}-analytics", definition),
    )
    _put_parameters(stage, resources, client("ssm"))
    return resources


def render_workflow(text: str, values: dict[str, str | int]) -> str:
    """Fill a workflow's `"${name}"` placeholders, numbers without the quotes; raises StackError."""
    for name, value in values.items():
        if isinstance(value, int):
            text = text.replace(f'"${{{name}}}"', str(value))
        else:
            text = text.replace(f"${{{name}}}", json.dumps(value)[1:-1])
    if unfilled := re.search(r"\$\{\w+\}", text):
        raise StackError(f"the workflow's placeholder {unfilled[0]} has no value")
    json.loads(text)
    return text


def deploy(stage: str, package: Package, client: ClientFactory, *, schedule: bool) -> str:
    """Deploy the package through CloudFormation, with or without its schedule running.

    Returns the API's address below the endpoint's; raises StackError.
    """
    bucket = f"thermonet-{stage}-deployment-{_account_id(client)}"
    client("s3").create_bucket(Bucket=bucket)
    client("s3").upload_file(str(package.zip_path), bucket, package.folder.name)
    template = json.loads(package.template_path.read_bytes())
    code = {"Bucket": bucket, "Key": package.folder.name}
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            _complete_function(resource["Properties"], stage, code, schedule=schedule)
    outputs = _create_stack(client("cloudformation"), f"thermonet-{stage}", json.dumps(template))
    api_stage = urlsplit(outputs["EndpointURL"]).path.strip("/")
    _serve_below(stage, outputs["RestAPIId"], api_stage, client("apigateway"))
    return f"/{stage}"


def wait_until_healthy(api_url: str) -> None:
    """Wait until GET <api_url>/health answers 200; raises StackError with the last answer."""
    for _ in polls(_HEALTHY_SECONDS):
        try:
            with open_directly(f"{api_url}/health", timeout=_HEALTHY_SECONDS):
                return
        except urllib.error.HTTPError as error:
            answer = f"{error.code} {error.read().decode(errors='replace')}"
        except OSError as error:
            answer = str(error)
    raise StackError(f"GET {api_url}/health: {answer}")


def _serve_below(base_path: str, api_id: str, api_stage: str, gateway: Any) -> None:
    """Map a path of the emulator's own address to an API, whose address by its id nobody could read or remember."""
    if not gateway.get_domain_names()["items"]:
        gateway.create_domain_name(domainName=HOST)
    gateway.create_base_path_mapping(domainName=HOST, basePath=base_path, restApiId=api_id, stage=api_stage)


def _account_id(client: ClientFactory) -> str:
    return str(client("sts").get_caller_identity()["Account"])


def _create_table(dynamodb: Any, name: str, key: str, expiring: str | None = None) -> str:
    dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    if expiring:
        dynamodb.update_time_to_live(
            TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": expiring}
        )
    return name


def _put_parameters(stage: str, resources: Resources, ssm: Any) -> None:
    ssm.put_parameter(
        Name=f"/thermonet/{stage}/resources", Type="String", Value=msgspec.json.encode(resources).decode()
    )
    keys = {"local": secrets.token_urlsafe(64)}
    ssm.put_parameter(Name=signing_keys_parameter(stage), Type="SecureString", Value=json.dumps(keys), Overwrite=True)


def _create_queues(sqs: Any, name: str, visibility_timeout_seconds: int) -> tuple[str, str]:
    kept = {"MessageRetentionPeriod": str(_QUEUE_RETENTION_SECONDS)}
    dead_letter_url = sqs.create_queue(QueueName=f"{name}-dlq", Attributes=kept)["QueueUrl"]
    dead_letters = sqs.get_queue_attributes(QueueUrl=dead_letter_url, AttributeNames=["QueueArn"])["Attributes"]
    redrive = {"deadLetterTargetArn": dead_letters["QueueArn"], "maxReceiveCount": _RECEIVES_BEFORE_DEAD_LETTER}
    tried = {"VisibilityTimeout": str(visibility_timeout_seconds), "RedrivePolicy": json.dumps(redrive)}
    return sqs.create_queue(QueueName=name, Attributes=kept | tried)["QueueUrl"], dead_letter_url


def _create_state_machine(client: ClientFactory, name: str, definition: str) -> str:
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "states.amazonaws.com"}}
        ],
    }
    role = client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]
    created = client("stepfunctions").create_state_machine(name=name, definition=definition, roleArn=role["Arn"])
    return str(created["stateMachineArn"])


def _complete_function(properties: dict[str, Any], stage: str, code: dict[str, str], *, schedule: bool) -> None:
    """Complete a function of Chalice's template: `chalice deploy` names functions, its template does not."""
    properties["FunctionName"] = function_name(stage, properties["Handler"].removeprefix("app."))
    properties["CodeUri"] = code
    properties["Timeout"] = min(_TIMEOUT_FACTOR * properties["Timeout"], _TIMEOUT_SECONDS_MAX)
    for event in properties.get("Events", {}).values():
        if event["Type"] == "Schedule":
            event["Properties"]["Enabled"] = schedule
        if event["Type"] == "SQS":
            # The emulator gives each message to a consumer at once; more of them would only be in the API's way.
            event["Properties"]["ScalingConfig"] = {"MaximumConcurrency": 2}


def _create_stack(cloudformation: Any, name: str, template: str) -> dict[str, str]:
    """Create a stack, wait for it and return its outputs."""
    cloudformation.create_stack(
        StackName=name, TemplateBody=template, Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
    )
    for _ in polls(_DEPLOYED_SECONDS):
        (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
        if stack["StackStatus"] != "CREATE_IN_PROGRESS":
            break
    if stack["StackStatus"] != "CREATE_COMPLETE":
        events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
        reasons = [event["ResourceStatusReason"] for event in events if event.get("ResourceStatusReason")]
        raise StackError(f"stack {name}: {stack['StackStatus']}: {'; '.join(reasons)}")
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
