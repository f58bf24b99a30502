"""Batches with every kind of fault against the deployed application: what goes in is what is reported."""

from pathlib import Path

from chalicelib.ledger import run_of
from chalicelib.settings import load_settings
from chalicelib.validation import load_yaml
from localcloud.cloud import Cloud
from localcloud.run import run_analytics, write_reports
from simulator.clock import Clock
from simulator.config import SimulatorConfig
from simulator.fleet import simulate
from simulator.summary import format_summary
from tests.e2e.naive_moving_average import TOLERANCE_CELSIUS, greatest_difference

FAULTY = """
meta: {locations: 4, sensors: 10}
timer: {total_runtime_seconds: 4, min_delay_seconds: 0.2, max_delay_seconds: 0.6, time_scale: 45}
load: {workers: 1, batch_size: 20}
faults: {duplicate_rate: 0.2, malformed_rate: 0.1, late_rate: 0.1, out_of_order_rate: 0.2}
"""


def test_batches_with_every_kind_of_fault_are_answered_right_and_counted_once(
    prod_beside_dev: Cloud, tmp_path: Path
) -> None:
    (tmp_path / "faulty.yaml").write_text(FAULTY)
    (tmp_path / "reports").mkdir()
    cloud = prod_beside_dev
    # What other tests have posted is in a run before.
    cloud.wait_until_drained()
    cloud.wait_for_run(cloud.start_analytics())
    summary = simulate(
        load_yaml(tmp_path / "faulty.yaml", SimulatorConfig),
        cloud.api_url,
        load_settings(cloud.stage),
        Clock(),
        seed=7,
        sensors_are_new=True,
        dump=tmp_path / "readings.csv",
        token=cloud.token,
        grace_seconds=300,
    )
    assert "every answer is the expected one" in format_summary(summary)
    assert (summary.failed, summary.mismatches) == (0, 0)
    cloud.wait_until_drained()
    manifest, reports = run_analytics(cloud)
    counts = manifest.counts
    assert counts.duplicates > 0
    assert summary.accepted == counts.measurements + counts.duplicates
    reported = {name for name, key in manifest.reports.items() if run_of(key) == manifest.run_id}
    write_reports([report for report in reports if report.location_id in reported], tmp_path)
    assert greatest_difference(tmp_path) <= TOLERANCE_CELSIUS
