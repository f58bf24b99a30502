"""The settings of a stage: one frozen, bounded value read from chalicelib/config/<stage>.yaml."""

import re
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from chalicelib.calibration import DEFAULT_TYPE, ThermistorType
from chalicelib.errors import ValidationError
from chalicelib.fields import IdText
from chalicelib.thermistor import Status, StatusLimits
from chalicelib.validation import load_yaml

CONFIG_FOLDER = Path(__file__).parent / "config"

# SQS keeps a message invisible for 12 hours at most, and a schedule counts whole minutes.
MessageRetentionSeconds = Annotated[int, Meta(ge=60, le=43_200, multiple_of=60)]

# Anything better is found out by the mail that asks to confirm it.
EmailAddress = Annotated[str, Meta(max_length=254, pattern=r"^[^@\s]+@[^@\s]+\Z")]


class AlertSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The statuses that alert, the seconds for which a sensor then stays quiet about one, and the address for mail.

    `email` is for Terraform, which subscribes it to alerts and alarms; None for nobody.
    """

    statuses: frozenset[Status]
    cooldown_seconds: Annotated[int, Meta(ge=0, le=7 * 86_400)]
    email: EmailAddress | None


class IdempotencySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The seconds for which a reading is remembered, with an identity of its own and without."""

    expires_after_seconds: Annotated[int, Meta(ge=60, le=30 * 86_400)]
    anonymous_window_seconds: Annotated[int, Meta(ge=1, le=3_600)]


class LimitSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The locations that may be registered, and the sensors of each that are not retired."""

    locations: Annotated[int, Meta(ge=1, le=20_000)]
    sensors_per_location: Annotated[int, Meta(ge=1, le=100_000)]


class ApiSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The requests that API Gateway lets through, in the long run and at once. It answers 429 to the rest."""

    requests_per_second: Annotated[int, Meta(ge=1, le=10_000)]
    burst_requests: Annotated[int, Meta(ge=1, le=5_000)]


class AnalyticsSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The time that reports cover, and the concurrency and memory that the workflow may use."""

    window_minutes: Annotated[int, Meta(ge=1, le=1_440)]
    history_hours: Annotated[int, Meta(ge=1, le=168)]
    max_concurrency: Annotated[int, Meta(ge=1, le=1_000)]
    duckdb_memory_limit_mb: Annotated[int, Meta(ge=100, le=8_192)]


class IngestSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How old a measurement may be when it is posted; what was accepted is counted, however long it then takes."""

    accepted_age_hours: Annotated[int, Meta(ge=1, le=720)]


class ArchiveSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The minutes after which measurements are handed over to the archive, and the rows of one of its files."""

    interval_minutes: Annotated[int, Meta(ge=1, le=1_440)]
    # Parts and file are in Lambda's /tmp together: 180 MB, and what does not fit into DuckDB's memory beside them. Of
    # ten million rows they take more than the 512 MB that there are.
    entry_rows: Annotated[int, Meta(ge=1_000, le=5_000_000)]


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that may differ between stages."""

    message_retention_seconds: MessageRetentionSeconds
    api: ApiSettings
    signing_key_version: Annotated[int, Meta(ge=1, le=1_000_000)]
    thermistors: Annotated[dict[IdText, ThermistorType], Meta(max_length=100)]
    status_below_celsius: StatusLimits
    limits: LimitSettings
    alerts: AlertSettings
    idempotency: IdempotencySettings
    ingest: IngestSettings
    analytics: AnalyticsSettings
    archive: ArchiveSettings


def load_settings(stage: str, folder: Path = CONFIG_FOLDER) -> Settings:
    """Read the settings of a stage; raises ValidationError naming file, key and rule."""
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,15}", stage):
        raise ValidationError(f"stage: {stage!r} is not a stage's name")
    path = folder / f"{stage}.yaml"
    settings = load_yaml(path, Settings)
    if DEFAULT_TYPE not in settings.thermistors:
        raise ValidationError(f"{path}: thermistors.{DEFAULT_TYPE}: required, but missing")
    return settings
