"""A workflow on fakes, for tests of runs: landing measurements, and what was counted."""

from uuid import UUID

from chalicelib.landing import LandedMeasurement, encode_landing, landing_key
from tests.factories import MINUTE, NOW, analytics_settings
from tests.fakes import FakeDynamoDb, FakeObjectStore
from tests.workflow_player import LEDGER_TABLE, WorkflowPlayer


def new_player() -> WorkflowPlayer:
    """Return a workflow on an empty stage with two hours of history."""
    return WorkflowPlayer(analytics_settings(history_hours=2), FakeObjectStore(), FakeDynamoDb({LEDGER_TABLE: "id"}))


def land(player: WorkflowPlayer, *measurements: LandedMeasurement, number: int = 0) -> str:
    """Put a landing object where the consumer would, `number` minutes after NOW; return its key."""
    key = landing_key(NOW + number * MINUTE, UUID(int=number))
    player.store.put(key, encode_landing(list(measurements)))
    return key


def counts(player: WorkflowPlayer) -> dict[str, int]:
    """Return the measurements of each location's committed report."""
    return {location: report.measurements for location, report in player.reports().items()}
