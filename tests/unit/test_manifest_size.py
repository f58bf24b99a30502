"""A manifest stays small, however often runs follow each other and whatever days their measurements are of."""

from msgspec import structs

from tests.factories import MINUTE, NOW, landed
from tests.runs import land, new_player


def test_runs_of_every_minute_name_no_more_files_the_more_of_them_there_were():
    player = new_player()
    interval_minutes = player.settings.archive.interval_minutes
    for minute in range(2 * interval_minutes + 5):
        one = landed(timestamp=NOW + minute * MINUTE)
        land(
            player,
            *(structs.replace(one, delivery=delivery) for delivery in (2 * minute, 2 * minute + 1)),
            number=minute,
        )
        player.run(f"run-{minute}", NOW + minute * MINUTE)
        manifest = player.committed()
        assert len(manifest.spool) <= interval_minutes
        assert len(manifest.entries) <= 1
        assert len(manifest.duplicates) <= 11
    assert (manifest.totals.measurements, manifest.totals.duplicates) == (2 * interval_minutes + 5,) * 2
