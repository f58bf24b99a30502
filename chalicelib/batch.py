"""A batch of readings: what of it is taken, and how its results are told and remembered."""

import base64
import zlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from chalicelib.access import Access
from chalicelib.idempotency import content_of, identity_of, is_anonymous
from chalicelib.readings import Answer, Reading
from chalicelib.thermistor import Status


class SortedBatch(Struct, frozen=True):
    """The readings to take, each once, and for each place of the batch its index among them or why it is rejected."""

    readings: list[Reading]
    places: list[int | str]

    def results(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """Tell each place's result, given an answer to each of the readings, and how many there are of each kind."""
        told: list[Any] = [msgspec.to_builtins(answer) for answer in answers]
        results = [{"error": place} if isinstance(place, str) else told[place] for place in self.places]
        taken = [answers[place] for place in self.places if isinstance(place, int)]
        broken = sum(answer.status is Status.BROKEN for answer in taken)
        return {
            "results": results,
            "accepted": len(taken) - broken,
            "broken": broken,
            "rejected": len(results) - len(taken),
        }


class _PackedAnswer(Struct, frozen=True, array_like=True):
    """An answer without what its reading tells anyway; the time is there unless every repetition has the same."""

    temperature: float | None
    status: Status
    timestamp: datetime | None


def sort_out(checked: Sequence[Reading | str], access: Access) -> SortedBatch:
    """Keep the readings that the access allows, the first of those that are the same."""
    readings: list[Reading] = []
    places: list[int | str] = []
    first_places: dict[tuple[Any, ...], int] = {}
    for place, reading in enumerate(checked):
        if isinstance(reading, str):
            places.append(reading)
        elif not access.allows(reading.location_id):
            places.append(f"readings[{place}].location_id: the token is not for this location")
        elif is_anonymous(reading) or (first := first_places.setdefault(tuple(identity_of(reading)), place)) == place:
            places.append(len(readings))
            readings.append(reading)
        else:
            places.append(_same_as(first, place, reading, checked[first], places))
    return SortedBatch(readings, places)


def _same_as(first: int, place: int, reading: Reading, earlier: Reading | str, places: list[int | str]) -> int | str:
    """Give a repeated reading the place of the first one, if it says the same."""
    if isinstance(earlier, Reading) and content_of(earlier) == content_of(reading):
        return places[first]
    return f"readings[{place}]: the same reading as readings[{first}], with another value or location"


def pack_answers(readings: Sequence[Reading], answers: Sequence[Answer]) -> dict[str, Any]:
    """Write the answers small: DynamoDB charges for each kilobyte that is remembered."""
    packed = [
        _PackedAnswer(answer.temperature, answer.status, None if _is_known_by_time(reading) else answer.timestamp)
        for reading, answer in zip(readings, answers, strict=True)
    ]
    # Level 1 is five times as fast as the usual one, for a tenth more bytes.
    compressed = zlib.compress(msgspec.json.encode(packed), level=1)
    return {"answers": base64.b64encode(compressed).decode()}


def unpack_answers(readings: Sequence[Reading], packed: dict[str, Any]) -> list[Answer]:
    """Read what `pack_answers` has written for the same readings."""
    encoded = zlib.decompress(base64.b64decode(packed["answers"]))
    answers = msgspec.json.decode(encoded, type=list[_PackedAnswer])
    return [
        Answer(reading.sensor_id, reading.location_id, one.temperature, one.status, timestamp)
        for reading, one in zip(readings, answers, strict=True)
        if (timestamp := one.timestamp or reading.timestamp)
    ]


def _is_known_by_time(reading: Reading) -> bool:
    """Tell whether a repetition of the reading has the same time, else it would be another one."""
    return reading.timestamp is not None and reading.reading_id is None


def tally_of(answer: dict[str, Any]) -> dict[str, int]:
    """Count the readings that an answer, to one or to a batch, tells to be accepted, broken and rejected."""
    if "results" in answer:
        return {fate: answer[fate] for fate in ("accepted", "broken", "rejected")}
    broken = int(answer["status"] == Status.BROKEN)
    return {"accepted": 1 - broken, "broken": broken, "rejected": 0}
