"""Clients of a local cloud, whatever the developer has set up for AWS; and what leads to one."""

import os

import pytest

from localcloud import serve
from ops import packaging
from ops.project import PROJECT
from ops.running_cloud import client_factory, leads_to_this_machine

EMULATOR = "http://127.0.0.1:4566"
SETTINGS = {
    "AWS_PROFILE": "nosuch",
    "AWS_DEFAULT_PROFILE": "nosuch",
    "AWS_CA_BUNDLE": "/nowhere/bundle.pem",
    "AWS_ENDPOINT_URL": "http://elsewhere.example",
    "AWS_ENDPOINT_URL_SQS": "http://elsewhere.example",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_USE_DUALSTACK_ENDPOINT": "true",
    "AWS_RETRY_MODE": "nonsense",
    "AWS_MAX_ATTEMPTS": "many",
    "AWS_DEFAULTS_MODE": "nonsense",
    "AWS_REGION": "mars-north-1",
    "AWS_DEFAULT_REGION": "mars-north-1",
    "AWS_SESSION_TOKEN": "of somebody",
}


@pytest.fixture
def configured(tmp_path, monkeypatch):
    """Set everything that a developer may have set for AWS, and all of it wrong."""
    (tmp_path / ".aws").mkdir()
    for name in ("config", "credentials"):
        (tmp_path / ".aws" / name).write_text("[no ini file")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / ".aws" / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / ".aws" / "credentials"))
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize("service", ["sqs", "s3", "dynamodb"])
def test_clients_of_a_local_cloud_read_nothing_of_the_developers_aws_settings(service):
    client = client_factory(EMULATOR)(service)
    assert client.meta.endpoint_url == EMULATOR
    assert client.meta.region_name == "us-east-1"
    assert client._endpoint.http_session._verify != SETTINGS["AWS_CA_BUNDLE"]
    credentials = client._request_signer._credentials
    assert (credentials.access_key, credentials.token) == ("test", None)


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:4566", "http://localhost", "https://localhost:1/x", "http://[::1]:5"]
)
def test_an_endpoint_on_this_machine_is_told_with_what_to_unset(address):
    complaint = leads_to_this_machine(
        {"AWS_ENDPOINT_URL_S3": address, "AWS_DEFAULT_REGION": "us-east-1", "AWS_REGION": "x"}
    )
    assert complaint is not None
    assert complaint.endswith("`unset AWS_DEFAULT_REGION AWS_ENDPOINT_URL_S3`")


@pytest.mark.parametrize("address", ["https://sqs.eu-central-1.amazonaws.com", "https://localhost.example.org", ""])
def test_an_endpoint_elsewhere_is_nobodys_business(address):
    assert leads_to_this_machine({"AWS_ENDPOINT_URL": address}) is None


def test_what_chalice_does_for_a_local_cloud_reads_nothing_of_the_developers_aws_settings(tmp_path, monkeypatch):
    environments = []
    monkeypatch.setenv("AWS_PROFILE", "nosuch")
    monkeypatch.setattr("os.chdir", lambda _: None)
    monkeypatch.setattr("os.execve", lambda _program, _arguments, environment: environments.append(environment))
    serve._become_chalice_local("dev", 8000, {"AWS_ENDPOINT_URL": EMULATOR})
    monkeypatch.setattr(packaging, "run", lambda *_, env, **__: environments.append(env) or "")
    packaging._run_chalice("dev", [PROJECT / ".chalice" / "config.json"], tmp_path, tmp_path / "package", None)
    assert len(environments) == 2
    for environment in environments:
        assert "AWS_PROFILE" not in environment
        assert environment["AWS_CONFIG_FILE"] == environment["AWS_SHARED_CREDENTIALS_FILE"] == os.devnull
