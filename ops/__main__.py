"""The operator's command line: `python -m ops plan | deploy | destroy | token | package | wheels | lock | triage`."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.api.access import ALL_LOCATIONS, Scope
from ops import deploy
from ops.exit_codes import exit_code_of
from ops.locks import renew_locks
from ops.packaging import build_package, build_triage
from ops.project import LOCAL_FOLDER
from ops.tokens import print_token
from ops.wheels import Target, build_wheels


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the command that the arguments name and return the exit code: 1 for what failed, 2 for wrong use."""
    options = command_parser(environment).parse_args(arguments)
    return exit_code_of(lambda: options.command(options, environment))


def command_parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    """Return the parser of all commands; the environment gives the stage where no option does."""
    parser = argparse.ArgumentParser(prog="python -m ops", description="What an operator of Thermonet runs.")
    commands = parser.add_subparsers(title="commands", required=True)

    for name, does in (("plan", "show what a deployment would change"), ("deploy", "deploy a stage")):
        command = commands.add_parser(name, help=does)
        command.add_argument("stage")
        command.add_argument("--plan", type=Path, metavar="FILE", help="where the plan is written to, or read from")
        command.set_defaults(command=_deploy, action=name)
    destroy = commands.add_parser("destroy", help="remove a stage from the account")
    destroy.add_argument("stage")
    destroy.set_defaults(command=_deploy, action="destroy")

    token = commands.add_parser("token", help="mint a bearer token")
    token.add_argument("--stage", default=environment.get("THERMONET_STAGE", "dev"))
    token.add_argument("--subject", required=True, help="whom the token is for")
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
    session = boto3.session.Session()
    try:
        target = deploy.check(options.stage, environment, session)
        s3 = session.client("s3", region_name=target.region)
        if options.action == "plan":
            deploy.plan(target, s3, options.plan or LOCAL_FOLDER / f"{target.stage}.tfplan")
        elif options.action == "deploy":
            deploy.deploy(target, s3, options.plan)
        else:
            deploy.destroy(target, s3, session.client("logs", region_name=target.region))
    except (deploy.DeployError, BotoCoreError, ClientError) as error:
        print(f"error: {error}".replace("\n", "\nerror: "), file=sys.stderr)
        return 1
    return 0


def _token(options: argparse.Namespace, _environment: Mapping[str, str]) -> int:
    locations = options.location or [ALL_LOCATIONS]
    return print_token(
        options.stage, options.subject, locations, options.scope or list(Scope), options.days, use_aws=options.aws
    )


def _package(options: argparse.Namespace, _environment: Mapping[str, str]) -> int:
    package = build_package(options.stage)
    print(package.zip_path, package.template_path, sep="\n")
    return 0


def _wheels(_options: argparse.Namespace, _environment: Mapping[str, str]) -> int:
    build_wheels(Target.LAMBDA)
    build_wheels(Target.of_local_cloud())
    return 0


def _lock(_options: argparse.Namespace, _environment: Mapping[str, str]) -> int:
    renew_locks()
    return 0


def _triage(_options: argparse.Namespace, _environment: Mapping[str, str]) -> int:
    build_triage()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
