"""Registers, changes and retires sensors within the limits: how many locations, and how many sensors in each.

Counters in the ledger's table are raised in the transactions that write the rows, so that they are exact whatever
crashes. What is not known before (a row, whether a location is new, how full it is) is assumed, and learned from a
transaction that fails for it.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import UNSET, Struct, UnsetType, structs

from chalicelib.calibration import SensorThermistor
from chalicelib.errors import ServiceUnavailableError
from chalicelib.fields import split_sensor_key
from chalicelib.ingest.sensors import WORKING, Row, Sensor, read_row, write_change
from chalicelib.ingest.transactions import PARTS_MAX, Transactions
from chalicelib.settings import LimitSettings

# The counter of locations, and its attribute.
_LOCATIONS = "locations"
_TRIES_MAX = 6


class Refused(Struct, frozen=True):
    """The reason for which a sensor is not taken: `<field>: <rule>`."""

    reason: str


class Wish(Struct, frozen=True):
    """What a sensor's row shall say; a thermistor that is not set stays what it is."""

    thermistor: SensorThermistor | UnsetType = UNSET
    retired: bool = False

    def fulfil(self, row: Sensor | None) -> Sensor:
        """Return the sensor as it is wished, given what its row says."""
        was = row or WORKING
        return structs.replace(
            was,
            retired=self.retired,
            thermistor=was.thermistor if self.thermistor is UNSET else self.thermistor,
        )


# A reading of a sensor, which registers a new one and brings a retired one back, even beyond a limit.
SEEN = Wish()
RETIRED = Wish(retired=True)


def location_counter(location_id: str) -> str:
    """Name the item of the ledger's table that counts a location's sensors."""
    return f"location/{location_id}"


class Registration:
    """Writes sensors' rows and counts them; locations once known stay known, for none is ever removed."""

    def __init__(
        self,
        registry_table: str,
        ledger_table: str,
        limits: LimitSettings,
        transactions: Transactions,
        on_refused: Callable[[int], object] = lambda _: None,
    ) -> None:
        self.registry_table = registry_table
        self.ledger_table = ledger_table
        self.limits = limits
        self.transactions = transactions
        self.known_locations: set[str] = set()
        self._on_refused = on_refused

    def fulfil(self, wishes: Mapping[str, Wish], rows: Mapping[str, Sensor]) -> dict[str, Sensor | Refused]:
        """Write what is wished of sensors, given by key, of which `rows` are known, as few transactions as hold it.

        Returns each sensor as it then is, or why it is not taken. Raises botocore's errors, and
        ServiceUnavailableError when others change the same sensors all the time.
        """
        self.known_locations.update(split_sensor_key(key)[0] for key in rows)
        task = _Task(self, wishes, rows)
        tries, left = 0, 0
        while part := task.next_part():
            # A failure after which fewer are left has told what they are: only the same again and again is no progress.
            tries = tries + 1 if task.left == left else 1
            left = task.left
            if tries > _TRIES_MAX:
                raise ServiceUnavailableError("the registry's sensors are being changed by others, try again")
            if failed := self.transactions.write(part.writes):
                task.learn(part, failed)
            else:
                task.settle(part)
        if task.refused:
            self._on_refused(task.refused)
        return task.outcomes


class _Part(Struct, frozen=True):
    """A transaction: a write for each key, then one for each location that grows, then that of the new locations."""

    keys: list[str]
    growth: Counter[str]
    new_locations: list[str]
    writes: list[Any]


class _Task:
    """The wishes of one call that are still open, and what is known about rows and counters."""

    def __init__(self, registration: Registration, wishes: Mapping[str, Wish], rows: Mapping[str, Sensor]) -> None:
        self._registration = registration
        self._limits = registration.limits
        self._rows: dict[str, Sensor | None] = {key: rows.get(key) for key in wishes}
        self._wishes = dict(wishes)
        self._open = sorted(wishes)
        # Locations that were not there when a transaction failed; of the others, nobody knows before they are tried.
        self._absent: set[str] = set()
        # What the counters say at least.
        self._sensors: Counter[str] = Counter()
        self._locations = 0
        self.outcomes: dict[str, Sensor | Refused] = {}
        self.refused = 0

    @property
    def left(self) -> int:
        """How many wishes are open."""
        return len(self._open)

    def next_part(self) -> _Part | None:
        """Return the next transaction, None when nothing is left to write."""
        self._skip_what_is_so()
        self._refuse_surplus()
        keys: list[str] = []
        growth: Counter[str] = Counter()
        # One for the count of locations.
        size = 1
        for key in self._open:
            location_id, grows = split_sensor_key(key)[0], self._growth(key)
            size += 2 if grows and location_id not in growth else 1
            if size > PARTS_MAX:
                break
            keys.append(key)
            if grows:
                growth[location_id] += grows
        return self._part(keys, growth) if keys else None

    def settle(self, part: _Part) -> None:
        """Take note that a transaction has been written."""
        for key in part.keys:
            self.outcomes[key] = self._after(key)
        self._open = self._open[len(part.keys) :]
        self._sensors.update(part.growth)
        self._locations += len(part.new_locations)
        self._registration.known_locations.update(part.new_locations)
        self._absent.difference_update(part.new_locations)

    def learn(self, part: _Part, failed: Mapping[int, Row | None]) -> None:
        """Take note of the rows that a transaction failed on."""
        locations = list(part.growth)
        self._absent.update(part.new_locations)
        for place, row in failed.items():
            counter = place - len(part.keys)
            if counter < 0:
                self._rows[part.keys[place]] = read_row(row) if row else None
            elif counter < len(locations):
                self._learn_count(locations[counter], row)
            else:
                self._locations = int(row[_LOCATIONS]["N"]) if row else 0

    def _learn_count(self, location_id: str, row: Row | None) -> None:
        if row is None:
            self._registration.known_locations.discard(location_id)
        else:
            self._registration.known_locations.add(location_id)
            self._absent.discard(location_id)
            self._sensors[location_id] = int(row["sensors"]["N"])

    def _after(self, key: str) -> Sensor:
        return self._wishes[key].fulfil(self._rows[key])

    def _growth(self, key: str) -> int:
        """Return by how much the wish raises the count of its location's sensors."""
        row = self._rows[key]
        return (not self._after(key).retired) - (row is not None and not row.retired)

    def _is_limited(self, key: str) -> bool:
        """Return whether the wish is subject to limits: readings bring retired sensors back whatever the limits."""
        return self._growth(key) > 0 and (self._rows[key] is None or self._wishes[key] is not SEEN)

    def _skip_what_is_so(self) -> None:
        for key in self._open:
            if self._rows[key] == self._after(key):
                self.outcomes[key] = self._after(key)
        self._open = [key for key in self._open if key not in self.outcomes]

    def _refuse_surplus(self) -> None:
        """Refuse what would exceed a limit as far as is known; what is not known fails in its transaction."""
        sensors = self._sensors.copy()
        new_locations: set[str] = set()
        for key in filter(self._is_limited, self._open):
            location_id = split_sensor_key(key)[0]
            is_new = location_id in self._absent and location_id not in new_locations
            if is_new and self._locations + len(new_locations) >= self._limits.locations:
                reason = f"location_id: no more than {self._limits.locations} locations (limits.locations)"
            elif sensors[location_id] >= self._limits.sensors_per_location:
                limit = self._limits.sensors_per_location
                reason = f"sensor_id: no more than {limit} sensors at a location (limits.sensors_per_location)"
            else:
                sensors[location_id] += 1
                if is_new:
                    new_locations.add(location_id)
                continue
            self.refused += 1
            self.outcomes[key] = Refused(reason)
        self._open = [key for key in self._open if key not in self.outcomes]

    def _part(self, keys: list[str], growth: Counter[str]) -> _Part:
        table = self._registration.registry_table
        # What is limited comes first: beyond the limit is then only what may be.
        limited = Counter(split_sensor_key(key)[0] for key in keys if self._is_limited(key))
        new = [one for one in limited if one not in self._registration.known_locations]
        writes = [write_change(table, key, self._rows[key], self._after(key)) for key in keys]
        for location_id, number in growth.items():
            condition = self._condition(location_id, limited[location_id], new)
            writes.append(self._raise(location_counter(location_id), "sensors", number, condition))
        if new:
            room = self._limits.locations - len(new)
            first = f"attribute_not_exists({_LOCATIONS}) OR " if room >= 0 else ""
            writes.append(self._raise(_LOCATIONS, _LOCATIONS, len(new), (f"{first}{_LOCATIONS} <= :room", room)))
        return _Part(keys, growth, new, writes)

    def _condition(self, location_id: str, limited: int, new: list[str]) -> tuple[str, int | None]:
        """Return on which condition a location's count changes, if any, with the most that it may be before."""
        if location_id in new:
            return "attribute_not_exists(id)", None
        return ("sensors <= :room", self._limits.sensors_per_location - limited) if limited else ("", None)

    def _raise(self, counter: str, name: str, number: int, condition: tuple[str, int | None]) -> Any:
        expression, room = condition
        values = {":number": {"N": str(number)}} | ({} if room is None else {":room": {"N": str(room)}})
        update = {
            "TableName": self._registration.ledger_table,
            "Key": {"id": {"S": counter}},
            "UpdateExpression": f"ADD {name} :number",
            "ExpressionAttributeValues": values,
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        return {"Update": update | ({"ConditionExpression": expression} if expression else {})}
