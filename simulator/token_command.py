"""The command `token`: mints a token for the local cloud when one runs, else for the stage on AWS."""

import math
import sys
from collections.abc import Sequence

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.access import ALL_LOCATIONS
from chalicelib.errors import ValidationError
from chalicelib.readings import parse_id
from chalicelib.tokens import SUBJECT_CHARACTERS_MAX
from simulator.cloud import client_factory
from simulator.local_cloud import find_cloud
from simulator.tokens import DAY_SECONDS, TokenError, mint_token, read_keys

_DAYS_MAX = 3_660


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
