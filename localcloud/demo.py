"""The command `demo`: a local cloud with its schedule running, sensors that go on posting, and the dashboard."""

import functools
from pathlib import Path

from rich.console import Console

from chalicelib.settings import load_settings
from chalicelib.validation import load_yaml
from localcloud.cloud import Cloud, start_processes
from localcloud.run import TOO_SLOW
from localcloud.serve import serve_cloud
from simulator.clock import Clock
from simulator.config import SimulatorConfig
from simulator.fleet import simulate
from simulator.progress import show_progress
from simulator.summary import counted


def show_demo(stage: str, config_path: Path, seed: int | None) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit code. Raises ValidationError for a wrong configuration."""
    return serve_cloud(stage, when_up=functools.partial(_post_readings, load_yaml(config_path, SimulatorConfig), seed))


def _post_readings(config: SimulatorConfig, seed: int | None, cloud: Cloud) -> None:
    console = Console()
    start_processes(cloud.api_url, cloud.token, config.load.workers)
    console.print(
        f"\nThe dashboard of {counted(config.meta.sensors_in_all, 'sensor')}, which post from now on:\n\n"
        f"  {cloud.dashboard_link}\n\n"
        "The first averages appear after the next full minute or two, and change every minute from then on. "
        "Ctrl-C ends it.",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )
    with show_progress(config.timer.total_runtime_seconds, console, TOO_SLOW) as update:
        simulate(
            config,
            cloud.api_url,
            load_settings(cloud.stage).thermistor,
            Clock(),
            seed=seed,
            token=cloud.token,
            should_stop=lambda: not cloud.emulator.is_up,
            on_progress=update,
        )
