"""What sensors of a stage in memory have sent, and landing objects that are not as they were."""

from datetime import timedelta
from typing import Any

from msgspec import structs

from chalicelib.fields import format_time
from chalicelib.landing import encode_landing, landing_key
from tests.crash_harness import World
from tests.factories import NOW, landed, measurement_fields


def measurement(sensor: str, minute: float, temperature: float = 20.0) -> dict[str, Any]:
    """Return a queued measurement of sensor `<location><number>`, `minute` minutes after half an hour ago."""
    return measurement_fields(
        sensor_id=sensor,
        location_id=sensor[0],
        temperature=temperature + minute / 7,
        value=2_000 - temperature,
        timestamp=format_time(NOW + timedelta(minutes=minute - 30)),
    )


def damaged_object(world: World) -> str:
    """Land three measurements of a message of their own, and lose the end of their object; return its key."""
    lines = [structs.replace(landed(f"d{place}", "d"), delivery=0, place=place) for place in range(3)]
    content = encode_landing(lines)
    key = landing_key(NOW, lines, content, is_late=False)
    world.store.put(key, content[:-12])
    world.accepted_elsewhere += len(lines)
    return key
