"""Mints bearer tokens with a stage's signing key: the running local cloud's, or that of the stage on AWS."""

import math
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.api.access import ALL_LOCATIONS, Scope
from chalicelib.api.tokens import (
    ALGORITHM,
    LOCATIONS_MAX,
    SUBJECT_CHARACTERS_MAX,
    TOKEN_CHARACTERS_MAX,
    signing_keys_parameter,
)
from chalicelib.errors import ThermonetError, ValidationError
from chalicelib.fields import parse_id
from ops.running_cloud import client_factory, leads_to_this_machine
from ops.stages import aws_session, local_cloud_of

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


def read_token(file: Path | None, from_environment: str | None) -> str | None:
    """Return the token in the file, else the environment's, None when there is neither; raises ValidationError."""
    if file is None:
        return from_environment or None
    try:
        return file.read_text(encoding="utf-8").strip() or None
    except UnicodeDecodeError:
        raise ValidationError(f"{file}: not text") from None


def check_token(token: str) -> None:
    """Raise ValidationError for what is no token that a header could have."""
    if not re.fullmatch(r"[A-Za-z0-9._~+/=-]+", token):
        raise ValidationError("token: must be one line of letters, digits and ._~+/=-")


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


@dataclass(frozen=True)
class KeySource:
    """Where the keys of a stage are: in the running local cloud if it has that stage, else on AWS."""

    stage: str
    environment: Mapping[str, str]
    use_aws: bool

    def read(self) -> tuple[str, dict[str, str]]:
        """Return whose keys they are, and the keys; raises TokenError when they cannot be read."""
        if cloud := local_cloud_of(self.stage, use_aws=self.use_aws):
            ssm = client_factory(cloud.endpoint_url)("ssm")
            return f"the local cloud at {cloud.endpoint_url}", read_keys(self.stage, ssm)
        try:
            return f"stage {self.stage} on AWS", self._read_on_aws()
        except TokenError as error:
            if self.use_aws:
                raise
            here = f"no local cloud of stage {self.stage} runs here: start one with `make cloud`"
            raise TokenError(f"{here}; nor on AWS: {error}") from None

    def _read_on_aws(self) -> dict[str, str]:
        if complaint := leads_to_this_machine(self.environment):
            raise TokenError(complaint)
        try:
            return read_keys(self.stage, aws_session(self.environment).client("ssm"))
        except (BotoCoreError, ClientError) as error:
            needed = "set AWS_REGION, and sign in or set AWS_PROFILE"
            raise TokenError(f"the signing keys of stage {self.stage} cannot be read: {error}; {needed}") from None


def print_token(source: KeySource, subject: str, locations: Sequence[str], scopes: Sequence[str], days: float) -> int:
    """Print a token, and on standard error whose key has signed it; returns 0.

    Raises ValidationError for what no token could say, TokenError when the keys cannot be read.
    """
    if not (0 < len(subject) <= SUBJECT_CHARACTERS_MAX and subject.isprintable()):
        example = "`make token SUBJECT=gateway-7`, or --subject gateway-7"
        rule = f"say in 1 to {SUBJECT_CHARACTERS_MAX} printable characters whom it is for"
        raise ValidationError(f"subject: {rule}: {example}")
    locations = [one if one == ALL_LOCATIONS else parse_id("location", one) for one in locations]
    if not (math.isfinite(days) and 0 < days <= _DAYS_MAX):
        raise ValidationError(f"days: must be more than 0 and at most {_DAYS_MAX}")
    signer, keys = source.read()
    token = mint_token(keys, subject, scopes=scopes, locations=locations, lifetime_seconds=days * DAY_SECONDS)
    if len(locations) > LOCATIONS_MAX or len(token) > TOKEN_CHARACTERS_MAX:
        raise ValidationError("location: more than fit a token: mint several tokens")
    print(f"signed for {signer}", file=sys.stderr)
    print(token)
    return 0
