"""The command line of the simulator: `python -m simulator run`; `token` is an alias of `python -m ops token`."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ops.__main__ import main as operate
from ops.exit_codes import OneLineParser, exit_code_of
from ops.running_cloud import HOST, find_cloud
from ops.tokens import read_token
from simulator.client import parse_endpoint
from simulator.clock import Clock
from simulator.run_command import run_sensors

_FOLDER = Path(__file__).parent
_CLOCK = Clock()


def main(arguments: Sequence[str], environment: Mapping[str, str], clock: Clock = _CLOCK) -> int:
    """Run the command that the arguments name and return the exit code, 2 for wrong use or configuration."""
    if arguments[:1] == ["token"]:
        return operate(arguments, environment)
    options = command_parser(environment).parse_args(arguments)

    def run() -> int:
        token = read_token(options.token_file, environment.get("THERMONET_TOKEN")) or _local_token(options.url)
        return run_sensors(options.stage, options.config, options.url, options.seed, options.dump, token, clock)

    return exit_code_of(run)


def command_parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    """Return the parser of all commands; the environment gives the stage where no option does."""
    parser = OneLineParser(prog="python -m simulator", description="Sensors that post to an API.")
    commands = parser.add_subparsers(title="commands", required=True)
    run = commands.add_parser("run", help="post readings to an API")
    run.add_argument("--config", type=Path, default=_FOLDER / "config.yaml", metavar="FILE.yaml")
    run.add_argument("--url", required=True, help="the API's address; readings go to URL/readings")
    run.add_argument("--seed", type=int, help="a number that makes the run repeatable")
    run.add_argument("--dump", type=Path, metavar="FILE.csv", help="write every request and its answer")
    run.add_argument(
        "--token-file", type=Path, metavar="FILE", help="bearer token; else THERMONET_TOKEN, else the local cloud's"
    )
    run.add_argument("--stage", default=environment.get("THERMONET_STAGE", "dev"), help="whose curves must hold")
    commands.add_parser("token", help="mint a bearer token, as `python -m ops token` does", add_help=False)
    return parser


def _local_token(url: str) -> str | None:
    """Return the running local cloud's token if the URL is of it, or of `make local`."""
    cloud = find_cloud() if parse_endpoint(url).host in {HOST, "localhost"} else None
    return cloud.token if cloud else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
