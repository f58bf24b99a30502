"""Both stages in one account, and neither in the other's way."""

from localcloud.cloud import Cloud
from tests.e2e.cloud_tools import post_reading, run_analytics


def test_a_sensor_broken_in_one_stage_works_in_the_other(cloud: Cloud, prod_beside_dev: Cloud) -> None:
    reading = {"sensor_id": "in-both", "location_id": "stages"}
    assert post_reading(cloud, **reading, value=25_000)[1]["status"] == "BROKEN"
    assert post_reading(prod_beside_dev, **reading, value=2_000)[1]["status"] == "OK"
    assert post_reading(cloud, **reading, value=2_000)[1]["status"] == "BROKEN"


def test_a_run_of_one_stage_counts_nothing_of_the_other(cloud: Cloud, prod_beside_dev: Cloud) -> None:
    for stage, location_id in ((cloud, "only-dev"), (prod_beside_dev, "only-prod")):
        assert post_reading(stage, sensor_id="stages", location_id=location_id, value=2_000)[0] == 200
    for stage in (cloud, prod_beside_dev):
        stage.wait_until_drained()
        run_analytics(stage)
    reported, reported_in_prod = (stage.ledger.committed().reports.keys() for stage in (cloud, prod_beside_dev))
    assert "only-dev" in reported - reported_in_prod
    assert "only-prod" in reported_in_prod - reported


def test_everything_of_a_stage_carries_its_name(cloud: Cloud, prod_beside_dev: Cloud) -> None:
    both = prod_beside_dev.functions
    dev = {name for name in both if name == "thermonet-dev" or name.startswith("thermonet-dev-")}
    prod = {name for name in both if name == "thermonet-prod" or name.startswith("thermonet-prod-")}
    assert dev | prod == set(both)
    assert prod
    assert {name.replace("prod", "dev") for name in prod} <= dev
    rules = [rule["Name"] for rule in cloud.client("events").list_rules()["Rules"]]
    assert len([rule for rule in rules if "thermonet-dev" in rule]) == 1
    assert len([rule for rule in rules if "thermonet-prod" in rule]) == 1
