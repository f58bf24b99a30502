"""Whatever is asked of the app, with whatever token, its answer is one that docs/openapi.yaml promises, and no 5xx."""

import os
from io import BytesIO

import pytest
import requests
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse

from ops.tokens import mint_token
from tests.black_box import EVERY_OPERATION, ask
from tests.functional.conftest import SIGNING_KEYS
from tests.runs import commit_run

# Of each operation, with valid and with invalid input: some hundreds of requests. 600 make it more than 10,000.
EXAMPLES = int(os.environ.get("THERMONET_FUZZ_EXAMPLES", "12"))
KNOWN = {"location_id": "greenhouse-1", "sensor_id": "7"}
TOKENS = {
    "for all": {},
    "for the location": {"locations": [KNOWN["location_id"]]},
    "for another location": {"locations": ["b"]},
    "to post readings": {"scopes": ["readings:write"]},
    "to write sensors": {"scopes": ["sensors:write"]},
    "for nothing": {"scopes": [], "locations": []},
    "expired": {"lifetime_seconds": -120},
}


class InProcess(HTTPAdapter):
    """Lets the client `requests` ask a stage's app without a network."""

    def __init__(self, stage):
        super().__init__()
        self.stage = stage

    def send(self, request, **_):
        body = request.body or b""
        answer = self.stage.http.request(
            request.method,
            request.path_url,
            headers=dict(request.headers),
            body=body if isinstance(body, bytes) else body.encode(),
        )
        # As API Gateway's own refusals have it, and those of Chalice's gateway do not.
        headers = {"Content-Type": "application/json", **answer.headers}
        answered = HTTPResponse(BytesIO(answer.body), headers, answer.status_code, preload_content=False)
        return self.build_response(request, answered)


@pytest.fixture
def session(stage):
    """A client of an app that knows a location, and in it a sensor."""
    path = "/locations/{location_id}/sensors/{sensor_id}".format(**KNOWN)
    assert stage.http.put(path, headers=stage.headers, body=b"{}").status_code == 200
    commit_run(stage, 1, (KNOWN["location_id"], 0, 35.0))
    with requests.Session() as session:
        session.mount("http://stage", InProcess(stage))
        yield session


@EVERY_OPERATION
def test_every_answer_is_one_of_the_document(session, path, method, mode):
    tokens = [f"Bearer {mint_token(SIGNING_KEYS, name, **rights)}" for name, rights in TOKENS.items()]
    # Most requests shall get past the token.
    authorizations = st.sampled_from([*tokens[:1] * 10, *tokens, "Bearer of.no.authenticity", None])

    def send(case, draw):
        # What is made up is hardly ever known.
        if mode == "positive" and draw(st.booleans()):
            case.path_parameters.update({name: KNOWN[name] for name in case.path_parameters if name in KNOWN})
        headers = {"Authorization": draw(authorizations)}
        # Some are repeated.
        times = draw(st.integers(1, 2))
        return [case.call(base_url="http://stage", headers=headers, session=session) for _ in range(times)]

    assert max(ask(path, method, mode, EXAMPLES, send)) < 500
