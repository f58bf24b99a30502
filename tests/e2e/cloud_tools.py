"""What several end-to-end tests do with a cloud: post readings, wait, and take rights away."""

import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from localcloud.cloud import Cloud
from localcloud.polling import polls
from localcloud.serve import announced
from localcloud.stack import function_name
from ops.project import PROJECT
from ops.running_cloud import accepts_connections

# Runs are named after the second that they are started for, and tests start more than one in a second.
_seconds_ahead = count(1)


def post_reading(cloud: Cloud, **reading: Any) -> tuple[int, Any]:
    """Post a reading and return the status and the decoded answer."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {cloud.token}"}
    request = urllib.request.Request(f"{cloud.api_url}/readings", json.dumps(reading).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def get(url: str) -> Any:
    """Return what a URL answers, decoded; raises HTTPError."""
    with urllib.request.urlopen(url, timeout=30) as response:
        return json.load(response)


def read(cloud: Cloud, path: str) -> Any:
    """Return what a route answers to the cloud's own token, decoded; raises HTTPError."""
    request = urllib.request.Request(f"{cloud.api_url}{path}", headers={"Authorization": f"Bearer {cloud.token}"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def run_analytics(cloud: Cloud) -> Any:
    """Start a run, wait for it and return its output; raises LocalCloudError when it fails."""
    return cloud.wait_for_run(cloud.start_analytics(datetime.now(UTC) + timedelta(seconds=next(_seconds_ahead))))


def call(cloud: Cloud, function: str, **event: Any) -> Any:
    """Call a function by its name and return its answer; fails when the function does."""
    answer = cloud.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event))
    payload = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, payload
    return payload


def wait_for(condition: Callable[[], Any], timeout_seconds: float = 60) -> None:
    """Wait until the condition holds; fails when it does not in time."""
    for _ in polls(timeout_seconds):
        if condition():
            return
    raise AssertionError("it did not happen in time")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def chalice_local(cloud: Cloud, folder: Path) -> Iterator[str]:
    """Serve the routes as `make local` does, on the cloud, which is announced in the folder; give their address."""
    port = free_port()
    serving = "import pathlib, sys; from localcloud.serve import serve_local; serve_local('dev', int(sys.argv[1]), "
    serving += "pathlib.Path(sys.argv[2]))"
    with announced(cloud, folder / "cloud.json"):
        process = subprocess.Popen(
            [sys.executable, "-c", serving, str(port), str(folder)],
            cwd=PROJECT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for(lambda: accepts_connections(port))
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def log_lines(cloud: Cloud, function: str) -> list[str]:
    """Return what a function has logged, oldest first; its name is that in app.py, the API's is `app`."""
    group = f"/aws/lambda/{function_name(cloud.stage, function)}"
    pages = cloud.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group)
    return [event["message"] for page in pages for event in page["events"]]


def deployed_policy(cloud: Cloud, function: str) -> tuple[str, str, dict[str, Any]]:
    """Return the name of a function's role, of its policy, and the policy itself."""
    iam = cloud.client("iam")
    configuration = cloud.client("lambda").get_function_configuration(FunctionName=function_name(cloud.stage, function))
    role = configuration["Role"].rpartition("/")[2]
    (policy,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
    return role, policy, iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]


@contextmanager
def without_action(cloud: Cloud, function: str, action: str) -> Iterator[None]:
    """Take an action away from a function for a while."""
    role, name, policy = deployed_policy(cloud, function)
    less = json.loads(json.dumps(policy))
    for statement in less["Statement"]:
        statement["Action"] = [one for one in statement["Action"] if one != action]
    less["Statement"] = [statement for statement in less["Statement"] if statement["Action"]]
    assert less != policy
    iam = cloud.client("iam")
    iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(less))
    try:
        yield
    finally:
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(policy))


@contextmanager
def retried_at_once(cloud: Cloud, **redrive: int) -> Iterator[None]:
    """Let a message come back to the consumer after a second, not after a minute, under a redrive policy so changed."""
    sqs, queue_url = cloud.client("sqs"), cloud.resources.queue_url
    names = ["VisibilityTimeout", "RedrivePolicy"]
    before = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)["Attributes"]
    policy = json.dumps(json.loads(before["RedrivePolicy"]) | redrive)
    sqs.set_queue_attributes(QueueUrl=queue_url, Attributes={"VisibilityTimeout": "1", "RedrivePolicy": policy})
    try:
        yield
    finally:
        sqs.set_queue_attributes(QueueUrl=queue_url, Attributes=before)
