"""A workflow to play, for tests of runs: landing measurements, and what was counted."""

from datetime import datetime
from typing import Any

from msgspec import structs

from chalicelib.landing import LandedMeasurement, encode_landing, landing_key
from chalicelib.ledger import Manifest
from chalicelib.object_store import ObjectStore
from chalicelib.settings import load_settings
from tests.contracts import LEDGER_TABLE
from tests.factories import HOUR, MINUTE, NOW, SETTINGS, analytics_settings, landed
from tests.fake_s3 import FakeObjectStore
from tests.fakes import FakeDynamoDb
from tests.workflow_player import WorkflowPlayer


def new_player(window_minutes: int = 5, history_hours: int = 2) -> WorkflowPlayer:
    """Return a workflow on an empty stage."""
    settings = structs.replace(SETTINGS, analytics=analytics_settings(window_minutes, history_hours))
    return WorkflowPlayer(settings, FakeObjectStore(), FakeDynamoDb({LEDGER_TABLE: "id"}))


def player_on(stage: Any) -> WorkflowPlayer:
    """Return a workflow on the resources of a functional test's stage."""
    store = ObjectStore(stage.resources["bucket"], stage.aws("s3"))
    return WorkflowPlayer(load_settings("dev"), store, stage.aws("dynamodb"))


def commit_run(stage: Any, number: int, *measurements: tuple[str, int, float]) -> Manifest:
    """Run the workflow on a stage over measurements given as (location, minute, temperature)."""
    lines = [
        landed(location, location, temperature, NOW + minute * MINUTE) for location, minute, temperature in measurements
    ]
    player = player_on(stage)
    land(player, *lines, number=number)
    assert player.run(f"execution-{number}", NOW + number * HOUR).status == "SUCCEEDED"
    return player.committed()


def land(player: WorkflowPlayer, *measurements: LandedMeasurement, number: int = 0) -> str:
    """Put a landing object where the consumer would, `number` minutes after NOW; return its key."""
    content = encode_landing(list(measurements))
    key = landing_key(NOW + number * MINUTE, measurements, content, is_late=False)
    player.store.put(key, content)
    return key


def settle(player: WorkflowPlayer, now: datetime = NOW) -> None:
    """Play rounds without input until one has nothing to do: what is due by now is in the archive then."""
    for number in range(5):
        if player.run(f"round-{number}", now).passed[-1] == "NothingToDo":
            return
    raise AssertionError("rounds without input never come to rest")


def counts(player: WorkflowPlayer) -> dict[str, int]:
    """Return the measurements of each location's committed report."""
    return {location: report.measurements for location, report in player.reports().items()}
