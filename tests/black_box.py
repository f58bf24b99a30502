"""Requests that schemathesis makes from docs/openapi.yaml, with mistakes and without; the answers must be its, too."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from ops.project import PROJECT

DOCUMENT = yaml.load((PROJECT / "docs" / "openapi.yaml").read_text(), yaml.CSafeLoader)
_METHODS = {"get", "put", "post", "delete"}
_OPERATIONS = [(path, method) for path, item in DOCUMENT["paths"].items() for method in sorted(_METHODS & item.keys())]
# Routes whose input can break a rule of the document.
_CHECKED = {path for path, item in DOCUMENT["paths"].items() if "location_id" in path or "requestBody" in str(item)}

EVERY_OPERATION = pytest.mark.parametrize(
    ("path", "method", "mode"),
    [
        *((path, method, "positive") for path, method in _OPERATIONS),
        *((path, method, "negative") for path, method in _OPERATIONS if path in _CHECKED),
    ],
)


def ask(path: str, method: str, mode: str, examples: int, send: Callable[[Any, Any], list[Any]]) -> Counter[int]:
    """Make so many cases of an operation, the same ones every time, and count the answers' statuses.

    `send` is given a case and Hypothesis' `draw`, and returns the answers. Fails for one that the document does not
    promise, and for a 5xx.
    """
    # Here, so that only the workers that run these tests spend a second on it.
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    operation = schemathesis.openapi.from_dict(DOCUMENT)[path][method]
    expected = [
        not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_headers_conformance,
        checks.response_schema_conformance,
    ]
    statuses: Counter[int] = Counter()

    @seed(0)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)), st.data())
    def ask_once(case: Any, data: Any) -> None:
        for response in send(case, data.draw):
            statuses[response.status_code] += 1
            case.validate_response(response, checks=expected)

    ask_once()
    print(path, method, mode, dict(statuses))
    return statuses
