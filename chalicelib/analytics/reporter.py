"""The workflow's third function: minute means and moving averages of one location."""

from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import duckdb
import msgspec
from msgspec import structs

from chalicelib.analytics.duckdb_session import duckdb_session
from chalicelib.analytics.workflow import LocationTask, ReportAnswer, ReportRequest, ReportScope
from chalicelib.fields import format_time
from chalicelib.ledger import Counts, report_key, short_name, state_key
from chalicelib.object_store import ObjectStore
from chalicelib.reports import LocationLatest, Minute, Outcome, Report, outcome_key


class Reporter:
    """Writes a location's report from its new sums and the exact sums behind its previous report.

    The same request gives the same report, under a name of each try's own.
    """

    def __init__(
        self,
        duckdb_memory_limit_mb: int,
        store: ObjectStore,
        new_uuid: Callable[[], UUID],
        scratch: Path | None = None,
    ) -> None:
        self._duckdb_memory_limit_mb = duckdb_memory_limit_mb
        self._store = store
        self._new_uuid = new_uuid
        self._scratch = scratch

    def report(self, request: ReportRequest) -> ReportAnswer:
        """Write the report and its sums; raises ObjectNotFoundError when another run has taken the input away."""
        task, scope, attempt = request.task, request.scope, short_name(self._new_uuid())
        key = report_key(request.folder, task.location_id, attempt)
        with duckdb_session(self._duckdb_memory_limit_mb, self._scratch) as (connection, folder):
            self._load(connection, folder, task)
            late = _number(connection, _COUNT_LATE)
            _sum_up(connection, scope)
            totals = _totals(connection, task.counts + Counts(late=late))
            report = Report(
                location_id=task.location_id,
                run_id=request.run_id,
                generated_at=format_time(request.started_at),
                window_minutes=scope.window_minutes,
                sensors=_number(connection, "SELECT count(*) FROM sensors"),
                measurements=totals.measurements,
                duplicates=totals.duplicates,
                conflicts=totals.conflicts,
                late=totals.late,
                minutes=moving_averages(connection, scope),
            )
            state = folder / "state.parquet"
            connection.execute(_WRITE_STATE.format(file=state), structs.asdict(totals))
            self._store.upload([(state_key(key), state)])
        self._store.put(key, msgspec.json.encode(report))
        # What counts as reported is what has left this.
        self._store.put(outcome_key(request.run_id, Outcome(attempt, _latest(report), late)), b"")
        return ReportAnswer(task.location_id, key)

    def _load(self, connection: duckdb.DuckDBPyConnection, folder: Path, task: LocationTask) -> None:
        """Make the location's files the views `fresh` and `previous`, without rows where there is no file."""
        connection.execute(_NO_ROWS)
        for view, key in (("fresh", task.increments_key), ("previous", task.previous_state_key)):
            if key:
                file = folder / f"{view}.parquet"
                self._store.download([(key, file)])
                # By name: a state of before a column was added is NULL there.
                connection.execute(
                    f"CREATE OR REPLACE VIEW {view} AS FROM no_{view} UNION ALL BY NAME FROM read_parquet('{file}')"
                )


def _sum_up(connection: duckdb.DuckDBPyConnection, scope: ReportScope) -> None:
    """Make the tables `minutes` and `sensors`, without what no report can show any more."""
    hours = scope.history_hours
    # The windows of the history's first minutes reach back behind it.
    kept_minutes = 60 * hours + scope.window_minutes - 1
    connection.execute(_SUM_UP_MINUTES, {"kept_minutes": kept_minutes})
    connection.execute(_SUM_UP_SENSORS, {"hours": hours})


def _latest(report: Report) -> LocationLatest:
    if not report.minutes:
        return LocationLatest(report.location_id, None, None)
    last = report.minutes[-1]
    return LocationLatest(report.location_id, last.timestamp, last.moving_average)


def moving_averages(connection: duckdb.DuckDBPyConnection, scope: ReportScope) -> list[Minute]:
    """Return the history's minutes of the table `minutes`, each with the mean of the window that ends with it."""
    rows = connection.execute(
        """
        SELECT strftime(minute, '%Y-%m-%dT%H:%M:%S.%gZ'), count, mean, lowest::DOUBLE, highest::DOUBLE, moving_average
        FROM (
            SELECT *, total::DOUBLE / count AS mean,
                   (sum(total) OVER recent)::DOUBLE / (sum(count) OVER recent) AS moving_average
            FROM minutes
            WINDOW recent AS (
                ORDER BY minute RANGE BETWEEN to_minutes($window - 1) PRECEDING AND CURRENT ROW
            )
        )
        WHERE minute > (SELECT max(minute) FROM minutes) - to_hours($hours)
        ORDER BY minute
        """,
        {"hours": scope.history_hours, "window": scope.window_minutes},
    ).fetchall()
    return [Minute(*row) for row in rows]


def _totals(connection: duckdb.DuckDBPyConnection, new: Counts) -> Counts:
    rows = connection.execute(f"SELECT {_counts('coalesce({0}, 0)')} FROM previous").fetchall()
    return new + Counts(*rows[0]) if rows else new


def _counts(column: str) -> str:
    return ", ".join(column.format(name) for name in Counts.__struct_fields__)


# The state of a location is one row: its counts, its minutes, and its sensors with their latest minute. What is fresh
# has a row for each minute, without a sensor, and one for each sensor, with its latest minute and nothing else.
_NO_ROWS = f"""
CREATE VIEW no_fresh AS
SELECT NULL::VARCHAR AS sensor_id, NULL::TIMESTAMP AS minute, 0 AS count, NULL::DECIMAL(38, 12) AS total,
       NULL::DECIMAL(18, 12) AS lowest, NULL::DECIMAL(18, 12) AS highest
WHERE false;
CREATE VIEW no_previous AS
SELECT {_counts("0 AS {0}")},
       []::STRUCT(minute TIMESTAMP, count BIGINT, total DECIMAL(38, 12), lowest DECIMAL(18, 12),
                  highest DECIMAL(18, 12))[] AS minutes,
       []::STRUCT(sensor_id VARCHAR, latest_minute TIMESTAMP)[] AS sensors
WHERE false;
CREATE VIEW fresh AS FROM no_fresh;
CREATE VIEW previous AS FROM no_previous;
"""

_COUNT_LATE = """
SELECT coalesce(sum(count), 0) FROM fresh
WHERE sensor_id IS NULL AND minute < (SELECT max(minute) FROM (SELECT unnest(minutes, recursive := true) FROM previous))
"""

# Decimal sums are exact: a minute's mean does not depend on the order or the runs its measurements came in.
_SUM_UP_MINUTES = """
CREATE TABLE minutes AS
SELECT minute, sum(count)::BIGINT AS count, sum(total) AS total, min(lowest) AS lowest, max(highest) AS highest
FROM (
    SELECT minute, count, total, lowest, highest FROM fresh WHERE sensor_id IS NULL
    UNION ALL
    SELECT unnest(minutes, recursive := true) FROM previous
)
GROUP BY minute
QUALIFY minute > max(minute) OVER () - to_minutes($kept_minutes)
"""

_SUM_UP_SENSORS = """
CREATE TABLE sensors AS
SELECT sensor_id, max(latest_minute) AS latest_minute
FROM (
    SELECT sensor_id, minute AS latest_minute FROM fresh WHERE sensor_id IS NOT NULL
    UNION ALL
    SELECT unnest(sensors, recursive := true) FROM previous
)
GROUP BY sensor_id
HAVING max(latest_minute) > (SELECT max(minute) FROM minutes) - to_hours($hours)
"""

_WRITE_STATE = f"""
COPY (
    SELECT {_counts("${0} AS {0}")},
           (SELECT list(minutes ORDER BY minute) FROM minutes) AS minutes,
           (SELECT list(sensors ORDER BY sensor_id) FROM sensors) AS sensors
) TO '{{file}}' (FORMAT parquet)
"""


def _number(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    return int(connection.execute(query).fetchall()[0][0])
