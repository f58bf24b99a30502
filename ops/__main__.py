"""The operator's command line: `python -m ops plan | deploy | destroy | token | provision | sensors | restore | …`."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.api.access import ALL_LOCATIONS, Scope
from chalicelib.api.tokens import SUBJECT_CHARACTERS_MAX
from chalicelib.errors import ValidationError
from chalicelib.fields import parse_id
from chalicelib.object_store import ObjectStore
from chalicelib.quarantine_count import QuarantineCount
from ops import deploy
from ops.exit_codes import OneLineParser, exit_code_of
from ops.locks import renew_locks
from ops.packaging import build_package, build_triage
from ops.project import LOCAL_FOLDER
from ops.provisioning import provision_file
from ops.quarantine import list_quarantine, restore
from ops.runtime import RuntimeChangeError, find_runtime
from ops.sensor_export import export_sensors
from ops.stages import find_api_url, find_resources
from ops.tokens import KeySource, mint_token, print_token, read_token
from ops.wheels import Platform, build_wheels


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the command that the arguments name and return the exit code: 1 for what failed, 2 for wrong use."""
    options = command_parser(environment).parse_args(arguments)
    return exit_code_of(lambda: options.command(options, environment))


def command_parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    """Return the parser of all commands; the environment gives the stage where no option does."""
    parser = OneLineParser(prog="python -m ops", description="What an operator of Thermonet runs.")
    commands = parser.add_subparsers(title="commands", required=True)

    for name, does in (("plan", "show what a deployment would change"), ("deploy", "deploy a stage")):
        command = commands.add_parser(name, help=does)
        command.add_argument("stage", nargs="?", default="", help="such as dev")
        command.add_argument("--plan", type=Path, metavar="FILE", help="where the plan is written to, or read from")
        command.set_defaults(command=_deploy, action=name)
    destroy = commands.add_parser("destroy", help="remove a stage from the account")
    destroy.add_argument("stage", nargs="?", default="", help="such as dev")
    destroy.set_defaults(command=_deploy, action="destroy")

    token = commands.add_parser("token", help="mint a bearer token")
    token.add_argument("--stage", default=environment.get("THERMONET_STAGE", "dev"))
    token.add_argument("--subject", default="", help="whom the token is for")
    token.add_argument("--location", action="append", metavar="ID", help="may be repeated; without it: all")
    token.add_argument(
        "--scope",
        action="append",
        choices=list(Scope),
        help="may be repeated; without it: to write readings and read reports",
    )
    token.add_argument("--days", type=float, default=1.0, help="until the token expires")
    token.add_argument("--aws", action="store_true", help="sign for AWS even while a local cloud runs")
    token.set_defaults(command=_token)

    _add_data_commands(commands, environment)
    package = commands.add_parser("package", help="build the deployment package of a stage")
    package.add_argument("stage")
    package.set_defaults(command=_package)
    wheels = commands.add_parser("wheels", help="collect the wheels of the deployment package")
    wheels.set_defaults(command=_wheels)
    lock = commands.add_parser("lock", help="renew the exact versions of everything that is installed")
    lock.set_defaults(command=_lock)
    triage = commands.add_parser("triage", help="build the ZIP of the function for dead letters")
    triage.set_defaults(command=_triage)
    return parser


def _add_data_commands(commands: Any, environment: Mapping[str, str]) -> None:
    provision = commands.add_parser("provision", help="make or change the sensors of a CSV file")
    provision.add_argument("file", nargs="?", default="", help="such as sensors.csv")
    provision.add_argument("--stage", default=environment.get("THERMONET_STAGE", "dev"))
    provision.add_argument("--url", help="the API's address; else that of the stage")
    provision.add_argument(
        "--token-file", type=Path, metavar="FILE", help="bearer token; else THERMONET_TOKEN, else one is minted"
    )
    provision.add_argument(
        "--results", type=Path, default=Path(os.devnull), metavar="FILE.csv", help="write every row's outcome"
    )
    provision.set_defaults(command=_provision)
    sensors = commands.add_parser("sensors", help="write the sensors of a location as such a CSV file")
    sensors.add_argument("stage", help="such as dev")
    sensors.add_argument("location", help="the location's id")
    sensors.add_argument("--output", type=Path, metavar="FILE.csv", help="where to; without it: standard output")
    sensors.set_defaults(command=_sensors)
    restored = commands.add_parser("restore", help="land the good lines of a landing object in quarantine again")
    restored.add_argument("key", nargs="?", default="", help="quarantine/…; without it: list what is in quarantine")
    restored.add_argument("--stage", default=environment.get("THERMONET_STAGE", "dev"))
    restored.set_defaults(command=_restore)
    for command in (provision, sensors, restored):
        command.add_argument("--aws", action="store_true", help="go to AWS even while a local cloud runs")


def _deploy(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    if not options.stage:
        raise ValidationError(f"stage: say which one, such as `make {options.action} STAGE=dev`")
    try:
        session = boto3.session.Session()
        target = deploy.check(options.stage, environment, session)
        s3, functions, logs = (session.client(one, region_name=target.region) for one in ("s3", "lambda", "logs"))
        if options.action == "plan":
            plan_file = options.plan or LOCAL_FOLDER / f"{target.stage}.tfplan"
            deploy.plan(target, s3, find_runtime(target.stage, functions), plan_file)
        elif options.action == "deploy":
            deploy.deploy(target, s3, find_runtime(target.stage, functions), options.plan, _agrees)
        else:
            deploy.destroy(target, s3, logs)
    except (deploy.DeployError, RuntimeChangeError, BotoCoreError, ClientError) as error:
        print(f"error: {error}".replace("\n", "\nerror: "), file=sys.stderr)
        return 1
    return 0


def _agrees(question: str) -> bool:
    """Ask on a terminal; without one nobody agrees."""
    try:
        return sys.stdin.isatty() and input(f"{question} [y/N] ").strip().lower() in {"y", "yes"}
    except EOFError:
        return False


def _token(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    locations, scopes = options.location or [ALL_LOCATIONS], options.scope or [Scope.WRITE_READINGS, Scope.READ_REPORTS]
    source = KeySource(options.stage, environment, use_aws=options.aws)
    return print_token(source, options.subject, locations, scopes, options.days)


def _provision(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    if not options.file:
        raise ValidationError("file: say which one, such as `make provision FILE=sensors.csv`")
    url = options.url or find_api_url(options.stage, use_aws=options.aws)
    token = read_token(options.token_file, environment.get("THERMONET_TOKEN"))
    if token is None:
        subject = f"operator {environment.get('USER', '')}".strip()[:SUBJECT_CHARACTERS_MAX]
        _, keys = KeySource(options.stage, environment, use_aws=options.aws).read()
        token = mint_token(keys, subject, scopes=[Scope.WRITE_SENSORS])
    return provision_file(Path(options.file), url, token, options.stage, options.results)


def _sensors(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    location_id = parse_id("location", options.location)
    resources, make_client = find_resources(options.stage, environment, use_aws=options.aws)
    return export_sensors(resources.registry_table, make_client("dynamodb"), location_id, options.output)


def _restore(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    resources, make_client = find_resources(options.stage, environment, use_aws=options.aws)
    store = ObjectStore(resources.bucket, make_client("s3"))
    if not options.key:
        return list_quarantine(store)
    count = QuarantineCount(resources.ledger_table, make_client("dynamodb"))
    return restore(options.key, store, count, datetime.now(UTC))


def _package(options: argparse.Namespace, _environment: Mapping[str, str]) -> int:
    package = build_package(options.stage)
    print(package.zip_path, package.template_path, sep="\n")
    return 0


def _wheels(_options: argparse.Namespace, _environment: Mapping[str, str]) -> int:
    build_wheels(Platform.LAMBDA)
    build_wheels(Platform.of_local_cloud())
    return 0


def _lock(_options: argparse.Namespace, _environment: Mapping[str, str]) -> int:
    renew_locks()
    return 0


def _triage(_options: argparse.Namespace, _environment: Mapping[str, str]) -> int:
    build_triage()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
