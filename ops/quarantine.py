"""Looks into quarantine, and brings back what is good of a landing object there."""

from datetime import datetime, timedelta

import msgspec

from chalicelib.errors import ValidationError
from chalicelib.ingest.buffering import Quarantined
from chalicelib.landing import (
    LANDING_PREFIX,
    QUARANTINE_PREFIX,
    LandingName,
    landing_objects,
    read_landing_key,
    salvage_landing,
)
from chalicelib.object_store import ObjectStore
from chalicelib.quarantine_count import QuarantineCount

# Where an object is kept from which all that is good has been brought back.
_RESTORED_PREFIX = f"{QUARANTINE_PREFIX}restored/"
# Each message is read for its reason.
_LISTED_MAX = 200


def list_quarantine(store: ObjectStore) -> int:
    """Print what is in quarantine, and why as far as that is written there; returns 0."""
    keys = [key for key in store.list_keys(QUARANTINE_PREFIX) if not key.startswith(_RESTORED_PREFIX)]
    for key in keys[:_LISTED_MAX]:
        print(f"{key}: {_describe(key, store)}")
    further = f", of which the first {_LISTED_MAX} are listed" if len(keys) > _LISTED_MAX else ""
    print(f"{len(keys)} objects in quarantine{further}")
    return 0


def restore(key: str, store: ObjectStore, count: QuarantineCount, now: datetime) -> int:
    """Land the good lines of an object in quarantine again and count it as brought back, once however often it is done.

    Returns 1 when it has no good line; raises ValidationError for what is no landing object, ObjectNotFoundError.
    """
    file_name = key.rpartition("/")[2]
    if not key.startswith(QUARANTINE_PREFIX):
        raise ValidationError(f"key: must begin with {QUARANTINE_PREFIX}, as the list without a key shows them")
    if file_name.endswith(".json"):
        raise ValidationError(
            f"{key}: is a message: see its reasons, correct what its body has of them, and post it again"
        )
    name = _read_name(file_name)
    content = store.get(key)
    measurements = salvage_landing(content, name.unique if name else "")
    lost = "unknown" if name is None else max(name.rows - len(measurements), 0)
    if not measurements:
        print(f"{key}: no line is known to be as it was written, so that it stays where it is; lines lost: {lost}")
        return 1
    objects = landing_objects(measurements, _next_landing(file_name) or now)
    store.put_all(objects.items())
    count.brought_back(key, len(measurements))
    # Last, so that whatever is interrupted is still there to be repeated.
    kept = f"{_RESTORED_PREFIX}{file_name}"
    store.put(kept, content)
    store.delete([] if key == kept else [key])
    print(f"{kept}: lines landed again: {len(measurements)}, lost: {lost}", *objects, sep="\n  ")
    return 0


def _describe(key: str, store: ObjectStore) -> str:
    if not key.endswith(".json"):
        name = _read_name(key.rpartition("/")[2])
        lines = "unknown" if name is None else name.rows
        return f"a landing object, lines: {lines}; the log of the run that refused it has the reason"
    try:
        return "a message: " + "; ".join(msgspec.json.decode(store.get(key), type=Quarantined).reasons)
    except msgspec.DecodeError:
        return "unreadable"


def _next_landing(file_name: str) -> datetime | None:
    """Return the microsecond after an object landed, or None if its name tells no time.

    So a repetition writes the same objects, and none of them has the name that a run has refused: a claim sets aside
    and removes whatever has it, and one whose lines are all good would get it.
    """
    try:
        return datetime.strptime(file_name.partition("_")[0], "%Y%m%dT%H%M%S.%f%z") + timedelta(microseconds=1)
    except (ValueError, OverflowError):
        return None


def _read_name(file_name: str) -> LandingName | None:
    try:
        return read_landing_key(f"{LANDING_PREFIX}{file_name}")
    except ValidationError:
        return None
