"""A batch of readings: which of them are taken, and how their answers become that of the batch."""

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from chalicelib.ingest.readings import Answer, BatchAnswer, Reading, Rejection


class SortedBatch(Struct, frozen=True):
    """The readings to take, each once, and for each reading of the batch the one that it is, or its rejection."""

    readings: list[Reading]
    entries: list[Reading | Rejection]

    def answer(self, answers: Sequence[Answer]) -> BatchAnswer:
        """Answer the batch, given an answer to each of the readings that are taken."""
        # By object, for two readings that nothing but their content identifies may be equal.
        by_reading = dict(zip(map(id, self.readings), answers, strict=True))
        return BatchAnswer.of(
            [entry if isinstance(entry, Rejection) else by_reading[id(entry)] for entry in self.entries]
        )


def sort_out(checked: Sequence[Reading | Rejection], may_post: Callable[[str], bool]) -> SortedBatch:
    """Keep the readings of locations that the caller may post for, the first of those that are the same."""
    readings: list[Reading] = []
    entries: list[Reading | Rejection] = []
    firsts: dict[tuple[Any, ...], tuple[int, Reading]] = {}
    for index, item in enumerate(checked):
        entry: Reading | Rejection = item
        if isinstance(item, Reading) and not may_post(item.location_id):
            entry = Rejection(f"readings[{index}].location_id: the token is not for this location")
        elif isinstance(item, Reading):
            first_index, entry = (index, item) if item.is_anonymous else firsts.setdefault(item.identity, (index, item))
            if first_index == index:
                readings.append(item)
            elif entry.content != item.content:
                reason = f"the same reading as readings[{first_index}], with another value or location"
                entry = Rejection(f"readings[{index}]: {reason}")
        entries.append(entry)
    return SortedBatch(readings, entries)
