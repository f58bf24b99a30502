"""Finds a stage: the running local cloud if it has it, else on AWS."""

import json
from collections.abc import Mapping
from typing import Any

import boto3

from chalicelib import aws
from chalicelib.errors import ValidationError
from chalicelib.validation import decode_json
from ops.project import PROJECT
from ops.running_cloud import ClientFactory, CloudFile, client_factory, find_cloud, leads_to_this_machine

_DEPLOYED = PROJECT / ".chalice" / "deployed"


def find_api_url(stage: str, *, use_aws: bool) -> str:
    """Return the address of a stage's API; raises ValidationError when it is known neither here nor from Chalice."""
    if cloud := local_cloud_of(stage, use_aws=use_aws):
        return cloud.api_url
    try:
        noted = json.loads((_DEPLOYED / f"{stage}.json").read_text())
        return str(next(one["rest_api_url"] for one in noted["resources"] if one["resource_type"] == "rest_api"))
    except (FileNotFoundError, StopIteration):
        nothing = f"no local cloud of stage {stage} runs here, and Chalice has noted no deployment of it"
        raise ValidationError(f"url: {nothing}: start one with `make cloud`, or give --url") from None


def find_resources(stage: str, environment: Mapping[str, str], *, use_aws: bool) -> tuple[aws.Resources, ClientFactory]:
    """Return the names of a stage's resources, and what makes the clients that reach them.

    Raises ValidationError when the stage is in neither place, or the shell leads to neither.
    """
    if cloud := local_cloud_of(stage, use_aws=use_aws):
        return cloud.resources, client_factory(cloud.endpoint_url)
    if complaint := leads_to_this_machine(environment):
        raise ValidationError(complaint)
    session: Any = aws_session(environment)
    ssm, name = session.client("ssm"), f"/thermonet/{stage}/resources"
    try:
        parameter = ssm.get_parameter(Name=name)["Parameter"]["Value"]
    except ssm.exceptions.ParameterNotFound:
        raise ValidationError(f"parameter {name} does not exist: is the stage deployed?") from None
    return decode_json(parameter, aws.Resources, f"parameter {name}"), session.client


def aws_session(environment: Mapping[str, str]) -> boto3.Session:
    """Return a session in the environment's region, by either of its names."""
    return boto3.Session(region_name=environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION"))


def local_cloud_of(stage: str, *, use_aws: bool) -> CloudFile | None:
    """Return the running local cloud if it has the stage and AWS is not asked for."""
    cloud = None if use_aws else find_cloud()
    return cloud if cloud is not None and cloud.stage == stage else None
