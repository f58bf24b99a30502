"""Mints bearer tokens with a stage's signing key: the running local cloud's, or that of the stage on AWS."""

import math
import sys
import time
from collections.abc import Sequence
from typing import Any

import boto3
import jwt
import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.api.access import ALL_LOCATIONS, Scope
from chalicelib.api.tokens import ALGORITHM, SUBJECT_CHARACTERS_MAX, signing_keys_parameter
from chalicelib.errors import ThermonetError, ValidationError
from chalicelib.fields import parse_id
from ops.running_cloud import client_factory, find_cloud

DAY_SECONDS = 86_400
_DAYS_MAX = 3_660


class TokenError(ThermonetError):
    """No token could be minted. Trying again does not help."""


def mint_token(
    keys: dict[str, str],
    subject: str,
    *,
    scopes: Sequence[str] = tuple(Scope),
    locations: Sequence[str] = (ALL_LOCATIONS,),
    lifetime_seconds: float = DAY_SECONDS,
) -> str:
    """Mint a token with the last of the keys, which is the newest; raises TokenError when there is none."""
    if not keys:
        raise TokenError("there is no signing key")
    key_id, secret = list(keys.items())[-1]
    issued_at = int(time.time())
    claims = {
        "sub": subject,
        "iat": issued_at,
        "exp": issued_at + int(lifetime_seconds),
        "scope": " ".join(scopes),
        "locations": list(locations),
    }
    return jwt.encode(claims, secret, ALGORITHM, {"kid": key_id})


def read_keys(stage: str, ssm: Any) -> dict[str, str]:
    """Read a stage's keys from SSM; raises TokenError when there are none."""
    name = signing_keys_parameter(stage)
    try:
        parameter = ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]
        return msgspec.json.decode(parameter["Value"], type=dict[str, str])
    except ssm.exceptions.ParameterNotFound:
        raise TokenError(f"parameter {name} does not exist: is the stage deployed?") from None
    except msgspec.DecodeError as error:
        raise TokenError(f"parameter {name}: {error}") from None


def print_token(
    stage: str, subject: str, locations: Sequence[str], scopes: Sequence[str], days: float, *, use_aws: bool
) -> int:
    """Print a token, and on standard error whose key has signed it; returns 0.

    Raises ValidationError for what no token could say, TokenError when the keys cannot be read.
    """
    if not 0 < len(subject) <= SUBJECT_CHARACTERS_MAX:
        raise ValidationError(f"subject: must have 1 to {SUBJECT_CHARACTERS_MAX} characters")
    locations = [one if one == ALL_LOCATIONS else parse_id("location", one) for one in locations]
    if not (math.isfinite(days) and 0 < days <= _DAYS_MAX):
        raise ValidationError(f"days: must be more than 0 and at most {_DAYS_MAX}")
    cloud = None if use_aws else find_cloud()
    if cloud is not None and cloud.stage != stage:
        cloud = None
    client = client_factory(cloud.endpoint_url) if cloud else boto3.client
    signer = f"the local cloud at {cloud.endpoint_url}" if cloud else f"stage {stage} on AWS"
    try:
        keys = read_keys(stage, client("ssm"))
    except (BotoCoreError, ClientError) as error:
        raise TokenError(f"the signing keys of {signer} cannot be read: {error}") from None
    token = mint_token(keys, subject, scopes=scopes, locations=locations, lifetime_seconds=days * DAY_SECONDS)
    print(f"signed for {signer}", file=sys.stderr)
    print(token)
    return 0
