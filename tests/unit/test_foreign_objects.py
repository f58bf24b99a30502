"""Whatever somebody else puts into the bucket, or takes out of it: runs go on."""

from errno import ENOSPC

import pytest

from chalicelib.ledger import manifest_key, run_folder
from tests.factories import DAY, HOUR, NOW, landed
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


@pytest.mark.parametrize("key", ["landing/", "landing/a/b", "landing/\x01", "landing/" + 508 * "é", "landing/'\"\n"])
def test_what_did_not_land_is_set_aside_whatever_its_name(player, key):
    player.store.put(key, b"")
    land(player, landed())
    for number in range(3):
        assert player.run(f"run-{number}").status == "SUCCEEDED"
    assert counts(player) == {"a": 1}
    assert player.store.list_keys("landing/") == []
    (aside,) = player.store.list_keys("quarantine/")
    assert len(aside.encode()) <= 1_024
    assert key.endswith(aside.removeprefix("quarantine/"))


def test_an_entry_whose_part_is_gone_stops_no_run_and_waits_until_the_part_is_back(player):
    for number in range(2):
        land(player, landed(str(number)), number=number)
        player.run(f"run-{number}", NOW + number * HOUR)
    (entry,) = player.committed().entries
    part = entry.parts[0].key
    content = player.store.get(part)
    player.store.delete([part])
    later = NOW + 2 * HOUR
    land(player, landed("2", timestamp=later), number=2)
    assert player.run("without", later).status == "SUCCEEDED"
    assert player.committed().entries[0] == entry
    player.store.put(part, content)
    assert player.run("with", later).status == "SUCCEEDED"
    assert entry.key in player.store.s3.objects
    assert entry not in player.committed().entries


def test_an_entry_that_no_disk_has_room_for_stops_no_run(player):
    def fill(operation, key):
        if operation == "get" and "/spool/" in key:
            raise OSError(ENOSPC, "No space left on device")

    for number in range(2):
        land(player, landed(str(number)), number=number)
        player.run(f"run-{number}", NOW + number * HOUR)
    (entry,) = player.committed().entries
    player.store.s3.before = fill
    land(player, landed("2", timestamp=NOW + 2 * HOUR), number=2)
    assert player.run("full", NOW + 2 * HOUR).status == "SUCCEEDED"
    assert player.committed().entries[0] == entry


def test_a_manifest_that_somebody_removed_behind_the_heads_stops_no_run(player):
    for number in range(3):
        land(player, landed(str(number)), number=number)
        player.run(f"run-{number}", NOW + number * HOUR)
    del player.store.s3.objects[manifest_key(run_folder(player.committed().previous_run_id))]
    land(player, landed("3"), number=3)
    assert player.run("next", NOW + 3 * HOUR).status == "SUCCEEDED"
    assert player.reports()["a"].measurements == 4
