"""Whatever somebody else puts into the bucket, or takes out of it: runs go on."""

import pytest

from tests.factories import DAY, NOW, landed
from tests.runs import counts, land, new_player


@pytest.fixture
def player():
    return new_player()


@pytest.mark.parametrize("key", ["runs/", "runs/a", "runs/2026/report.json", "runs/000000000001/manifest.json"])
def test_what_is_no_attempts_stays_below_runs_and_stops_no_claim(player, key):
    player.store.put(key, b"")
    for number in range(2):
        land(player, landed(str(number)), number=number)
        # The second one sweeps.
        assert player.run(f"run-{number}", NOW + number * 8 * DAY).status == "SUCCEEDED"
    assert counts(player) == {"a": 2}
    assert key in player.store.s3.objects
