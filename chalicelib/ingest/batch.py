"""A batch of readings: which of them are taken, and how their answers become that of the batch."""

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from chalicelib.ingest.readings import Answer, BatchAnswer, Reading, Rejection


class Taken(Struct, frozen=True):
    """A reading of a batch that is taken, by its index among those that are."""

    index: int


class SortedBatch(Struct, frozen=True):
    """The readings to take, each once, and for each reading of the batch which of them it is, or its rejection."""

    readings: list[Reading]
    entries: list[Taken | Rejection]

    def answer(self, answers: Sequence[Answer]) -> BatchAnswer:
        """Answer the batch, given an answer to each of the readings that are taken."""
        return BatchAnswer.of([answers[entry.index] if isinstance(entry, Taken) else entry for entry in self.entries])


def sort_out(checked: Sequence[Reading | Rejection], may_post: Callable[[str], bool]) -> SortedBatch:
    """Keep the readings of locations that the caller may post for, the first of those that are the same."""
    readings: list[Reading] = []
    entries: list[Taken | Rejection] = []
    firsts: dict[tuple[Any, ...], tuple[int, Reading]] = {}
    for index, item in enumerate(checked):
        if isinstance(item, Rejection):
            entries.append(item)
            continue
        if not may_post(item.location_id):
            entries.append(Rejection(f"readings[{index}].location_id: the token is not for this location"))
            continue
        first_index, first = (index, item) if item.is_anonymous else firsts.setdefault(item.identity, (index, item))
        if first_index == index:
            entries.append(Taken(len(readings)))
            readings.append(item)
        elif first.content == item.content:
            entries.append(entries[first_index])
        else:
            reason = f"the same reading as readings[{first_index}], with another value or location"
            entries.append(Rejection(f"readings[{index}]: {reason}"))
    return SortedBatch(readings, entries)
