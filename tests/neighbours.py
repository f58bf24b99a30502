"""What the honest owner of a location asks for in an hour, and what an attacker makes of it with a token for another.

The same every time. All ids are legal, and chosen so that keys joined by a sign that ids may have would be the same.
"""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from random import Random
from typing import Any

from chalicelib.fields import format_time
from tests.factories import NOW
from tests.shared_stage import Request

HONEST, ATTACKER = "b", "b:1"
RUNS_AT = (900.0, 1_800.0, 2_700.0)
_ENDS_AT = 2_800.0
_REQUESTS = 500

_SENSORS = ["1", "2", "01", "1:1", ":1", "1:1:1", "-1", "a", "A", "sensor-1", "b", "x" * 64]
_BREAKING = ["5", "6", "1:6"]
# Of the sensors with these ids, those of the attacker break as well.
_BREAKING_TOO = {*_BREAKING, "1", "sensor-1", "x" * 64}
_SPARE = [f"spare-{number}" for number in range(40)]
# The sensors that a location may have: some fewer than the honest owner provisions.
SENSORS_MAX = 45

_THERMISTORS: list[Any] = [
    None,
    "default",
    "ntc-10k",
    "no such type",
    {"a": 1.4051e-3, "b": 2.369e-4, "c": 1.019e-7, "min_ohm": 10, "max_ohm": 300_000},
    {"points": [[0, 28_674], [25, 10_000], [50, 4_105]]},
]
# As hot as any curve may be, which could be too much for what sums up everybody's.
_HOTTEST = {"a": 1.001e-6, "b": 1e-12, "c": 0}
# Usual ones, one that alerts (TEMPERATURE_CRITICAL), and some that no type, or not every type, accepts.
_VALUES = [2_000.0, 2_000.5, 1_234.567, 999, 3_000.25, 4_444.4, 8_000.75]
_HOT = 3.5
_OUT_OF_RANGE = [0, -1, 1e9, 30_000]


def honest_requests() -> list[Request]:
    """Return the requests of a whole session, in order."""
    script = _Script(Random(17))
    requests = sorted(script.requests(), key=lambda request: request.at)
    assert len(requests) >= _REQUESTS
    return requests


class _Script:
    """Makes the honest owner's requests, of sensors that work and break, and of an operator."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._at = 0.0
        self._posted: list[bytes] = []

    def requests(self) -> Iterator[Request]:
        kinds: list[tuple[int, Callable[[], Request]]] = [
            (30, self._single),
            (20, self._batch),
            (15, self._again),
            (10, self._corrected),
            (8, self._provision),
            (4, self._provision_several),
            (3, self._retire),
            (10, self._read),
        ]
        weights, makers = zip(*kinds, strict=True)
        for number in range(_REQUESTS):
            self._at = round(number * _ENDS_AT / _REQUESTS, 3)
            yield self._random.choices(makers, weights)[0]()
        for at in RUNS_AT:
            # As old as may be, and still to be counted.
            self._at = at - 30.0
            yield self._post({**self._reading(), "timestamp": self._time(86_395)})
        self._at = _ENDS_AT
        for path in self._readable():
            yield self._ask("GET", path)

    def _ask(self, method: str, path: str, content: Any = None) -> Request:
        return Request(self._at, HONEST, method, path, b"" if content is None else json.dumps(content).encode())

    def _time(self, seconds_ago: float) -> str:
        return format_time(NOW + timedelta(seconds=round(self._at - seconds_ago, 3)))

    def _reading(self) -> dict[str, Any]:
        random = self._random
        sensor_id = random.choice([*_SENSORS, *_SENSORS, *_BREAKING, *_SPARE[:20]])
        value = random.choice(_VALUES)
        if random.random() < 0.05:
            value = _HOT
        elif sensor_id in _BREAKING and random.random() < 0.2:
            value = random.choice(_OUT_OF_RANGE)
        reading = {"sensor_id": sensor_id, "location_id": HONEST, "value": value}
        kind = random.random()
        if kind < 0.6:
            reading["timestamp"] = self._time(random.choice([0, 0.001, 1, 30, 61.5, 3_600, -200]))
        if kind > 0.5:
            reading["reading_id"] = str(random.randrange(300))
        return reading if kind < 0.9 else {name: reading[name] for name in ("sensor_id", "location_id", "value")}

    def _post(self, content: Any) -> Request:
        request = self._ask("POST", "/readings", content)
        self._posted.append(request.body)
        return request

    def _single(self) -> Request:
        return self._post(self._reading())

    def _batch(self) -> Request:
        readings = [self._reading() for _ in range(self._random.randrange(1, 12))]
        return self._post({"readings": readings + self._random.choices(readings, k=1)})

    def _again(self) -> Request:
        body = self._random.choice(self._posted[-30:]) if self._posted else b"{}"
        return Request(self._at, HONEST, "POST", "/readings", body)

    def _corrected(self) -> Request:
        content = json.loads(self._again().body)
        first = content["readings"][0] if "readings" in content else content
        first["value"] = self._random.choice(_VALUES)
        return self._ask("POST", "/readings", content)

    def _sensor(self) -> str:
        return self._random.choice([*_SENSORS, *_BREAKING, *_SPARE])

    def _provision(self) -> Request:
        content = {"thermistor": self._random.choice(_THERMISTORS)}
        return self._ask("PUT", f"/locations/{HONEST}/sensors/{self._sensor()}", content)

    def _provision_several(self) -> Request:
        sensors = [{"sensor_id": self._sensor(), "thermistor": self._random.choice(_THERMISTORS)} for _ in range(5)]
        return self._ask("POST", f"/locations/{HONEST}/sensors", {"sensors": sensors})

    def _retire(self) -> Request:
        return self._ask("DELETE", f"/locations/{HONEST}/sensors/{self._sensor()}")

    def _readable(self) -> list[str]:
        report = f"/locations/{HONEST}/report"
        since = f"{report}?since={self._time(600)}"
        return [report, since, "/locations", "/runs/latest", *map(f"/locations/{HONEST}/sensors/{{}}".format, _SENSORS)]

    def _read(self) -> Request:
        return self._ask("GET", self._random.choice(self._readable()))


def attacks(honest: list[Request], number: int) -> list[Request]:
    """Return the requests of the attacker, who knows all of the honest ones before they are sent, in order."""
    attack = _Attack(honest, Random(number))
    return sorted((attack.request() for _ in range(number)), key=lambda request: request.at)


class _Attack:
    """Makes of each honest request what may collide with it: before it, at the same time, after it."""

    def __init__(self, honest: list[Request], random: Random) -> None:
        self._honest = honest
        self._random = random

    def request(self) -> Request:
        """Return an attack that has one of the honest requests for a model."""
        model = self._random.choice(self._honest)
        # Within the window in which readings that nothing but values identifies are the same, or at any time.
        moments = [model.at - 0.4, model.at, round(self._random.uniform(-60, _ENDS_AT), 3)]
        imitation = model._replace(
            at=self._random.choice(moments),
            location_id=ATTACKER,
            path=model.path.replace(f"/locations/{HONEST}/", f"/locations/{self._location()}/"),
            body=self._imitate(model.body),
        )
        kinds = [self._flood, self._malformed, self._meddle, self._look]
        return self._random.choice(kinds)(imitation) if self._random.random() < 0.4 else imitation

    def _location(self) -> str:
        return self._random.choice([ATTACKER, ATTACKER, HONEST])

    def _imitate(self, body: bytes) -> bytes:
        content = json.loads(body) if body else None
        if isinstance(content, dict) and content.get("readings"):
            readings = content["readings"]
            # Half of the time all are for the attacker's own location, so that it may be the same batch.
            mixed = self._random.random() < 0.5
            content["readings"] = [self._own(one, self._location() if mixed else ATTACKER) for one in readings]
        elif isinstance(content, dict) and "value" in content:
            content = self._own(content, self._location())
        elif isinstance(content, dict) and "thermistor" in content and self._random.random() < 0.5:
            content["thermistor"] = self._random.choice([*_THERMISTORS, _HOTTEST])
        return json.dumps(content).encode() if body else b""

    def _own(self, reading: dict[str, Any], location_id: str) -> dict[str, Any]:
        """Return a reading for another location, often otherwise the same."""
        changed = {**reading, "location_id": location_id}
        if self._random.random() < 0.4:
            # Most sensors must go on, else nothing is queued any more.
            breaks = reading.get("sensor_id") in _BREAKING_TOO
            changed["value"] = self._random.choice([*_VALUES, _HOT, *(_OUT_OF_RANGE if breaks else [])])
        return changed

    def _flood(self, imitation: Request) -> Request:
        """Return a batch of sensors that alert or break: ten at first, and new ones beyond the limit in the end."""
        ids = 10 if imitation.at < RUNS_AT[1] else 1_000
        times = {"timestamp": format_time(NOW + timedelta(seconds=imitation.at + 299))}
        readings = [
            {
                "sensor_id": f"flood-{self._random.randrange(ids)}",
                "location_id": ATTACKER,
                "value": self._random.choice([_HOT, -1, 2_000]),
                **self._random.choice([times, {}]),
            }
            for _ in range(self._random.choice([1, 5, 25]))
        ]
        return imitation._replace(method="POST", path="/readings", body=json.dumps({"readings": readings}).encode())

    def _malformed(self, imitation: Request) -> Request:
        body = imitation.body or b'{"sensor_id": 1}'
        place = self._random.randrange(len(body))
        broken = [body[:place], body[:place] + b"\xff" + body[place:], body * 2, b"[" * 1_000]
        ways = [
            b'"location_id": "%s/"' % HONEST.encode(),
            b'"location_id": ["%s"]' % HONEST.encode(),
            b'"__proto__": 1',
        ]
        smuggled = [body.replace(b"{", b"{" + way + b", ", 1) for way in ways]
        return imitation._replace(body=self._random.choice([*broken, *smuggled]))

    def _meddle(self, imitation: Request) -> Request:
        """Return a change of one of the honest sensors, or of its namesake."""
        sensor_id = self._random.choice([*_SENSORS, *_BREAKING, *_SPARE])
        way = self._random.choice(["{}", "..%2F{}", f"..%2F..%2F{HONEST}%2Fsensors%2F{{}}", "{}%00"])
        path = f"/locations/{self._location()}/sensors/{way.format(sensor_id)}"
        body = json.dumps({"thermistor": self._random.choice([*_THERMISTORS, _HOTTEST])}).encode()
        return imitation._replace(method=self._random.choice(["PUT", "DELETE", "GET"]), path=path, body=body)

    def _look(self, imitation: Request) -> Request:
        """Return a look at anything there is, with any method."""
        places = ["/locations", "/runs/latest", "/health", "/", f"/locations/{self._location()}/report"]
        method = self._random.choice(["GET", "GET", "GET", "PUT", "DELETE", "PATCH", "HEAD"])
        return imitation._replace(method=method, path=self._random.choice(places), body=b"")
