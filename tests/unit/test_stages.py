"""Where commands find a stage: in the local cloud, in what Chalice has noted, or on AWS."""

import json
from types import SimpleNamespace

import pytest

from chalicelib.errors import ValidationError
from ops.stages import find_api_url, find_resources


def test_the_address_is_the_local_clouds_or_what_chalice_has_noted_or_asked_for(monkeypatch, tmp_path):
    cloud = SimpleNamespace(stage="dev", api_url="http://local")
    monkeypatch.setattr("ops.stages.find_cloud", lambda: cloud)
    monkeypatch.setattr("ops.stages._DEPLOYED", tmp_path)
    noted = {
        "resources": [
            {"resource_type": "lambda_function"},
            {"resource_type": "rest_api", "rest_api_url": "https://aws"},
        ]
    }
    assert find_api_url("dev", use_aws=False) == "http://local"
    for use_aws, stage in ((True, "dev"), (False, "prod")):
        with pytest.raises(ValidationError, match="or give --url"):
            find_api_url(stage, use_aws=use_aws)
        (tmp_path / f"{stage}.json").write_text(json.dumps(noted))
        assert find_api_url(stage, use_aws=use_aws) == "https://aws"


def test_the_resources_are_the_local_clouds_where_it_has_the_stage(monkeypatch):
    resources = object()
    cloud = SimpleNamespace(stage="dev", endpoint_url="http://127.0.0.1:9", resources=resources)
    monkeypatch.setattr("ops.stages.find_cloud", lambda: cloud)
    found, make_client = find_resources("dev", {}, use_aws=False)
    assert (found, make_client("dynamodb").meta.endpoint_url) == (resources, "http://127.0.0.1:9")


def test_what_is_left_of_a_local_cloud_in_a_shell_is_no_way_to_resources_on_aws():
    with pytest.raises(ValidationError, match="`unset AWS_ENDPOINT_URL`"):
        find_resources("dev", {"AWS_ENDPOINT_URL": "http://localhost:4566"}, use_aws=True)
