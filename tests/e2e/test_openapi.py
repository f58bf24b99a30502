"""Whatever is asked of `chalice local`, its answer is one that docs/openapi.yaml promises, and none is a 5xx."""

from typing import Any

import requests

from localcloud.cloud import Cloud
from tests.black_box import EVERY_OPERATION, ask

# Of each operation; tests/functional/test_black_box.py is for thousands.
EXAMPLES = 15


@EVERY_OPERATION
def test_every_answer_is_one_of_the_document(
    cloud: Cloud, local_routes: str, path: str, method: str, mode: str
) -> None:
    headers = {"Authorization": f"Bearer {cloud.token}"}

    def send(case: Any, _draw: Any) -> list[Any]:
        with requests.Session() as session:
            return [case.call(base_url=local_routes, headers=headers, session=session, timeout=30)]

    assert max(ask(path, method, mode, EXAMPLES, send)) < 500
