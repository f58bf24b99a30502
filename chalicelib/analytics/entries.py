"""Entries: which parts of the spool are handed over to the archive in which file, as manifests decide it.

What is decided is done after the commit, by the claims that follow, and never changes.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import NamedTuple

from chalicelib.fields import format_time
from chalicelib.ledger import RUN_ID, Entry, Manifest, Part, run_number, run_of
from chalicelib.settings import ArchiveSettings

ARCHIVE_PREFIX = "archive/"

# A day's rows come in until then, early and late ones apart.
_PAST_AFTER = timedelta(hours=3)
_PAST_PARTS_MAX = 100

_SECOND = r"\d{8}T\d{6}Z"
_NAME = re.compile(
    rf"archive/date=\d{{4}}-\d\d-\d\d/(?P<run>{RUN_ID})_(?P<first>{_SECOND})_(?P<last>{_SECOND})"
    r"_(?P<shard>\d{1,3}of\d{1,3})_\d+\.parquet"
)


class HandOver(NamedTuple):
    """What a manifest decides: its new entries, the parts that stay in the spool, and when entries were last added.

    The times are as in the manifest.
    """

    entries: list[Entry]
    spool: list[Part]
    handed_over_at: str
    late_handed_over_at: str


class ArchiveName(NamedTuple):
    """What the key of an archive file tells: which run decided it, and the first and last second of its rows."""

    run_id: str
    first: str
    last: str
    shard: str


def decide_entries(
    previous: Manifest, counted: list[Part], settings: ArchiveSettings, run_id: str, started_at: datetime
) -> HandOver:
    """Decide which parts of the spool a run hands over, those with what it has counted itself among them.

    Parts of past days, for which rows come in slowly, are handed over once a day, those of a day that has many at
    once, and all others in every interval.
    """
    parts = [*previous.spool, *counted]
    # By when they came: what came while its day was current does not wait for the next day, after an outage either.
    past = _of_past_days(previous.spool, datetime.fromisoformat(previous.created_at))
    past |= _of_past_days(counted, started_at)
    current = {part.key for part in parts} - past
    many = Counter(part.date for part in parts if part.key in past)
    due = {part.key for part in parts if many[part.date] >= _PAST_PARTS_MAX} & past
    handed_over_at, late_handed_over_at = previous.handed_over_at, previous.late_handed_over_at
    if current and _slot(started_at, settings) != _slot(datetime.fromisoformat(handed_over_at), settings):
        due |= current
        handed_over_at = format_time(started_at)
    if past and _day(started_at) != _day(datetime.fromisoformat(late_handed_over_at)):
        due |= past
        late_handed_over_at = format_time(started_at)
    taken = [part for part in parts if part.key in due]
    return HandOver(
        list(_entries(taken, settings.entry_rows, run_id, format_time(started_at))),
        [part for part in parts if part.key not in due],
        handed_over_at,
        late_handed_over_at,
    )


def _of_past_days(parts: Iterable[Part], time: datetime) -> set[str]:
    """Return the keys of parts whose day had ended a while before they came at some time."""
    past_before = _day(time - _PAST_AFTER).isoformat()
    return {part.key for part in parts if part.date < past_before}


def _day(time: datetime) -> date:
    return time.astimezone(UTC).date()


def _slot(time: datetime, settings: ArchiveSettings) -> int:
    return int(time.timestamp()) // (60 * settings.interval_minutes)


def _entries(parts: list[Part], rows_max: int, run_id: str, decided_at: str) -> Iterator[Entry]:
    """Yield an entry of each day and shard, or several where one would have too many rows."""
    number = 0
    by_day = sorted(parts, key=lambda part: (part.date, part.shard, part.first, part.key))
    for (day, shard), days_parts in groupby(by_day, key=lambda part: (part.date, part.shard)):
        for some in _packed(days_parts, rows_max):
            first, last = min(part.first for part in some), max(part.last for part in some)
            key = f"{ARCHIVE_PREFIX}date={day}/{run_id}_{first}_{last}_{shard}_{number}.parquet"
            yield Entry(key, some, sum(part.rows for part in some), decided_at)
            number += 1


def _packed(parts: Iterable[Part], rows_max: int) -> Iterator[list[Part]]:
    some: list[Part] = []
    for part in parts:
        if some and sum(one.rows for one in some) + part.rows > rows_max:
            yield some
            some = []
        some.append(part)
    yield some


def read_archive_key(key: str) -> ArchiveName | None:
    """Return what the key of an archive file tells, None of a file that no run has written."""
    found = _NAME.fullmatch(key)
    return ArchiveName(found["run"], found["first"], found["last"], found["shard"]) if found else None


def archived_through(spool: Iterable[Part], entries: Iterable[Entry], run_id: str) -> int:
    """Return the number of the last run, up to this one, of which every row is in the archive."""
    waiting = [*spool, *(part for entry in entries for part in entry.parts)]
    return min((run_number(run_of(part.key)) - 1 for part in waiting), default=run_number(run_id))
