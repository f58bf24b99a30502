"""The command `env`: the running local cloud in a shell's variables, and the way back."""

import shlex
import sys
from collections.abc import Iterator, Mapping

from ops.running_cloud import CloudFile, find_cloud, without_proxy

_LEAVE = "leave_local_cloud"


def print_variables(environment: Mapping[str, str]) -> int:
    """Print what a shell evaluates, for `localcloud/env.sh`; returns 1 when no local cloud is running."""
    cloud = find_cloud()
    if cloud is None:
        print("error: no local cloud is running in this folder: start one with make cloud", file=sys.stderr)
        return 1
    print("\n".join(shell_lines(cloud, environment)))
    return 0


def shell_lines(cloud: CloudFile, environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines that set the variables, and a function `leave_local_cloud` that puts back those there were.

    The developer's own AWS_* are unset meanwhile: a profile or a session token would go to the local cloud too.
    """
    variables = {
        "API": cloud.api_url,
        "TOKEN": cloud.token,
        "AUTH": f"Authorization: Bearer {cloud.token}",
        **cloud.environment,
        **without_proxy(environment),
    }
    in_the_way = [name for name in environment if name.startswith("AWS_") and name not in variables]
    changed = [*variables, *in_the_way]
    before = {name: environment[name] for name in changed if name in environment}
    yield _unset(in_the_way)
    yield from _exports(variables)
    yield f"{_LEAVE}() {{"
    yield _unset(changed)
    yield from _exports(before)
    yield f"unset -f {_LEAVE}"
    yield "}"


def _unset(names: list[str]) -> str:
    return " ".join(["unset", *names]) if names else ":"


def _exports(variables: Mapping[str, str]) -> Iterator[str]:
    return (f"export {name}={shlex.quote(value)}" for name, value in variables.items())
