"""Bearer tokens: which are authentic, by the stage's signing keys. HS256 and nothing else."""

import hashlib
import logging
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated

from botocore.exceptions import BotoCoreError, ClientError
from msgspec import Meta, Struct

from chalicelib.api.access import Access, Scope
from chalicelib.errors import NotAuthenticatedError, ServiceUnavailableError, ValidationError
from chalicelib.fields import ID_LENGTH_MAX
from chalicelib.validation import convert, decode_body, decode_json

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient

ALGORITHM = "HS256"
# A key that was taken out of the parameter is refused after this long.
_KEYS_KEPT_SECONDS = 300.0
# A flood of tokens with made-up key ids must not become a flood of calls.
_KEYS_RENEWED_SECONDS_MIN = 30.0
TOKEN_CHARACTERS_MAX = 8_192
SUBJECT_CHARACTERS_MAX = 128
LOCATIONS_MAX = 1_000
# RFC 7518 wants a key no shorter than the hash.
_SECRET_BYTES_MIN = hashlib.sha256().digest_size

logger = logging.getLogger(__name__)

# Up to the last second that a date can name, which milliseconds by mistake are beyond.
_Time = Annotated[float, Meta(ge=0, le=253_402_300_799)]
# Longer numbers are no ids, and Python takes its time to write them.
_LocationNumber = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_LocationText = Annotated[str, Meta(pattern=rf"^([A-Za-z0-9_.:-]{{1,{ID_LENGTH_MAX}}}|\*)\Z")]


class Claims(Struct, frozen=True):
    """The claims that Thermonet reads, times in seconds since the epoch; further ones are the issuer's own business."""

    sub: Annotated[str, Meta(min_length=1, max_length=SUBJECT_CHARACTERS_MAX)]
    exp: _Time
    scope: str
    locations: Annotated[list[_LocationNumber | _LocationText], Meta(max_length=LOCATIONS_MAX)]
    nbf: _Time = 0.0
    iat: _Time = 0.0


def signing_keys_parameter(stage: str) -> str:
    """Name the SSM parameter that holds a stage's keys."""
    return f"/thermonet/{stage}/signing-keys"


class SigningKeys:
    """The stage's keys by key id, read from SSM when needed and kept for some minutes."""

    def __init__(self, parameter_name: str, ssm: "SSMClient", clock: Callable[[], float]) -> None:
        self._parameter_name = parameter_name
        self._ssm = ssm
        self._clock = clock
        self._keys: dict[str, str] = {}
        self._read_at = -math.inf
        self._outdated = False

    def find(self, key_id: str | None) -> Iterable[str]:
        """Return the key of that id, or every key when a token names none.

        Raises ServiceUnavailableError when there are no keys yet and none can be read.
        """
        hurry = self._outdated or (key_id is not None and key_id not in self._keys)
        if self._clock() - self._read_at >= (_KEYS_RENEWED_SECONDS_MIN if hurry else _KEYS_KEPT_SECONDS):
            self._read()
        return tuple(self._keys.values()) if key_id is None else tuple(filter(None, [self._keys.get(key_id)]))

    def require_current(self) -> None:
        """Raise ServiceUnavailableError when the keys are old ones: there may be others, that they know nothing of."""
        if self._outdated:
            raise ServiceUnavailableError("the signing keys cannot be read again")

    def _read(self) -> None:
        try:
            parameter = self._ssm.get_parameter(Name=self._parameter_name, WithDecryption=True)
            keys = decode_json(parameter["Parameter"]["Value"], dict[str, str], self._parameter_name)
        except (BotoCoreError, ClientError, ServiceUnavailableError) as error:
            if not self._keys:
                raise ServiceUnavailableError("the signing keys cannot be read") from error
            logger.exception("the signing keys cannot be read again; those from before are used on")
            self._outdated = True
        else:
            self._keys = {key_id: secret for key_id, secret in keys.items() if len(secret) >= _SECRET_BYTES_MIN}
            self._outdated = False
            if not self._keys:
                raise ServiceUnavailableError(f"{self._parameter_name}: no key has {_SECRET_BYTES_MIN} characters")
        self._read_at = self._clock()


class Tokens:
    """Authenticates tokens. What depends on the time or the request is left to the routes."""

    def __init__(self, keys: SigningKeys) -> None:
        self._keys = keys

    def authenticate(self, authorization: str) -> Access:
        """Return what the token of an `Authorization` header allows, also when it has expired or is not valid yet.

        Raises NotAuthenticatedError for anything but `Bearer` and a token that a signing key has signed,
        ServiceUnavailableError when keys that could tell cannot be read.
        """
        scheme, _, token = authorization.strip().partition(" ")
        if scheme.lower() != "bearer" or not 0 < len(token) <= TOKEN_CHARACTERS_MAX:
            raise NotAuthenticatedError("token: must be given as `Authorization: Bearer <token>`")
        try:
            claims = convert(decode_body(self._verify(token)), Claims)
        except ValidationError as error:
            raise NotAuthenticatedError(f"token: {str(error).removeprefix('body: ')}") from None
        # Only what the routes know, so that the gateway is not told more than the 8 KB that it may pass on.
        scopes = frozenset(Scope).intersection(claims.scope.split())
        locations = frozenset(str(location) for location in claims.locations)
        return Access(claims.sub, claims.exp, scopes, locations, claims.nbf, claims.iat)

    def _verify(self, token: str) -> bytes:
        # Only the authorizer's process pays for this import.
        import jwt  # noqa: PLC0415

        try:
            key_id = jwt.get_unverified_header(token).get("kid")
            for secret in self._keys.find(key_id):
                try:
                    # The signature alone: the library would judge times too, and what it lets through may break others.
                    return bytes(jwt.PyJWS().decode(token, secret, algorithms=[ALGORITHM]))
                except jwt.InvalidSignatureError:
                    continue
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise NotAuthenticatedError(f"token: not valid: {type(error).__name__}") from None
        self._keys.require_current()
        raise NotAuthenticatedError("token: no current key has signed it")
