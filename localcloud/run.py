"""The command `run`: sensors against a local cloud, one analytics run, and its reports as table, files and page."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from chalicelib.landing import QUARANTINE_PREFIX
from chalicelib.ledger import NO_MANIFEST, Manifest
from chalicelib.reports import Report
from chalicelib.settings import load_settings
from chalicelib.validation import decode_json, load_yaml
from localcloud.cloud import Cloud, LocalCloudError, local_cloud, start_processes
from localcloud.report_page import render_page
from ops.signals import signals_as_interrupt
from simulator.clock import Clock
from simulator.config import SimulatorConfig
from simulator.fleet import simulate
from simulator.progress import show_progress
from simulator.provisioning import provision_fleet
from simulator.summary import Summary, counted, format_summary

# However slow the machine, every planned reading is sent.
_GRACE_SECONDS = 300.0
TOO_SLOW = "This machine is too slow for so many readings, or busy with something else"


class Books(Struct, frozen=True):
    """The accepted readings by where they are; nothing is lost when they balance. `late` are among the `reported`."""

    accepted: int
    reported: int
    late: int
    duplicates: int
    quarantined: int
    in_flight: int

    @property
    def balance(self) -> bool:
        """Whether every accepted reading is accounted for exactly once."""
        return self.accepted == self.reported + self.duplicates + self.quarantined + self.in_flight


def run_once(stage: str, config_path: Path, out_folder: Path, seed: int | None) -> int:
    """Run sensors, analytics and reports, and write `out_folder`.

    Returns 0 when all was sent, every answer is the expected one and the books balance, else 1.
    Raises ThermonetError when the configuration is wrong or the local cloud does not do its part.
    """
    console = Console()
    config = load_yaml(config_path, SimulatorConfig)
    _empty(out_folder)

    def show(step: str) -> None:
        console.print(f"[bold]{step}[/bold]", highlight=False)

    with signals_as_interrupt(), local_cloud(stage, on_step=show) as cloud:
        show(f"Simulating {counted(config.meta.sensors_in_all, 'sensor')}")
        summary = _simulate(config, cloud, seed, out_folder / "readings.csv")
        cloud.require_up()
        console.print(format_summary(summary), highlight=False)
        show("Waiting until the queue is drained")
        cloud.wait_until_drained()
        show("Running the analytics")
        manifest, reports = run_analytics(cloud)
        books = close_books(summary, manifest, cloud)
    write_reports(reports, out_folder)
    console.print(location_table(reports, summary.broken_sensors_by_location))
    console.print(describe_books(books), soft_wrap=True, highlight=False)
    console.print(f"Charts: {(out_folder / 'report.html').resolve().as_uri()}", soft_wrap=True, highlight=False)
    return 0 if books.balance and summary.successful else 1


def _simulate(config: SimulatorConfig, cloud: Cloud, seed: int | None, dump: Path) -> Summary:
    settings, console = load_settings(cloud.stage), Console(stderr=True)
    start_processes(cloud.api_url, cloud.token, config.load.workers)
    provision_fleet(config.meta, settings, cloud.api_url, cloud.token, console)
    with show_progress(config.timer.total_runtime_seconds, console, TOO_SLOW) as update:
        return simulate(
            config,
            cloud.api_url,
            settings,
            Clock(),
            seed=seed,
            sensors_are_new=True,
            dump=dump,
            token=cloud.token,
            grace_seconds=_GRACE_SECONDS,
            should_stop=lambda: not cloud.emulator.is_up,
            on_progress=update,
        )


def _empty(out_folder: Path) -> None:
    """Remove what an earlier run has written there, and nothing else."""
    reports = out_folder / "reports"
    reports.mkdir(parents=True, exist_ok=True)
    for path in (out_folder / "readings.csv", out_folder / "report.html", *reports.glob("*.json")):
        path.unlink(missing_ok=True)


def run_analytics(cloud: Cloud) -> tuple[Manifest, list[Report]]:
    """Start a run through the deployed kick-off function, wait for it, and read what it committed."""
    execution_arn = cloud.start_analytics()
    cloud.wait_for_run(execution_arn)
    manifest = cloud.ledger.committed()
    if manifest is NO_MANIFEST:
        raise LocalCloudError(f"{execution_arn} has committed nothing")
    reports = [decode_json(cloud.store.get(key), Report, key) for key in manifest.reports.values()]
    return manifest, sorted(reports, key=lambda report: report.location_id)


def close_books(summary: Summary, manifest: Manifest, cloud: Cloud) -> Books:
    """Account for every reading that was answered as accepted."""
    queues = (cloud.resources.queue_url, cloud.resources.dead_letter_queue_url)
    # Of landing objects the manifest counts the rows, and those that are brought back land and count again. How many
    # measurements an unreadable message held, nobody knows: it counts as one.
    restored_rows = cloud.ledger.tallies().quarantine.restored_rows
    messages = [key for key in cloud.store.list_keys(QUARANTINE_PREFIX) if key.endswith(".json")]
    return Books(
        accepted=summary.accepted,
        reported=manifest.totals.measurements,
        late=manifest.totals.late,
        duplicates=manifest.totals.duplicates,
        quarantined=manifest.totals.quarantined - restored_rows + len(messages),
        in_flight=sum(cloud.count_messages(queue) for queue in queues),
    )


def write_reports(reports: list[Report], out_folder: Path) -> None:
    """Write each report as JSON and all of them as one page."""
    for report in reports:
        path = out_folder / "reports" / f"{report.location_id}.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    (out_folder / "report.html").write_text(render_page(reports), encoding="utf-8")


def location_table(reports: list[Report], broken_sensors: Mapping[str, int]) -> Table:
    """Return a row for each location."""
    table = Table(title="Moving averages")
    for heading in ("location", "sensors", "measurements", "last mean °C", "last moving average °C", "broken sensors"):
        table.add_column(heading, justify="right")
    for report in reports:
        last = report.minutes[-1]
        table.add_row(
            report.location_id,
            str(report.sensors),
            str(report.measurements),
            f"{last.mean:.2f}",
            f"{last.moving_average:.2f}",
            str(broken_sensors.get(report.location_id, 0)),
        )
    return table


def describe_books(books: Books) -> str:
    """Write the books as a sum."""
    parts = (
        f"{books.reported} reported (of which {books.late} late) + {counted(books.duplicates, 'duplicate')}"
        f" + {books.quarantined} quarantined + {books.in_flight} in flight"
    )
    verdict = "the books balance" if books.balance else "THE BOOKS DO NOT BALANCE"
    return f"{books.accepted} accepted, {parts}: {verdict}"
