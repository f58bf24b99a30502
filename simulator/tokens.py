"""Mints bearer tokens with a stage's signing key."""

import time
from collections.abc import Sequence
from typing import Any

import jwt
import msgspec

from chalicelib.access import ALL_LOCATIONS, Scope
from chalicelib.errors import ThermonetError
from chalicelib.tokens import ALGORITHM, signing_keys_parameter

DAY_SECONDS = 86_400


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
