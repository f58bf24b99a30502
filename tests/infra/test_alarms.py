"""What can go wrong rings, and the metrics that alarms and dashboard look at are those that are emitted."""

import re
from math import ceil
from typing import Any

import pytest

from chalicelib.ingest.readings import BatchAnswer
from chalicelib.ledger import Counts
from chalicelib.settings import load_settings
from tests.infra.terraform_files import INFRA, PROJECT, local_values, resources


def alarms() -> dict[str, Any]:
    return resources("aws_cloudwatch_metric_alarm")


def test_every_alarm_reaches_the_topic() -> None:
    actions = [alarm["alarm_actions"] for alarm in alarms().values()]
    assert actions == [["${aws_sns_topic.alerts.arn}"]] * len(alarms())


def test_an_alarm_is_quiet_about_missing_data_unless_missing_is_the_fault() -> None:
    treated = {name: alarm["treat_missing_data"] for name, alarm in alarms().items()}
    assert treated == {**dict.fromkeys(alarms(), "notBreaching"), "workflow_silent": "breaching"}


def test_everything_that_can_go_wrong_has_its_alarm() -> None:
    watched = {alarm["metric_name"] for alarm in alarms().values() if "$" not in alarm["metric_name"]}
    assert watched == {
        "ApproximateNumberOfMessagesVisible",
        "ApproximateAgeOfOldestMessage",
        "ExecutionsSucceeded",
        "5XXError",
        "QuarantinedMessages",
        "RefusedSensors",
        "RunQuarantined",
        "ArchiveBehindMinutes",
    }
    assert set(alarms()["workflow_failed"]["for_each"].values()) == {
        "ExecutionsFailed",
        "ExecutionsTimedOut",
        "ExecutionsAborted",
    }
    assert '["Errors", "Throttles"]' in local_values()["function_alarms"]


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_silence_for_two_intervals_rings(stage: str) -> None:
    alarm = alarms()["workflow_silent"]
    assert (alarm["period"], alarm["evaluation_periods"]) == ("${local.run_interval_seconds}", 2)
    assert local_values()["run_interval_seconds"] == "${local.settings.message_retention_seconds}"
    # An alarm looks at whole minutes, and back for a day at most.
    interval_seconds = load_settings(stage).message_retention_seconds
    assert interval_seconds % 60 == 0
    assert 2 * interval_seconds <= 86_400


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_an_archive_rings_only_when_it_is_later_than_an_interval_and_a_run(stage: str) -> None:
    alarm = alarms()["archive_behind"]
    assert (alarm["statistic"], alarm["period"]) == ("Maximum", "${local.run_interval_seconds}")
    assert alarm["threshold"] == "${local.archive_behind_minutes}"
    expression = local_values()["archive_behind_minutes"].removeprefix("${").removesuffix("}")
    settings = load_settings(stage)
    values = {
        "local.settings.archive.interval_minutes": settings.archive.interval_minutes,
        "local.run_interval_seconds": settings.message_retention_seconds,
    }
    for name, value in values.items():
        assert name in expression
        expression = expression.replace(name, str(value))
    minutes = eval(expression, {"ceil": ceil})
    usual = settings.archive.interval_minutes + settings.message_retention_seconds / 60
    assert usual < minutes <= 6 * usual


def test_the_metrics_that_are_looked_at_are_those_that_are_emitted() -> None:
    code = (PROJECT / "app.py").read_text()
    emitted = set(re.findall(r"\b([A-Z][a-z]+(?:Readings|Measurements|Messages|Sensors|BehindMinutes))\b", code))
    assert "Run{kind.capitalize()}" in code
    emitted |= {f"Run{kind.capitalize()}" for kind in Counts.__struct_fields__}
    assert "{kind.capitalize()}Readings" in code
    emitted |= {f"{kind.capitalize()}Readings" for kind in BatchAnswer.__struct_fields__ if kind != "results"}
    dashboard = (INFRA / "dashboard.tf").read_text()
    declared = dashboard.partition("for name in [")[2].partition("]")[0]
    assert set(re.findall(r'"(\w+)"', declared)) == emitted
    own = [alarm for alarm in alarms().values() if alarm["namespace"] == "${local.metrics_namespace}"]
    assert {alarm["metric_name"] for alarm in own} <= emitted
    assert all(alarm["dimensions"] == "${local.metrics_dimensions}" for alarm in own)


def alarm_names() -> list[str]:
    """Return the names of a stage's alarms without the stage, those of functions as `<function>-…`."""
    names = []
    for resource, alarm in alarms().items():
        keys = list(alarm.get("for_each", [""]))
        if resource == "function":
            # Those of the application, and the one that Terraform deploys itself.
            assert "{dead_letter_triage = " in local_values()["alarmed_functions"]
            keys = ["<function>-errors", "<function>-throttles"] * (len(local_values()["functions"]) + 1)
        names += [alarm["alarm_name"].removeprefix("${local.prefix}-").replace("${each.key}", key) for key in keys]
    return names


def test_the_operator_is_told_of_every_alarm() -> None:
    table = (PROJECT / "docs" / "operations.md").read_text().partition("| alarm |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(.+?)`", row)} == set(alarm_names())


def test_the_cost_at_rest_counts_every_alarm() -> None:
    assert f"| alarms ({len(alarm_names())} × $0.10; " in (PROJECT / "docs" / "deployment.md").read_text()


def test_the_dashboard_shows_what_the_alarms_watch() -> None:
    watched = {alarm["metric_name"] for alarm in alarms().values() if "$" not in alarm["metric_name"]}
    watched |= {"Errors", "Throttles", *alarms()["workflow_failed"]["for_each"].values()}
    shown = set(re.findall(r'"(\w+)"', (INFRA / "dashboard.tf").read_text()))
    assert watched <= shown


def test_metrics_have_the_dimensions_that_are_asked_for() -> None:
    assert local_values()["metrics_namespace"] == "Thermonet"
    assert local_values()["metrics_dimensions"] == {"service": "thermonet", "stage": "${local.stage}"}
