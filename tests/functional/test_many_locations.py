"""A run over more locations than any answer could list."""

from datetime import timedelta
from pathlib import Path
from uuid import UUID

import msgspec

from chalicelib.landing import encode_landing, landing_key
from tests.crash_harness import START, World
from tests.factories import landed

LOCATIONS = 2_000


def test_the_receivers_answer_stays_small_however_many_locations_there_are(tmp_path: Path) -> None:
    world = World(tmp_path)
    lines = [
        landed(sensor_id=str(number), location_id=f"location-{number}", timestamp=START - timedelta(seconds=number))
        for number in range(LOCATIONS)
    ]
    world.s3.put_object(Bucket="", Key=landing_key(START, UUID(int=0)), Body=encode_landing(lines))
    answer = world.prepare("run-1")
    assert len(msgspec.json.encode(answer)) < 1_000
    assert len(msgspec.json.decode(world.s3.objects[answer.locations_key])) == LOCATIONS
