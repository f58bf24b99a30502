"""Whatever is asked of `chalice local`, its answer is one that docs/openapi.yaml promises, and none is a 5xx."""

import os
from collections import Counter
from typing import Any

import pytest
import requests
import yaml
from hypothesis import HealthCheck, Phase, given, settings

from localcloud.cloud import Cloud
from ops.project import PROJECT

# Of each operation, with valid and with invalid input: some hundreds of requests. 1,200 make it more than 10,000.
EXAMPLES = int(os.environ.get("THERMONET_FUZZ_EXAMPLES", "25"))
DOCUMENT = yaml.safe_load((PROJECT / "docs" / "openapi.yaml").read_text())
OPERATIONS = [(path, method) for path, item in DOCUMENT["paths"].items() for method in item]
# Routes whose input can break a rule of the document.
CHECKED = {"/readings", "/sensors/{sensor_id}", "/locations/{location_id}/report"}
CASES = [
    *((path, method, "positive") for path, method in OPERATIONS),
    *((path, method, "negative") for path, method in OPERATIONS if path in CHECKED),
]


@pytest.mark.parametrize(("path", "method", "mode"), CASES)
def test_every_answer_is_one_of_the_document(
    cloud: Cloud, local_routes: str, path: str, method: str, mode: str
) -> None:
    # Here, so that only the worker that runs these tests spends a second on it.
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

    operation = schemathesis.openapi.from_dict(DOCUMENT)[path][method]
    statuses: Counter[int] = Counter()
    headers = {"Authorization": f"Bearer {cloud.token}"}

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)))
    def ask(case: Any) -> None:
        with requests.Session() as session:
            response = case.call(base_url=local_routes, headers=headers, session=session, timeout=30)
        statuses[response.status_code] += 1
        checks = [not_a_server_error, status_code_conformance, response_schema_conformance]
        case.validate_response(response, checks=checks)

    ask()
    print(path, method, mode, dict(statuses))
    assert max(statuses) < 500
