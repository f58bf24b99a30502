"""What a run asks of AWS: as many calls as its locations and objects need, and no more the more there were before."""

from tests.crash_harness import World
from tests.factories import HOUR, MINUTE, NOW, measurement_fields
from tests.fake_s3 import FakeS3

LOCATIONS, OBJECTS = 8, 3
# The file that the claim reads and the one that it writes, of what the run before has handed over.
ARCHIVE_CALLS = 2


def calls_of(world, number):
    """Land an hour's measurements and play its run; return the calls that it makes."""
    started_at = NOW + number * HOUR
    world.now = started_at
    for part in range(OBJECTS):
        measured_at = started_at - (20 * part + 5) * MINUTE
        fields = [(f"s{location}", f"l{location}") for location in range(LOCATIONS)]
        world.send(
            f"m{number}-{part}",
            [
                measurement_fields(sensor_id=sensor, location_id=location, timestamp=measured_at.isoformat())
                for sensor, location in fields
            ],
        )
        world.consume()
    world.call_log.clear()
    assert world.run(f"run-{number}", started_at).status == "SUCCEEDED"
    return len(world.call_log)


def test_an_hourly_run_of_eight_locations_makes_73_calls_and_two_for_the_archive_however_many_went_before(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(FakeS3, "_PAGE", 1_000)
    world = World(tmp_path)
    calls = [calls_of(world, number) for number in range(14)]
    assert calls[2:] == [73 + ARCHIVE_CALLS] * 12
