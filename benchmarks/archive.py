"""Measures the bytes that a measurement takes in the archive, and counts the files that a day makes.

`python benchmarks/archive.py [--json]`: an hour of 8,000 sensors in 8 locations, one measurement a minute with some
milliseconds of jitter, resistances with one decimal, posted singly and in batches of 100, as one file; and a fortnight
of hourly runs of which one row in a hundred is up to a week late.
"""

import argparse
import json
import random
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from msgspec import structs

sys.path.insert(0, str(Path(__file__).parent.parent))

from chalicelib.analytics.archive import write_parts
from chalicelib.analytics.duckdb_session import duckdb_session
from chalicelib.analytics.entries import decide_entries
from chalicelib.calibration import Thermistors
from chalicelib.fields import format_second, format_time
from chalicelib.ledger import NO_MANIFEST, Part, next_run_id
from chalicelib.settings import load_settings
from tests.fake_s3 import FakeObjectStore

LOCATIONS = 8
SENSORS = 8_000
MINUTES = 60
DAYS = 14
LATE_SHARE = 0.01
LATE_MAX = timedelta(days=7)
START = datetime(2026, 1, 31, tzinfo=UTC)

# Resistances tell nothing of one another, which is the worst that can be.
_ROWS = """
CREATE OR REPLACE TABLE incoming AS
SELECT location_id, sensor_id, measured_at, value, 1 / (a + b * ln(value) + c * ln(value) ** 3) - 273.15 AS temperature,
       'OK' AS status, epoch_ms(measured_at) + 40 + (hash(message) % 400)::BIGINT AS queued_at_ms,
       (hash(message) % 2147483648)::INTEGER AS delivery
FROM (
    SELECT (sensor % $locations)::VARCHAR AS location_id, sensor::VARCHAR AS sensor_id,
           TIMESTAMP '2026-01-31 00:00:00'
           + to_milliseconds(minute * 60000 + sensor * 60000 // $sensors + (random() * 20)::BIGINT) AS measured_at,
           round(500 + 9500 * random(), 1) AS value,
           (minute * $sensors + sensor) // $batch AS message, $a AS a, $b AS b, $c AS c
    FROM range($minutes) AS minutes(minute), range($sensors) AS sensors(sensor)
)
"""


def bytes_per_measurement(batch: int) -> float:
    """Return the size of an hourly file, posted in batches of so many, for each of its rows."""
    settings = load_settings("prod")
    coefficients = Thermistors(settings.thermistors).default.coefficients
    store = FakeObjectStore()
    with duckdb_session(settings.analytics.duckdb_memory_limit_mb) as (connection, folder):
        connection.execute("SELECT setseed(0.5)")
        parameters = {"locations": LOCATIONS, "sensors": SENSORS, "minutes": MINUTES, "batch": batch}
        curve = {"a": coefficients.a, "b": coefficients.b, "c": coefficients.c}
        connection.execute(_ROWS, parameters | curve)
        (part,) = write_parts(
            connection, store, "incoming", "runs/1/spool/1", 8_760, settings.archive.entry_rows, folder
        )
    return len(store.get(part.key)) / part.rows


def files_per_day() -> float:
    """Return how many archive files a day of hourly runs makes, on average, when some of the rows are late."""
    settings = load_settings("prod").archive
    chance = random.Random(18)
    previous = NO_MANIFEST
    files = 0
    for hour in range(24 * DAYS):
        # A little after the hour, as runs begin.
        now = START + timedelta(hours=hour, minutes=5)
        run_id = next_run_id(previous.run_id, UUID(int=hour))
        decided = decide_entries(previous, _parts_of_an_hour(run_id, now, chance), settings, run_id, now)
        files += len(decided.entries)
        previous = structs.replace(
            previous,
            run_id=run_id,
            created_at=format_time(now),
            spool=decided.spool,
            handed_over_at=decided.handed_over_at,
            late_handed_over_at=decided.late_handed_over_at,
        )
    return files / DAYS


def _parts_of_an_hour(run_id: str, now: datetime, chance: random.Random) -> list[Part]:
    """Return a part for each day of which a run has rows."""
    times = [now - timedelta(minutes=chance.uniform(0, 60)) for _ in range(SENSORS * MINUTES // 100)]
    times += [now - LATE_MAX * chance.random() for _ in range(round(SENSORS * MINUTES * LATE_SHARE))]
    days: dict[str, list[datetime]] = {}
    for time in times:
        days.setdefault(f"{time:%Y-%m-%d}", []).append(time)
    return [
        Part(
            f"runs/{run_id}/spool/{day}.parquet", len(rows), format_second(min(rows)), format_second(max(rows)), "0of1"
        )
        for day, rows in days.items()
    ]


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--rounds", type=int, help="ignored: once is enough for what does not vary")
    options = parser.parse_args()
    figures = {
        "bytes_batch100": bytes_per_measurement(100),
        "bytes_single": bytes_per_measurement(1),
        "files_per_day": files_per_day(),
    }
    print(f"archive, posted in batches of 100  {figures['bytes_batch100']:6.2f} bytes a measurement")
    print(f"archive, posted singly             {figures['bytes_single']:6.2f} bytes a measurement")
    print(f"archive, 1 % up to a week late     {figures['files_per_day']:6.2f} files a day")
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
