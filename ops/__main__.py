"""The operator's command line: `python -m ops plan | deploy | destroy | token | package | wheels | lock | triage`."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.api.access import ALL_LOCATIONS, Scope
from chalicelib.errors import ValidationError
from ops import deploy
from ops.exit_codes import OneLineParser, exit_code_of
from ops.locks import renew_locks
from ops.packaging import build_package, build_triage
from ops.project import LOCAL_FOLDER
from ops.runtime import RuntimeChangeError, find_runtime
from ops.tokens import KeySource, print_token
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
    token.add_argument("--scope", action="append", choices=list(Scope), help="may be repeated; without it: all")
    token.add_argument("--days", type=float, default=1.0, help="until the token expires")
    token.add_argument("--aws", action="store_true", help="sign for AWS even while a local cloud runs")
    token.set_defaults(command=_token)

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
    locations, scopes = options.location or [ALL_LOCATIONS], options.scope or list(Scope)
    source = KeySource(options.stage, environment, use_aws=options.aws)
    return print_token(source, options.subject, locations, scopes, options.days)


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
