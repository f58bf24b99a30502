"""A batch of readings: which of them are taken, and how their answers become that of the batch."""

from collections.abc import Sequence

from msgspec import Struct

from chalicelib.ingest.readings import Answer, BatchAnswer, Reading, Rejection
from chalicelib.ingest.registration import Refused


class SortedBatch(Struct, frozen=True):
    """The readings to take, each once, and for each reading of the batch the one that it is, or its rejection."""

    readings: list[Reading]
    entries: list[Reading | Rejection]

    def answer(self, answers: Sequence[Answer | Refused]) -> BatchAnswer:
        """Answer the batch, given an answer to each of the readings that are taken."""
        # By object, for two readings that nothing but their content identifies may be equal.
        by_reading = dict(zip(map(id, self.readings), answers, strict=True))
        results: list[Answer | Rejection] = []
        for index, entry in enumerate(self.entries):
            answer = entry if isinstance(entry, Rejection) else by_reading[id(entry)]
            results.append(Rejection(f"readings[{index}].{answer.reason}") if isinstance(answer, Refused) else answer)
        return BatchAnswer.of(results)


def sort_out(checked: Sequence[Reading | Rejection]) -> SortedBatch:
    """Keep the first of readings that are the same; another value of one is an error."""
    readings: list[Reading] = []
    entries: list[Reading | Rejection] = []
    firsts: dict[tuple[str, ...], tuple[int, Reading]] = {}
    for index, item in enumerate(checked):
        entry: Reading | Rejection = item
        if isinstance(item, Reading):
            first_index, entry = (index, item) if item.is_anonymous else firsts.setdefault(item.identity, (index, item))
            if first_index == index:
                readings.append(item)
            elif entry.resistance_ohm != item.resistance_ohm:
                entry = Rejection(
                    f"readings[{index}].value: differs from that of readings[{first_index}], the same reading"
                )
        entries.append(entry)
    return SortedBatch(readings, entries)
