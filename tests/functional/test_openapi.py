"""docs/openapi.yaml and the application have the same routes, and its examples are what they answer."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from msgspec import structs
from openapi_spec_validator import validate

from chalicelib import calibration, errors, reports
from chalicelib.api import http
from chalicelib.api.dashboard import AssetQuery
from chalicelib.api.report_reader import ReportQuery, RunOutline
from chalicelib.ingest import provisioning, readings
from chalicelib.ledger import Counts
from chalicelib.thermistor import Coefficients, Status, StatusLimits
from ops.tokens import mint_token
from tests.factories import posted
from tests.functional.conftest import SIGNING_KEYS
from tests.runs import commit_run

DOCUMENT = yaml.load((Path(__file__).parents[2] / "docs" / "openapi.yaml").read_text(), yaml.CSafeLoader)
METHODS = {"get", "put", "post", "delete", "patch", "head", "options"}


OPERATIONS = {
    f"{method.upper()} {path}": {"parameters": item.get("parameters", []), **item[method]}
    for path, item in DOCUMENT["paths"].items()
    for method in METHODS & item.keys()
}


def resolve(item):
    """The item itself, where the document only refers to it."""
    for name in item.get("$ref", "#").split("/")[1:]:
        item = DOCUMENT[name] if item.keys() == {"$ref"} else item[name]
    return item


def errors_of(value, schema):
    return [
        error.message
        for error in Draft202012Validator({**schema, "components": DOCUMENT["components"]}).iter_errors(value)
    ]


def examples_of(media):
    """The examples of a parameter, or of a request's or an answer's content, by name."""
    named = {name: example["value"] for name, example in media.get("examples", {}).items()}
    return {**named, **({"": media["example"]} if "example" in media else {})}


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


TAKEN = {
    "Reading": readings.PostedReading,
    "Batch": readings.PostedBatch,
    "SensorChange": provisioning._GivenSensor,
    "ListedSensor": provisioning._ListedSensor,
    "Sensors": provisioning._ListedSensors,
    "CalibrationByCoefficients": calibration._GivenCoefficients,
    "CalibrationByPoints": calibration._GivenPoints,
}


@pytest.mark.parametrize("name", TAKEN)
def test_the_document_has_every_field_that_is_taken_and_those_that_must_be_given(name):
    schema, fields = DOCUMENT["components"]["schemas"][name], structs.fields(TAKEN[name])
    assert set(schema["properties"]) == {field.name for field in fields}
    assert set(schema.get("required", [])) == {field.name for field in fields if field.required}


QUERIES = {"GET /locations/{location_id}/report": ReportQuery, "GET /assets/{name}": AssetQuery}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_document_has_every_parameter_of_path_and_query(operation):
    parameters = [resolve(parameter) for parameter in OPERATIONS[operation]["parameters"]]
    places = {place: {one["name"] for one in parameters if one["in"] == place} for place in ("path", "query")}
    assert places["path"] == set(re.findall(r"{(.*?)}", operation))
    assert places["query"] == (set(QUERIES[operation].__struct_fields__) if operation in QUERIES else set())


SENT = {
    "Answer": readings.Answer,
    "Rejection": readings.Rejection,
    "BatchAnswer": readings.BatchAnswer,
    "Minute": reports.Minute,
    "Report": reports.Report,
    "Locations": reports.LocationsSummary,
    "Run": reports.RunSummary,
    "RunOutline": RunOutline,
    "Sensor": provisioning.SensorAnswer,
    "SensorsAnswer": provisioning.SensorsAnswer,
    "ThermistorInUse": provisioning.ThermistorInUse,
    "Coefficients": Coefficients,
}


@pytest.mark.parametrize("name", SENT)
def test_the_document_has_every_field_that_is_sent_and_allows_none_to_be_missing(name):
    schema = DOCUMENT["components"]["schemas"][name]
    assert set(schema["properties"]) == set(SENT[name].__struct_fields__) == set(schema["required"])


def test_the_document_has_every_field_of_what_is_counted_and_where():
    schemas = DOCUMENT["components"]["schemas"]
    assert set(schemas["Counts"]["required"]) == set(Counts.__struct_fields__)
    assert set(schemas["StatusLimits"]["required"]) == set(StatusLimits.__struct_fields__)
    location = schemas["Locations"]["properties"]["locations"]["items"]
    assert set(location["properties"]) == set(reports.LocationLatest.__struct_fields__) == set(location["required"])


def described(operation):
    """All that an operation takes and answers with, as (where, media)."""
    for parameter in map(resolve, OPERATIONS[operation]["parameters"]):
        yield parameter["name"], parameter
    for name, media in OPERATIONS[operation].get("requestBody", {"content": {}})["content"].items():
        yield name, media
    for status, answer in OPERATIONS[operation]["responses"].items():
        for name, media in resolve(answer).get("content", {}).items():
            yield f"{status} {name}", media


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_route_has_examples_of_all_that_it_takes_and_answers_with(operation):
    found = dict(described(operation))
    assert any(where.startswith("200") for where in found)
    for where, media in found.items():
        assert examples_of(media), where
        for name, example in examples_of(media).items():
            assert errors_of(example, media["schema"]) == [], (where, name)


def json_of(part):
    return part["content"]["application/json"]


def rounded(answer):
    """An answer with figures of as many digits as every machine's logarithm gives."""
    return json.loads(json.dumps(answer), parse_float=lambda text: float(f"{float(text):.12g}"))


PLACE = {"location_id": "greenhouse-1", "sensor_id": "7"}


def assert_examples_are_answered_so(stage, subtests, operation, answers):
    method, path = operation.format(**PLACE).split()
    for name, example in examples_of(json_of(OPERATIONS[operation]["requestBody"])).items():
        with subtests.test(operation, name=name):
            response = stage.http.request(method, path, headers=stage.headers, body=json.dumps(example))
            assert response.status_code == 200
            assert rounded(response.json_body) == rounded(answers[name])
            if method == "PUT":
                assert stage.get(path).body == response.body


@pytest.mark.parametrize("operation", ["POST /readings", "POST /locations/{location_id}/sensors"])
def test_the_examples_of_what_is_posted_are_answered_as_those_of_answers(stage, monkeypatch, subtests, operation):
    import app

    monkeypatch.setattr(app.services.ingest, "_clock", lambda: datetime(2026, 11, 26, 7, tzinfo=UTC))
    answers = examples_of(json_of(OPERATIONS[operation]["responses"]["200"]))
    assert_examples_are_answered_so(stage, subtests, operation, answers)


def test_the_examples_of_a_sensor_are_how_it_is_made_shown_and_retired(stage, subtests):
    sensor = "/locations/{location_id}/sensors/{sensor_id}"
    answers = examples_of(json_of(DOCUMENT["components"]["responses"]["Sensor"]))
    assert answers.keys() == {*examples_of(json_of(OPERATIONS[f"PUT {sensor}"]["requestBody"])), "retired"}
    assert_examples_are_answered_so(stage, subtests, f"PUT {sensor}", answers)
    stage.http.put(sensor.format(**PLACE), headers=stage.headers, body="{}")
    assert stage.http.delete(sensor.format(**PLACE), headers=stage.headers).json_body == answers["retired"]


ONLY_READINGS = {"scopes": ["readings:write"], "locations": ["greenhouse-2"]}
SENSOR, TIME_TO_COME = "/locations/greenhouse-1/sensors/7", "2126-11-26T07:00:00Z"
# By the example: the request that is refused so, and what else there is to it.
REFUSED = {
    "Invalid/field": ("400 POST /readings", {"body": posted(value="x")}),
    "Invalid/time": ("400 POST /readings", {"body": posted(timestamp=TIME_TO_COME)}),
    "Invalid/thermistor": (f"400 PUT {SENSOR}", {"body": {"thermistor": "ptc"}}),
    "Forbidden/scope": (f"403 DELETE {SENSOR}", {"token": ONLY_READINGS}),
    "Forbidden/location": ("403 POST /readings", {"body": posted(), "token": ONLY_READINGS}),
    "NotFound/sensor": (f"404 GET {SENSOR}", {}),
    "NotFound/run": ("404 GET /runs/latest", {}),
    "NotFound/file": ("404 GET /assets/other.css", {}),
    "TooLarge/body": (f"413 PUT {SENSOR}", {"body": "x" * 2**20}),
    "NoJson/text": (f"415 PUT {SENSOR}", {"body": {}, "type": "text/plain"}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_examples_of_refusals_are_how_requests_are_refused(stage, name):
    (request, given), (response, example) = REFUSED[name], name.split("/")
    status, method, path = request.split()
    token = mint_token(SIGNING_KEYS, "a", **given["token"]) if "token" in given else stage.token
    headers = {"Authorization": f"Bearer {token}", "Content-Type": given.get("type", "application/json")}
    answer = stage.http.request(method, path, headers=headers, body=json.dumps(given.get("body")))
    assert answer.status_code == int(status)
    assert answer.json_body == examples_of(json_of(DOCUMENT["components"]["responses"][response]))[example]


def assert_is(answer, schema):
    assert errors_of(answer, {"$ref": f"#/components/schemas/{schema}"}) == []


SERVED = {
    "/locations": "Locations",
    "/locations/a/report": "Report",
    "/locations/a/sensors/1": "Sensor",
    "/runs/latest": "Run",
}


def test_what_runs_have_written_is_served_as_the_document_has_it(stage, subtests):
    stage.post(posted())
    commit_run(stage, 1, ("a", 0, 20.0))
    for path, schema in SERVED.items():
        with subtests.test(path):
            assert_is(stage.get(path).json_body, schema)
    limited = mint_token(SIGNING_KEYS, "a", locations=["b"])
    assert_is(stage.get("/runs/latest", Authorization=f"Bearer {limited}").json_body, "RunOutline")
