"""Sensors of every type through the deployed package, provisioned by the operator's own commands."""

from functools import partial
from pathlib import Path

import pytest

from localcloud.cloud import Cloud
from ops.__main__ import main
from ops.sensor_export import export_sensors
from tests.e2e.cloud_tools import post_reading, read, run_analytics

HEADER = "location_id,sensor_id,thermistor,a,b,c,celsius_1,ohm_1,celsius_2,ohm_2,celsius_3,ohm_3,min_ohm,max_ohm\n"
# The default type's own equation, a 109SS as a type and with its maker's coefficients, and an NCP15XH103 by points.
FLEET = HEADER + (
    "fleet,default,,,,,,,,,,,,\n"
    "fleet,type,ntc-10k,,,,,,,,,,,\n"
    "fleet,own,,0.001129241,0.0002341077,8.775468e-08,,,,,,,100,400000\n"
    "fleet,points,,,,,0,28674,25,10000,50,4105,300,200000\n"
)
READINGS = {"default": (2_000, 35.0270), "type": (97_006.9, -20.0), "own": (97_006.9, -20.0), "points": (28_674, 0.0)}


def test_a_sensor_of_each_type_is_judged_by_its_own_curve_from_its_first_reading_to_its_report(
    cloud: Cloud, tmp_path: Path
) -> None:
    file, exported = tmp_path / "fleet.csv", tmp_path / "exported.csv"
    file.write_text(FLEET)
    provision = partial(main, environment={"THERMONET_TOKEN": cloud.token})
    assert provision(["provision", str(file), "--url", cloud.api_url]) == 0
    for sensor, (resistance_ohm, celsius) in READINGS.items():
        for location in ("fleet", "elsewhere"):
            code, answer = post_reading(cloud, sensor_id=sensor, location_id=location, value=resistance_ohm)
            assert code == 200, answer
            if location == "fleet":
                assert answer["temperature"] == pytest.approx(celsius, abs=0.003)
            else:
                # Of the same name, but nobody has said that it is of another type.
                assert answer["status"] == ("OK" if sensor == "default" else "BROKEN")
    cloud.wait_until_drained()
    run_analytics(cloud)
    report = read(cloud, "/locations/fleet/report")
    assert (report["sensors"], report["measurements"], report["conflicts"]) == (4, 4, 0)
    assert export_sensors(cloud.resources.registry_table, cloud.client("dynamodb"), "fleet", exported) == 0
    assert len(exported.read_text().splitlines()) == len(FLEET.splitlines())
    assert provision(["provision", str(exported), "--url", cloud.api_url]) == 0
