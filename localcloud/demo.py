"""The command `demo`: a local cloud with its schedule running, sensors with a day behind them, and the dashboard."""

import functools
import random
from datetime import timedelta
from pathlib import Path

from msgspec import structs
from rich.console import Console

from chalicelib.settings import Settings, load_settings
from chalicelib.validation import load_yaml
from localcloud.cloud import Cloud, start_processes
from localcloud.run import TOO_SLOW
from localcloud.serve import serve_cloud
from ops.progress import progress_bar
from simulator.clock import Clock
from simulator.config import LoadConfig, SimulatorConfig, TimerConfig
from simulator.fleet import simulate
from simulator.progress import show_progress
from simulator.provisioning import provision_fleet
from simulator.summary import counted

# So that a report, which covers the last 24 hours, holds all of it.
_HISTORY = timedelta(hours=23)
# So that every sensor is once in each window of five minutes, and their average smooth.
_HISTORY_DELAY = timedelta(minutes=5)
# Everything is due within these, and sent in order as fast as it is taken.
_HISTORY_SECONDS = 10.0
_HISTORY_GRACE_SECONDS = 600.0


def show_demo(stage: str, config_path: Path, seed: int | None) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit code. Raises ValidationError for a wrong configuration."""
    config, settings = load_yaml(config_path, SimulatorConfig), load_settings(stage)
    # Drawn here, as history and present are those of the same sensors.
    seed = random.getrandbits(32) if seed is None else seed
    return serve_cloud(stage, when_up=functools.partial(_post_readings, config, settings, seed))


def _post_readings(config: SimulatorConfig, settings: Settings, seed: int, cloud: Cloud) -> None:
    console = Console()
    start_processes(cloud.api_url, cloud.token, config.load.workers)
    provision_fleet(config.meta, settings, cloud.api_url, cloud.token, console)
    _post_history(config, settings, seed, cloud, console)
    cloud.require_up()
    console.print(
        f"\nThe dashboard of {counted(config.meta.sensors_in_all, 'sensor')}, which post from now on:\n\n"
        f"  {cloud.dashboard_link}\n\n"
        "The first averages appear within the next minute or two, and change every minute from then on. "
        "Ctrl-C ends it.",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )
    with show_progress(config.timer.total_runtime_seconds, console, TOO_SLOW) as update:
        simulate(
            config,
            cloud.api_url,
            settings,
            Clock(),
            seed=seed,
            token=cloud.token,
            should_stop=lambda: not cloud.emulator.is_up,
            on_progress=update,
        )


def history_of(config: SimulatorConfig) -> SimulatorConfig:
    """Return the configuration with which the same sensors post what they measured before."""
    time_scale = _HISTORY / timedelta(seconds=_HISTORY_SECONDS)
    delay_seconds = _HISTORY_DELAY.total_seconds() / time_scale
    timer = TimerConfig(_HISTORY_SECONDS, delay_seconds, delay_seconds, time_scale)
    return structs.replace(config, timer=timer, load=LoadConfig(workers=config.load.workers, batch_size=500))


def _post_history(config: SimulatorConfig, settings: Settings, seed: int, cloud: Cloud, console: Console) -> None:
    readings = config.meta.sensors_in_all * round(_HISTORY / _HISTORY_DELAY)
    console.print(f"Posting what they measured in the last 23 hours, {counted(readings, 'reading')}", highlight=False)
    with progress_bar(console, readings) as show:
        simulate(
            history_of(config),
            cloud.api_url,
            settings,
            Clock(),
            seed=seed,
            token=cloud.token,
            grace_seconds=_HISTORY_GRACE_SECONDS,
            should_stop=lambda: not cloud.emulator.is_up,
            on_progress=lambda progress: show(progress.sent, f"{progress.sent} sent, {progress.failed} failed"),
        )
