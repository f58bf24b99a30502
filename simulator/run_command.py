"""The command `run`: sensors against a URL, with progress, summary, and a clean end on a signal."""

import signal
from pathlib import Path

from rich.console import Console

from chalicelib.settings import load_settings
from chalicelib.validation import load_yaml
from ops.signals import Interruption, signals_handled
from simulator.clock import Clock
from simulator.config import SimulatorConfig
from simulator.fleet import simulate
from simulator.progress import show_progress
from simulator.provisioning import provision_fleet
from simulator.summary import format_summary


def run_sensors(
    stage: str,
    config_path: Path,
    url: str,
    seed: int | None,
    dump: Path | None,
    token: str | None,
    clock: Clock,
) -> int:
    """Run the sensors against an API with the stage's settings and print the summary.

    Returns the exit code: 0 when every reading was answered as it should be, 1 when any was not or the server did not
    keep up, 128 + signal when interrupted.
    Raises ValidationError for a wrong configuration, URL or token, ApiError when the API does not make the sensors,
    before any of them posts, and OSError when the dump cannot be written.
    """
    config = load_yaml(config_path, SimulatorConfig)
    settings, console = load_settings(stage), Console(stderr=True)
    provision_fleet(config.meta, settings, url, token, console)
    interruption = Interruption()
    with signals_handled((signal.SIGINT, signal.SIGTERM), interruption.request):
        with show_progress(config.timer.total_runtime_seconds, console) as update:
            summary = simulate(
                config,
                url,
                settings,
                clock,
                seed=seed,
                dump=dump,
                token=token,
                should_stop=lambda: interruption.signal_number is not None,
                on_progress=update,
            )
        print(format_summary(summary), flush=True)
        if interruption.signal_number is not None:
            return 128 + interruption.signal_number
    return 0 if summary.successful else 1
