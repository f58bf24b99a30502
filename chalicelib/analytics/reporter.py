"""The workflow's second function: minute means and moving averages of one location."""

from pathlib import Path

import duckdb
import msgspec
from msgspec import structs

from chalicelib.analytics.duckdb_session import duckdb_session
from chalicelib.analytics.workflow import LocationTask, ReportAnswer, ReportRequest
from chalicelib.fields import format_time
from chalicelib.ledger import Counts, state_key
from chalicelib.object_store import ObjectStore
from chalicelib.reports import LocationLatest, Minute, Report, latest_key
from chalicelib.settings import AnalyticsSettings


class Reporter:
    """Writes a location's report from its new measurements and the exact sums behind its previous report.

    The same request gives the same report, so a repeated call changes nothing.
    """

    def __init__(self, settings: AnalyticsSettings, store: ObjectStore, scratch: Path | None = None) -> None:
        self._settings = settings
        self._store = store
        self._scratch = scratch

    def report(self, request: ReportRequest) -> ReportAnswer:
        """Write the report and its sums; raises ObjectNotFoundError when another run has taken the input away."""
        task = request.task
        with duckdb_session(self._settings.duckdb_memory_limit_mb, self._scratch) as (connection, folder):
            self._load(connection, folder, task)
            self._sum_up(connection)
            totals = _totals(connection, task.counts)
            report = Report(
                location_id=task.location_id,
                run_id=request.run_id,
                generated_at=format_time(request.started_at),
                window_minutes=self._settings.window_minutes,
                sensors=connection.execute("SELECT count(*) FROM sensors").fetchall()[0][0],
                measurements=totals.measurements,
                duplicates=totals.duplicates,
                conflicts=totals.conflicts,
                late=totals.late,
                minutes=moving_averages(connection, self._settings),
            )
            state = folder / "state.parquet"
            connection.execute(_WRITE_STATE.format(file=state), structs.asdict(totals))
            self._store.upload([(state_key(task.report_key), state)])
        self._store.put(task.report_key, msgspec.json.encode(report))
        self._store.put(latest_key(request.run_id, _latest(report)), b"")
        return ReportAnswer(task.location_id, task.report_key)

    def _load(self, connection: duckdb.DuckDBPyConnection, folder: Path, task: LocationTask) -> None:
        """Make the location's files the views `fresh` and `previous`, without rows where there is no file."""
        connection.execute(_NO_ROWS)
        for view, key in (("fresh", task.measurements_key), ("previous", task.previous_state_key)):
            if key:
                file = folder / f"{view}.parquet"
                self._store.download([(key, file)])
                # By name: a state of before a column was added is NULL there.
                connection.execute(
                    f"CREATE OR REPLACE VIEW {view} AS FROM no_{view} UNION ALL BY NAME FROM read_parquet('{file}')"
                )

    def _sum_up(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make the tables `minutes` and `sensors`, without what no report can show any more."""
        hours = self._settings.history_hours
        # The windows of the history's first minutes reach back behind it.
        kept_minutes = 60 * hours + self._settings.window_minutes - 1
        connection.execute(_SUM_UP_MINUTES, {"kept_minutes": kept_minutes})
        connection.execute(_SUM_UP_SENSORS, {"hours": hours})


def _latest(report: Report) -> LocationLatest:
    if not report.minutes:
        return LocationLatest(report.location_id, None, None)
    last = report.minutes[-1]
    return LocationLatest(report.location_id, last.timestamp, last.moving_average)


def moving_averages(connection: duckdb.DuckDBPyConnection, settings: AnalyticsSettings) -> list[Minute]:
    """Return the history's minutes of the table `minutes`, each with the mean of the window that ends with it."""
    rows = connection.execute(
        """
        SELECT strftime(minute, '%Y-%m-%dT%H:%M:%S.%gZ'), count, mean, lowest, highest, moving_average FROM (
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
        {"hours": settings.history_hours, "window": settings.window_minutes},
    ).fetchall()
    return [Minute(*row) for row in rows]


def _totals(connection: duckdb.DuckDBPyConnection, new: Counts) -> Counts:
    rows = connection.execute(f"SELECT {_counts('coalesce({0}, 0)')} FROM previous").fetchall()
    return new + Counts(*rows[0]) if rows else new


def _counts(column: str) -> str:
    return ", ".join(column.format(name) for name in Counts.__struct_fields__)


# The state of a location is one row: its counts, its minutes, and its sensors with their latest minute.
_NO_ROWS = f"""
CREATE VIEW no_fresh AS
SELECT NULL::VARCHAR AS sensor_id, NULL::DOUBLE AS temperature, NULL::TIMESTAMP AS measured_at WHERE false;
CREATE VIEW no_previous AS
SELECT {_counts("0 AS {0}")},
       []::STRUCT(minute TIMESTAMP, count BIGINT, total DECIMAL(38, 12), lowest DOUBLE, highest DOUBLE)[] AS minutes,
       []::STRUCT(sensor_id VARCHAR, latest_minute TIMESTAMP)[] AS sensors
WHERE false;
CREATE VIEW fresh AS FROM no_fresh;
CREATE VIEW previous AS FROM no_previous;
"""

# Decimal sums are exact: a minute's mean does not depend on the order or the runs its measurements came in.
_SUM_UP_MINUTES = """
CREATE TABLE minutes AS
SELECT minute, sum(count)::BIGINT AS count, sum(total) AS total, min(lowest) AS lowest, max(highest) AS highest
FROM (
    SELECT date_trunc('minute', measured_at) AS minute, count(*) AS count,
           sum(temperature::DECIMAL(18, 12)) AS total, min(temperature) AS lowest, max(temperature) AS highest
    FROM fresh GROUP BY 1
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
    SELECT sensor_id, date_trunc('minute', max(measured_at)) AS latest_minute FROM fresh GROUP BY 1
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
