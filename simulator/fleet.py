"""Runs a fleet of simulated sensors against an API, with real HTTP requests, and checks every answer."""

import contextlib
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from chalicelib.thermistor import Thermistor
from simulator.checker import Checker
from simulator.client import ReadingsClient, parse_endpoint
from simulator.clock import Clock, Stopwatch
from simulator.config import SimulatorConfig, TimerConfig
from simulator.due_queue import GRACE_US, DueQueue, Turn
from simulator.dump import Dump
from simulator.faults import PlannedReading
from simulator.messages import Delivery, Exchange, encode_batch, encode_one, read_batch, read_one
from simulator.schedule import plan_fleet
from simulator.summary import Progress, Summary, Tally

_PROGRESS_SECONDS = 0.1
# How long requests under way may still take once a run is interrupted.
INTERRUPT_GRACE_SECONDS = 2.0


def simulate(
    config: SimulatorConfig,
    url: str,
    thermistor: Thermistor,
    clock: Clock,
    *,
    seed: int | None = None,
    sensors_are_new: bool = False,
    dump: Path | None = None,
    token: str | None = None,
    grace_seconds: float = GRACE_US / 1e6,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Summary:
    """Run the sensors against `<url>/readings` until the clock says that time is over, or `should_stop` does so.

    Readings due before that are still sent for `grace_seconds` afterwards. The same seed gives the same sensors,
    resistances, delays and faults; it is drawn where none is given. Answers are checked against the thermistor's
    equation; sensors that are not new may be broken from the start. Raises ValidationError for a wrong URL or token
    and OSError when the dump cannot be written; what goes wrong with a request is counted instead.
    """
    seed = random.getrandbits(32) if seed is None else seed
    endpoint = parse_endpoint(url, token)
    clients = [ReadingsClient(endpoint) for _ in range(config.load.workers)]
    with Dump(dump) if dump is not None else contextlib.nullcontext() as open_dump:
        stopwatch = Stopwatch(clock)
        end_us = round(config.timer.total_runtime_seconds * 1e6)
        queue = DueQueue(plan_fleet(config, seed), end_us, stopwatch, round(grace_seconds * 1e6))
        stopwatch.restart()
        recorder = Recorder(open_dump, Checker(thermistor, sensors_are_new=sensors_are_new))
        crew = Crew(queue, config.load.batch_size, DeviceClock(clock.now(), config.timer), recorder, stopwatch)
        crew.run(clients, should_stop, on_progress)
        elapsed_seconds, not_sent = stopwatch.elapsed_us() / 1e6, queue.count_left()
        return recorder.summarize(seed, elapsed_seconds, not_sent, interrupted=should_stop())


class DeviceClock:
    """The sensors' own time: `time_scale` times as fast as the clock, and level with it at the end."""

    def __init__(self, started_at: datetime, timer: TimerConfig) -> None:
        self._time_scale = timer.time_scale
        self._started_at = started_at - timedelta(seconds=timer.total_runtime_seconds * (timer.time_scale - 1))

    def timestamp(self, measured_us: int, backdated_us: int = 0) -> str:
        """Write the sensors' time `measured_us` of the clock after the start, less `backdated_us` of their own."""
        measured_at = self._started_at + timedelta(microseconds=int(measured_us * self._time_scale) - backdated_us)
        return measured_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Recorder:
    """Keeps the books of all workers: what was checked, the tally and, if wanted, the dump."""

    def __init__(self, dump: Dump | None, checker: Checker) -> None:
        self._dump = dump
        self._checker = checker
        self._tally = Tally()
        self._lock = threading.Lock()

    def add(self, turns: Sequence[Turn], exchanges: Sequence[Exchange], latency_seconds: float) -> None:
        """Record what came of a request with these turns' readings."""
        with self._lock:
            self._tally.add_request(latency_seconds)
            for turn, exchange, verdict in zip(turns, exchanges, self._checker.check(exchanges), strict=True):
                self._tally.add(exchange, verdict, turn.late_us / 1e6)
                if self._dump is not None:
                    self._dump.add(turn.number, exchange)

    def progress(self, elapsed_seconds: float, late_seconds: float) -> Progress:
        """Return how far the run has come, and by how much it is late."""
        with self._lock:
            return self._tally.progress(elapsed_seconds, late_seconds)

    def summarize(self, seed: int, elapsed_seconds: float, not_sent: int, *, interrupted: bool) -> Summary:
        """Close the books."""
        with self._lock:
            return self._tally.summarize(
                seed, elapsed_seconds, not_sent, self._checker.broken_before, interrupted=interrupted
            )


@dataclass(frozen=True)
class Crew:
    """The workers that carry readings from the queue to the API."""

    queue: DueQueue
    batch_size: int
    device_clock: DeviceClock
    recorder: Recorder
    stopwatch: Stopwatch

    def run(
        self,
        clients: list[ReadingsClient],
        should_stop: Callable[[], bool],
        on_progress: Callable[[Progress], None],
    ) -> None:
        """Work with one thread per client until the queue is over; every request begun is recorded."""
        with ThreadPoolExecutor(len(clients), thread_name_prefix="sensors") as pool:
            workers = [pool.submit(self._work, client) for client in clients]
            try:
                while not _is_finished(workers) and not should_stop():
                    elapsed_us, overdue_us = self.stopwatch.elapsed_us(), self.queue.overdue_us()
                    on_progress(self.recorder.progress(elapsed_us / 1e6, overdue_us / 1e6))
            finally:
                self.queue.close()
                if wait(workers, timeout=INTERRUPT_GRACE_SECONDS).not_done:
                    for client in clients:
                        client.abort()
        for worker in workers:
            worker.result()

    def _work(self, client: ReadingsClient) -> None:
        with contextlib.closing(client):
            while turns := self.queue.take(self.batch_size):
                deliveries = [self._deliver(turn.reading) for turn in turns]
                started_us = self.stopwatch.elapsed_us()
                exchanges = self._post(client, deliveries)
                latency_seconds = (self.stopwatch.elapsed_us() - started_us) / 1e6
                self.recorder.add(turns, exchanges, latency_seconds)
                self.queue.finish(turns)

    def _post(self, client: ReadingsClient, deliveries: list[Delivery]) -> list[Exchange]:
        if self.batch_size == 1:
            (delivery,) = deliveries
            return [read_one(delivery, client.post(encode_one(delivery)))]
        return read_batch(deliveries, client.post(encode_batch(deliveries)))

    def _deliver(self, planned: PlannedReading) -> Delivery:
        return Delivery(planned, self.device_clock.timestamp(planned.measured_us, planned.backdated_us))


def _is_finished(workers: list[Future[None]]) -> bool:
    finished, under_way = wait(workers, timeout=_PROGRESS_SECONDS, return_when=FIRST_EXCEPTION)
    return not under_way or any(worker.exception() for worker in finished)
