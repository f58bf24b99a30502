"""The local cloud's command line, as make calls it: `python -m localcloud run | demo | cloud | local | env`."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from localcloud.demo import show_demo
from localcloud.run import run_once
from localcloud.serve import serve_cloud, serve_local
from localcloud.shell import print_variables
from ops.exit_codes import OneLineParser, exit_code_of
from ops.running_cloud import LOCAL_PORT

_FOLDER = Path(__file__).parent
_PORT_MAX = 65_535


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the command that the arguments name and return the exit code, 2 for wrong use or configuration."""
    options = command_parser(environment).parse_args(arguments)
    return exit_code_of(lambda: options.command(options))


def command_parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    """Return the parser of all commands; the environment gives the stage."""
    stage = environment.get("THERMONET_STAGE", "dev")
    parser = OneLineParser(prog="python -m localcloud", description="Thermonet on this machine alone.")
    commands = parser.add_subparsers(title="commands", required=True)

    run = commands.add_parser("run", help="local cloud, sensors, analytics and reports in one go")
    run.add_argument("--config", type=Path, default=_FOLDER / "run.yaml", metavar="FILE.yaml")
    run.add_argument("--out", type=Path, default=Path("out"), metavar="FOLDER")
    run.add_argument("--seed", type=int, help="a number that makes the run repeatable")
    run.set_defaults(command=lambda options: run_once(stage, options.config, options.out, options.seed))

    demo = commands.add_parser("demo", help="local cloud, sensors, schedule and dashboard, until Ctrl-C")
    demo.add_argument("--config", type=Path, default=_FOLDER / "demo.yaml", metavar="FILE.yaml")
    demo.add_argument("--seed", type=int, help="a number that makes the run repeatable")
    demo.set_defaults(command=lambda options: show_demo(stage, options.config, options.seed))

    cloud = commands.add_parser("cloud", help="start the local cloud, until Ctrl-C")
    cloud.set_defaults(command=lambda _: serve_cloud(stage))

    local = commands.add_parser("local", help="serve the routes against the running local cloud")
    local.add_argument("--port", type=_port, default=LOCAL_PORT)
    local.set_defaults(command=lambda options: serve_local(stage, options.port))

    env = commands.add_parser("env", help="print the running local cloud as a shell's variables, for localcloud/env.sh")
    env.set_defaults(command=lambda _: print_variables(environment))
    return parser


def _port(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= _PORT_MAX):
        raise argparse.ArgumentTypeError(f"must be a number from 1 to {_PORT_MAX}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
