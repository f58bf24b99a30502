"""docs/openapi.yaml and the application have the same routes; tests/e2e/test_openapi.py asks them for answers."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from msgspec import structs
from openapi_spec_validator import validate

from chalicelib import errors, reports
from chalicelib.api import http
from chalicelib.ingest import readings
from chalicelib.landing import encode_landing
from chalicelib.ledger import Counts
from chalicelib.thermistor import Status
from tests.factories import landed, posted
from tests.runs import player_on

DOCUMENT = yaml.load((Path(__file__).parents[2] / "docs" / "openapi.yaml").read_text(), yaml.CSafeLoader)
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


def test_every_error_of_a_request_has_a_status_that_the_document_knows():
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type)}
    # The base of all, and one that only the workflow meets.
    assert http._REFUSALS.keys() == kinds - {errors.ThermonetError, errors.ObjectNotFoundError}
    documented = {
        status
        for item in DOCUMENT["paths"].values()
        for method in METHODS & item.keys()
        for status in item[method]["responses"]
    }
    assert {str(refusal.status) for refusal in http._REFUSALS.values()} <= documented


def test_every_route_may_be_limited_by_the_gateway():
    for path, item in DOCUMENT["paths"].items():
        for method in METHODS & item.keys():
            assert "429" in item[method]["responses"], path


def test_the_document_has_every_status_and_no_other():
    assert set(DOCUMENT["components"]["schemas"]["Status"]["enum"]) == set(Status)


TAKEN = {"Reading": readings.PostedReading, "Batch": readings.PostedBatch}


@pytest.mark.parametrize("name", TAKEN)
def test_the_document_has_every_field_that_is_taken_and_those_that_must_be_given(name):
    schema, fields = DOCUMENT["components"]["schemas"][name], structs.fields(TAKEN[name])
    assert set(schema["properties"]) == {field.name for field in fields}
    assert set(schema["required"]) == {field.name for field in fields if field.required}


SENT = {
    "Answer": readings.Answer,
    "Rejection": readings.Rejection,
    "BatchAnswer": readings.BatchAnswer,
    "Minute": reports.Minute,
    "Report": reports.Report,
    "Locations": reports.LocationsSummary,
    "Run": reports.RunSummary,
}


@pytest.mark.parametrize("name", SENT)
def test_the_document_has_every_field_that_is_sent_and_allows_none_to_be_missing(name):
    schema = DOCUMENT["components"]["schemas"][name]
    assert set(schema["properties"]) == set(SENT[name].__struct_fields__) == set(schema["required"])


def test_the_document_has_every_field_of_what_is_counted_and_where():
    schemas = DOCUMENT["components"]["schemas"]
    assert set(schemas["Counts"]["required"]) == set(Counts.__struct_fields__)
    location = schemas["Locations"]["properties"]["locations"]["items"]
    assert set(location["properties"]) == set(reports.LocationLatest.__struct_fields__) == set(location["required"])
    assert set(schemas["Sensor"]["required"]) == set(schemas["Sensor"]["properties"])


SERVED = {"/locations": "Locations", "/locations/a/report": "Report", "/runs/latest": "Run", "/sensors/1": "Sensor"}


def test_what_runs_have_written_is_served_as_the_document_has_it(stage, subtests):
    stage.post(posted())
    stage.put_object("landing/1.jsonl.gz", encode_landing([landed()]))
    player_on(stage).run("run-1", datetime.now(UTC))
    for path, schema in SERVED.items():
        with subtests.test(path):
            answer = stage.http.get(path, headers=stage.headers).json_body
            described = {"$ref": f"#/components/schemas/{schema}", "components": DOCUMENT["components"]}
            assert list(Draft202012Validator(described).iter_errors(answer)) == []
