"""The command line of the simulator: `python -m simulator run | cloud | local | token | wheels | demo | watch`."""

import argparse
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from chalicelib.access import ALL_LOCATIONS, Scope
from chalicelib.errors import ThermonetError, ValidationError

_FOLDER = Path(__file__).parent


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the command that the arguments name and return the exit code, 2 for wrong use or configuration."""
    options = command_parser(environment).parse_args(arguments)
    try:
        return int(options.command(options))
    except (ThermonetError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def command_parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    """Return the parser of all commands; the environment gives the stage and a token where no option does."""
    parser = argparse.ArgumentParser(prog="python -m simulator", description="Sensors and a local cloud.")
    parser.set_defaults(stage=environment.get("THERMONET_STAGE", "dev"))
    commands = parser.add_subparsers(title="commands", required=True)

    run = commands.add_parser("run", help="post readings to an API")
    run.add_argument("--config", type=Path, default=_FOLDER / "config.yaml", metavar="FILE.yaml")
    run.add_argument("--url", required=True, help="the API's address; readings go to URL/readings")
    run.add_argument("--seed", type=int, help="a number that makes the run repeatable")
    run.add_argument("--dump", type=Path, metavar="FILE.csv", help="write every request and its answer")
    run.add_argument(
        "--token-file", type=Path, metavar="FILE", help="bearer token; else THERMONET_TOKEN, else the local cloud's"
    )
    run.add_argument("--stage", default=environment.get("THERMONET_STAGE", "dev"), help="whose equation must hold")
    run.set_defaults(command=_run, token=environment.get("THERMONET_TOKEN"))

    token = commands.add_parser("token", help="mint a bearer token")
    token.add_argument("--stage", default=environment.get("THERMONET_STAGE", "dev"))
    token.add_argument("--subject", required=True, help="whom the token is for")
    token.add_argument("--location", action="append", metavar="ID", help="may be repeated; without it: all")
    token.add_argument("--scope", action="append", choices=list(Scope), help="may be repeated; without it: all")
    token.add_argument("--days", type=float, default=1.0, help="until the token expires")
    token.add_argument("--aws", action="store_true", help="sign for AWS even while a local cloud runs")
    token.set_defaults(command=_token)

    _add_makes_commands(commands)
    return parser


def _add_makes_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add what the Makefile's targets call."""
    cloud = commands.add_parser("cloud", help="start the local cloud, until Ctrl-C")
    cloud.set_defaults(command=_cloud)

    local = commands.add_parser("local", help="serve the routes against the running local cloud")
    local.add_argument("--port", type=int, default=8000)
    local.set_defaults(command=_local)

    wheels = commands.add_parser("wheels", help="collect the wheels of the deployment package")
    wheels.set_defaults(command=_wheels)

    demo = commands.add_parser("demo", help="local cloud, sensors, analytics and reports in one go")
    demo.add_argument("--config", type=Path, default=_FOLDER / "demo.yaml", metavar="FILE.yaml")
    demo.add_argument("--out", type=Path, default=Path("out"), metavar="FOLDER")
    demo.add_argument("--seed", type=int, help="a number that makes the run repeatable")
    demo.set_defaults(command=_demo)

    watch = commands.add_parser("watch", help="local cloud, sensors, schedule and dashboard, until Ctrl-C")
    watch.add_argument("--config", type=Path, default=_FOLDER / "watch.yaml", metavar="FILE.yaml")
    watch.add_argument("--seed", type=int, help="a number that makes the run repeatable")
    watch.set_defaults(command=_watch)


# Each command imports what it needs itself: the sensors run without the local cloud's libraries.


def _run(options: argparse.Namespace) -> int:
    from simulator.run_command import run_sensors  # noqa: PLC0415

    token = options.token
    if options.token_file is not None:
        try:
            token = options.token_file.read_text(encoding="utf-8").strip()
        except UnicodeDecodeError:
            raise ValidationError(f"{options.token_file}: not text") from None
    if not token:
        token = _local_token(options.url)
    return run_sensors(options.stage, options.config, options.url, options.seed, options.dump, token)


def _local_token(url: str) -> str | None:
    """Return the running local cloud's token if the URL is of it, or of `make local`."""
    from simulator.local_cloud import LOCAL_PORT, find_cloud  # noqa: PLC0415

    host = urlsplit(url).netloc
    cloud = find_cloud()
    if cloud and host in {urlsplit(cloud.api_url).netloc, f"127.0.0.1:{LOCAL_PORT}", f"localhost:{LOCAL_PORT}"}:
        return cloud.token
    return None


def _cloud(options: argparse.Namespace) -> int:
    from simulator.local_cloud import serve_cloud  # noqa: PLC0415

    return serve_cloud(options.stage)


def _local(options: argparse.Namespace) -> int:
    from simulator.local_cloud import serve_local  # noqa: PLC0415

    return serve_local(options.stage, options.port)


def _token(options: argparse.Namespace) -> int:
    from simulator.token_command import print_token  # noqa: PLC0415

    locations = options.location or [ALL_LOCATIONS]
    return print_token(
        options.stage, options.subject, locations, options.scope or list(Scope), options.days, use_aws=options.aws
    )


def _wheels(_options: argparse.Namespace) -> int:
    from simulator.packaging import build_wheels  # noqa: PLC0415

    build_wheels()
    return 0


def _demo(options: argparse.Namespace) -> int:
    from simulator.demo import run_demo  # noqa: PLC0415

    return run_demo(options.stage, options.config, options.out, options.seed)


def _watch(options: argparse.Namespace) -> int:
    from simulator.watch import watch  # noqa: PLC0415

    return watch(options.stage, options.config, options.seed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
