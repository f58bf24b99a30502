"""Runs a fleet of simulated sensors against an API, with real HTTP requests, and checks every answer."""

import contextlib
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from chalicelib.settings import Settings
from simulator.checker import Checker
from simulator.client import ReadingsClient, parse_endpoint
from simulator.clock import Clock, DeviceClock, Stopwatch
from simulator.config import SimulatorConfig
from simulator.due_queue import GRACE_US, DueQueue, Turn
from simulator.dump import Dump
from simulator.faults import PlannedReading
from simulator.messages import Delivery, Exchange, encode_batch, encode_one, read_batch, read_one
from simulator.schedule import plan_fleet
from simulator.sensors import curves_of
from simulator.summary import Progress, Summary, Tally

_PROGRESS_SECONDS = 0.1
# How long requests under way may still take once a run is interrupted.
INTERRUPT_GRACE_SECONDS = 2.0


def simulate(
    config: SimulatorConfig,
    url: str,
    settings: Settings,
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
    resistances (of a pattern, at the same time of day), delays and faults; it is drawn where none is given. Answers are
    checked by the stage's settings, against the curve of each sensor's type; sensors that are not new may be broken
    from the start. Raises ValidationError for a wrong URL or token or an unknown type of thermistor, and OSError when
    the dump cannot be written; what goes wrong with a request is counted instead.
    """
    seed = random.getrandbits(32) if seed is None else seed
    endpoint = parse_endpoint(url, token)
    curves = curves_of(config.meta, settings)
    clients = [ReadingsClient(endpoint) for _ in range(config.load.workers)]
    with Dump(dump) if dump is not None else contextlib.nullcontext() as open_dump:
        stopwatch = Stopwatch(clock)
        device_clock = DeviceClock(clock.now(), config.timer)
        end_us = round(config.timer.total_runtime_seconds * 1e6)
        queue = DueQueue(plan_fleet(config, seed, curves, device_clock), end_us, stopwatch, round(grace_seconds * 1e6))
        stopwatch.restart()
        checker = Checker(curves, settings.status_below_celsius, sensors_are_new=sensors_are_new)
        recorder = Recorder(open_dump, checker)
        crew = Crew(queue, config.load.batch_size, device_clock, recorder, stopwatch)
        crew.run(clients, should_stop, on_progress)
        elapsed_seconds, not_sent = stopwatch.elapsed_us() / 1e6, queue.count_left()
        return recorder.summarize(seed, elapsed_seconds, not_sent, interrupted=should_stop())


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
