"""A run over more locations than any answer could list."""

import json

from tests.factories import MINUTE, NOW, landed
from tests.runs import land, new_player

# Their names alone are several times as long as the answer may be.
LOCATIONS = 500


def test_the_receivers_answer_stays_small_however_many_locations_there_are() -> None:
    player = new_player()
    lines = [
        landed(sensor_id=str(number), location_id=f"location-{number}", timestamp=NOW - number * MINUTE / 60)
        for number in range(LOCATIONS)
    ]
    land(player, *lines)
    answer = player.start("run-1").advance_to("ReportLocations").plan
    assert len(json.dumps(answer)) < 1_000
    assert len(json.loads(player.store.get(answer["locations_key"]))) == LOCATIONS
