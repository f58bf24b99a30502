"""Finds the local cloud that is up, by what it announces in `.local/cloud.json`."""

import functools
import os
import re
import socket
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import msgspec
from botocore.config import Config

from chalicelib.aws import Resources
from ops.project import LOCAL_FOLDER, REGION

# Whatever runs here is open to this machine alone.
HOST = "127.0.0.1"
# Where `chalice local` serves unless another port is given.
LOCAL_PORT = 8000

# boto3 gives every service's client a type of its own, found by name only.
ClientFactory = Callable[[str], Any]

# What is on this machine is asked without the developer's proxy, which would look for it on its own machine.
open_directly = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class CloudFile(msgspec.Struct, frozen=True):
    """The content of .local/cloud.json, for other programs: the attributes of a local cloud that is up."""

    stage: str
    endpoint_url: str
    identity: str
    api_url: str
    region: str
    account_id: str
    resources: Resources
    functions: tuple[str, ...]
    environment: dict[str, str]
    token: str


class _Health(msgspec.Struct):
    edition: str | None = None


def find_cloud(local_folder: Path = LOCAL_FOLDER) -> CloudFile | None:
    """Return what is announced of the local cloud that is running; None when there is none.

    One that was killed leaves its announcement, and another one may be at its address by now.
    """
    try:
        cloud = msgspec.json.decode((local_folder / "cloud.json").read_bytes(), type=CloudFile)
    except (OSError, msgspec.DecodeError):
        return None
    return cloud if read_identity(cloud.endpoint_url) == cloud.identity else None


def client_factory(endpoint_url: str) -> ClientFactory:
    """Return what makes clients of an emulator, one for each service, whatever AWS profile or setting is in force."""
    known = botocore.session.Session.SESSION_VARIABLES
    defaults = {name: (None, None, default, None) for name, (_, _, default, _) in known.items()}
    files = dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))
    session = boto3.Session(
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - not one
        region_name=REGION,
        botocore_session=botocore.session.Session(session_vars=defaults | files),
    )
    # Nor any proxy.
    config = Config(proxies={})
    return functools.cache(functools.partial(session.client, endpoint_url=endpoint_url, config=config))


def read_identity(endpoint_url: str) -> str | None:
    """Return what the health page of the emulator at that address calls it; None when none serves there."""
    try:
        return msgspec.json.decode(fetch(f"{endpoint_url}/_ministack/health") or b"{}", type=_Health).edition
    except msgspec.DecodeError:
        return None


def without_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with which programs ask this machine directly, and others by the proxies that are set."""
    # Some programs read the one, some the other.
    names = ("no_proxy", "NO_PROXY")
    return {name: ",".join(filter(None, [environment.get(name), HOST, "localhost"])) for name in names}


def accepts_connections(port: int) -> bool:
    """Tell whether somebody serves on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def fetch(url: str) -> bytes | None:
    """Return what a URL on this machine serves; None when it serves nothing."""
    try:
        with open_directly(url, timeout=5) as response:
            return bytes(response.read())
    except (OSError, HTTPException):
        return None


def leads_to_this_machine(environment: Mapping[str, str]) -> str | None:
    """Say how to be rid of it where a shell's AWS_* variables still lead to a local cloud; None where they do not."""
    addresses = [value for name, value in environment.items() if name.startswith("AWS_ENDPOINT_URL")]
    if not any(re.match(r"https?://(localhost|127\.[\d.]+|\[::1\])(:|/|$)", address) for address in addresses):
        return None
    # AWS_REGION is not among those that env.sh sets.
    names = sorted(name for name in environment if re.match(r"AWS_(ENDPOINT|ACCESS|SECRET|DEFAULT)_", name))
    way_out = f"`leave_local_cloud`, or `unset {' '.join(names)}`"
    return f"this shell's AWS_ENDPOINT_URL leads to this machine, not to AWS: {way_out}"
