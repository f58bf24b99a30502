"""Measures how many readings a second one simulator process posts and checks, against a stub of the API.

`python benchmarks/simulator.py [--seconds N] [--json]`: the stub is a process of its own on loopback that answers right
and at once. More is always due than can be sent, so what is measured is the simulator, with the stub beside it on the
same machine. Fails when an answer is not as expected.
"""

import argparse
import asyncio
import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

PROJECT = Path(__file__).parent.parent
sys.path.insert(0, str(PROJECT))

import msgspec

from chalicelib.calibration import Thermistors
from chalicelib.settings import load_settings
from simulator.clock import Clock
from simulator.config import FleetConfig, LoadConfig, SensorConfig, SimulatorConfig, TimerConfig
from simulator.fleet import simulate
from simulator.summary import Summary, format_summary

SETTINGS = load_settings("dev")
CURVE = Thermistors(SETTINGS.thermistors).default
LOADS = {
    "single_1_worker": LoadConfig(workers=1),
    "single_4_workers": LoadConfig(workers=4),
    "single_16_workers": LoadConfig(workers=16),
    "batch100_4_workers": LoadConfig(workers=4, batch_size=100),
}
LENGTH = re.compile(rb"Content-Length: (\d+)\r\n", re.IGNORECASE)
HEAD_END = b"\r\n\r\n"


class Stub(asyncio.Protocol):
    """One connection of a server that knows the equation and that every sensor works."""

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, _, body = self._received.partition(HEAD_END)
        length = LENGTH.search(head + b"\r\n")
        if length is None or len(body) < int(length[1]):
            return
        self._received = b""
        content = msgspec.json.encode(answer_to(msgspec.json.decode(body)))
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content))


def answer_to(posted: dict[str, Any]) -> dict[str, Any]:
    """Answer a reading or a batch."""
    if "readings" in posted:
        results = [answer_to(reading) for reading in posted["readings"]]
        return {"results": results, "accepted": len(results), "broken": 0, "rejected": 0}
    temperature = CURVE.temperature_celsius(posted.pop("value"))
    return {**posted, "temperature": temperature, "status": SETTINGS.status_below_celsius.status_of(temperature)}


async def serve() -> None:
    """Serve the stub for good, and print its port."""
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def running_stub() -> Iterator[str]:
    """Run the stub as a process and give its URL."""
    with subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def measure(load: LoadConfig, seconds: float, url: str) -> Summary:
    """Post for so many seconds what 8,000 sensors measure every millisecond."""
    config = SimulatorConfig(
        meta=FleetConfig(locations=8, sensors=1_000),
        sensor=SensorConfig(min_r=10, max_r=20_000),
        timer=TimerConfig(total_runtime_seconds=seconds, min_delay_seconds=0.001, max_delay_seconds=0.001),
        load=load,
    )
    return simulate(config, url, SETTINGS, Clock(), seed=1, sensors_are_new=True, grace_seconds=0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each of the loads")
    parser.add_argument("--json", action="store_true", help="only print the last line, readings a second as JSON")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve())
        return 0
    rates, wrong = {}, 0
    with running_stub() as url:
        for name, load in LOADS.items():
            summary = measure(load, options.seconds, url)
            rates[name] = round(summary.readings_per_second)
            wrong += summary.mismatches + summary.failed
            if not options.json:
                print(f"{name}: {format_summary(summary)}\n")
    print(json.dumps({"readings_per_second": rates}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
