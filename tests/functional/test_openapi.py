"""docs/openapi.yaml and the application have the same routes; tests/e2e/test_openapi.py asks them for answers."""

from pathlib import Path

import yaml
from openapi_spec_validator import validate

DOCUMENT = yaml.safe_load((Path(__file__).parents[2] / "docs" / "openapi.yaml").read_text())
METHODS = {"get", "put", "post", "delete", "patch", "head", "options"}


def test_the_document_is_valid():
    validate(DOCUMENT)


def test_the_document_has_the_routes_of_the_application_and_no_others():
    import app

    routes = {(path, method.lower()) for path, methods in app.app.routes.items() for method in methods}
    documented = {(path, method) for path, item in DOCUMENT["paths"].items() for method in METHODS & item.keys()}
    assert documented == routes


def test_open_routes_are_open_in_the_document():
    import app

    for path, methods in app.app.routes.items():
        for method, entry in methods.items():
            needs_token = DOCUMENT["paths"][path][method.lower()].get("security", DOCUMENT["security"]) != []
            assert needs_token == (entry.authorizer is not None), path
