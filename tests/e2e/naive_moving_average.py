"""Computes the moving averages of `out/` again, from the accepted rows of readings.csv, by the naive definition.

`python tests/e2e/naive_moving_average.py out` prints the greatest difference to out/reports/ and fails above 1e-9.
Shares no code with the application.
"""

import csv
import json
import math
import sys
from datetime import datetime, timedelta
from pathlib import Path

TOLERANCE_CELSIUS = 1e-9


def accepted_temperatures(readings: Path) -> dict[str, dict[datetime, list[float]]]:
    """Return location -> minute -> temperatures of the readings that the API answered with a temperature."""
    by_location: dict[str, dict[datetime, list[float]]] = {}
    seen = set()
    with readings.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["http_status"] != "200" or not row["temperature"]:
                continue
            key = (row["location_id"], row["sensor_id"], row["timestamp"])
            if key in seen:
                continue
            seen.add(key)
            minute = datetime.fromisoformat(row["timestamp"]).replace(second=0, microsecond=0)
            minutes = by_location.setdefault(row["location_id"], {})
            minutes.setdefault(minute, []).append(float(row["temperature"]))
    return by_location


def moving_average(minutes: dict[datetime, list[float]], minute: datetime, window_minutes: int) -> float:
    """Return the mean of all temperatures in the window that ends with the minute."""
    window = [t for back in range(window_minutes) for t in minutes.get(minute - timedelta(minutes=back), [])]
    return math.fsum(window) / len(window)


def greatest_difference(out: Path) -> float:
    """Return the greatest difference in °C between reports and recomputation; raises AssertionError on a gap."""
    expected = accepted_temperatures(out / "readings.csv")
    reports = {path.stem: json.loads(path.read_text()) for path in (out / "reports").glob("*.json")}
    assert reports.keys() == expected.keys(), f"locations {sorted(reports)} instead of {sorted(expected)}"
    differences = [0.0]
    for location, report in reports.items():
        minutes = expected[location]
        reported = {datetime.fromisoformat(one["timestamp"]): one for one in report["minutes"]}
        assert reported.keys() == minutes.keys(), f"location {location}: other minutes than expected"
        for minute, one in reported.items():
            assert one["count"] == len(minutes[minute]), f"location {location}: {minute} counts {one['count']}"
            average = moving_average(minutes, minute, report["window_minutes"])
            differences.append(abs(one["moving_average"] - average))
            differences.append(abs(one["mean"] - math.fsum(minutes[minute]) / len(minutes[minute])))
    return max(differences)


if __name__ == "__main__":
    difference = greatest_difference(Path(sys.argv[1]))
    print(f"greatest difference {difference:.3g} °C")
    sys.exit(difference > TOLERANCE_CELSIUS)
