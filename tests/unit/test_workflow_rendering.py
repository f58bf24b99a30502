"""The workflow file becomes a definition that Step Functions takes."""

import json
import re

import pytest

from localcloud.stack import WORKFLOW_PATH, StackError, render_workflow

VALUES: dict[str, str | int] = {
    **{name: f"arn:{name}" for name in re.findall(r"\$\{(\w+_arn)\}", WORKFLOW_PATH.read_text())},
    "ledger_table": "runs",
    "bucket": "data",
    "max_concurrency": 7,
}


def test_the_workflow_file_is_json_before_and_after_it_is_rendered() -> None:
    text = WORKFLOW_PATH.read_text()
    assert json.loads(text)["States"].keys() == json.loads(render_workflow(text, VALUES))["States"].keys()


def test_a_number_loses_its_quotes_and_a_text_keeps_them() -> None:
    text = '{"MaxConcurrency": "${max_concurrency}", "Key": "${bucket}/x"}'
    assert json.loads(render_workflow(text, VALUES)) == {"MaxConcurrency": 7, "Key": "data/x"}


def test_a_placeholder_without_a_value_is_named() -> None:
    with pytest.raises(StackError, match=r"\$\{nobody_knows\}"):
        render_workflow('{"Key": "${nobody_knows}"}', VALUES)
