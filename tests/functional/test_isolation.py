"""Whoever has a token for one location changes and sees nothing of another, whatever they send and when."""

from collections import Counter
from typing import Any, NamedTuple

from chalicelib.settings import LimitSettings
from tests.neighbours import ATTACKER, HONEST, RUNS_AT, SENSORS_MAX, attacks, honest_requests
from tests.shared_stage import Answer, play, shared_stage

ATTACKS = 10_000


class Outcome(NamedTuple):
    """What came of requests: by location what was answered and what is there, and what is in common."""

    answers: dict[str, list[Answer]]
    state: dict[str, dict[str, Any]]
    remembered: dict[str, Any]
    totals: Counter[str]

    def statuses(self, location_id):
        return {answer.status for answer in self.answers[location_id]}


def outcome_of(*requests):
    """Send requests, in the order of their times, to a stage of their own."""
    in_order = sorted(requests, key=lambda request: request.at)
    with shared_stage(LimitSettings(locations=2, sensors_per_location=SENSORS_MAX)) as stage:
        answers = play(stage, in_order, RUNS_AT)
        state = {location_id: stage.seen_of(location_id) for location_id in (HONEST, ATTACKER)}
        return Outcome(answers, state, stage.remembered(), stage.totals())


def assert_same(location_id, alone, together):
    """Check that whoever is at a location cannot tell whether the other one is there."""
    for number, (expected, given) in enumerate(
        zip(alone.answers[location_id], together.answers[location_id], strict=True)
    ):
        assert given == expected, f"answer {number} at {location_id}"
    for name, expected in alone.state[location_id].items():
        assert together.state[location_id][name] == expected, f"{name} of {location_id}"


def test_ten_thousand_requests_of_another_location_change_and_show_nothing_of_this_one(monkeypatch):
    # Enough for the honest one, and too few for both: the attacker makes the process forget.
    monkeypatch.setattr("chalicelib.ingest.registry._REMEMBERED_MAX", 12)
    monkeypatch.setattr("chalicelib.ingest.alerts._REMEMBERED_MAX", 25)
    honest = honest_requests()
    attacking = attacks(honest, ATTACKS)
    undisturbed, attack, together = outcome_of(*honest), outcome_of(*attacking), outcome_of(*honest, *attacking)

    assert_same(HONEST, undisturbed, together)
    # That they see the same without the honest ones is more than that no answer has anything of theirs in it.
    assert_same(ATTACKER, attack, together)
    assert together.remembered == undisturbed.remembered | attack.remembered
    assert together.totals == undisturbed.totals + attack.totals
    assert together.totals["locations"] == 2

    # Without these, all that would show little.
    assert undisturbed.statuses(HONEST) == {200, 400, 403, 404, 409}
    assert attack.statuses(ATTACKER) == {200, 400, 403, 404, 405, 409}
    for location_id in (HONEST, ATTACKER):
        state = together.state[location_id]
        assert int(state["counted"]["sensors"]["N"]) >= SENSORS_MAX
        assert len(state["alerts"]) > len(state["quiet"]) > 10
        report = state["reports"][-1]
        assert min(report["measurements"], report["duplicates"]) > 20
        assert report["conflicts"] > 5
