"""A stub of the API on loopback for the simulator's tests, and what to compare it with."""

import contextlib
import csv
import json
import threading
from collections import Counter
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from chalicelib.calibration import Thermistors
from chalicelib.errors import ValidationError
from chalicelib.ingest.readings import Delivery, parse_reading
from chalicelib.settings import load_settings
from tests.fake_clock import FakeClock

CONFIG = """
meta: {locations: 2, sensors: 10}
timer: {total_runtime_seconds: 0.5, min_delay_seconds: 0.05, max_delay_seconds: 0.1}
load: {workers: 4}
"""


SETTINGS = load_settings("dev")
THERMISTORS = Thermistors(SETTINGS.thermistors)


class StubApi:
    """Remembers every reading and answers as the test wants; `respond` gives None to drop the connection."""

    def __init__(self):
        self.url = ""
        self.clock = FakeClock()
        self.received = []
        self.batch_sizes = []
        self.paths = set()
        self.tokens = set()
        self.connections = Counter()
        self.requests_per_connection_max = None
        self.twice_at_a_time = False
        self.drop_last_result = False
        self.added_to_accepted = 0
        self.respond = self.answer_ok
        self.some_received = threading.Event()
        self.released = threading.Event()
        self.types = {}
        self.respond_to_sensors = self.make_sensors
        self._broken = set()
        self._answers = {}
        self._busy = Counter()
        self._lock = threading.Lock()

    def answer_ok(self, posted):
        """Validate and answer as the application does."""
        try:
            reading = parse_reading(Delivery(posted, lambda _: True), self.clock.now(), timedelta(hours=24))
        except ValidationError as error:
            return 400, {"Code": "BadRequestError", "Message": str(error)}
        sensor = (reading.location_id, reading.sensor_id)
        curve = THERMISTORS.curve_of(self.types.get(sensor))
        if not curve.accepts(reading.resistance_ohm):
            self._broken.add(sensor)
        answer = {name: posted[name] for name in ("sensor_id", "location_id", "timestamp")}
        if sensor in self._broken:
            return 200, {**answer, "temperature": None, "status": "BROKEN"}
        temperature = curve.temperature_celsius(reading.resistance_ohm)
        status = SETTINGS.status_below_celsius.status_of(temperature)
        return 200, {**answer, "temperature": temperature, "status": status}

    def make_sensors(self, location_id, sensors):
        """Take every sensor's type and answer as the application does."""
        self.types |= {(location_id, one["sensor_id"]): one["thermistor"] for one in sensors}
        return 200, {
            "results": [
                {"location_id": location_id, "sensor_id": one["sensor_id"], "broken": False, "retired": False,
                 "thermistor": {"type": one["thermistor"]}}
                for one in sensors
            ]
        }  # fmt: skip

    def forget_broken_sensors(self):
        self._broken.clear()

    def answer_after(self, seconds):
        """Take so long for every reading, and really long enough for other workers to do what they should not."""

        def respond(reading):
            self.clock.advance(seconds)
            self.released.wait(0.02)
            return self.answer_ok(reading)

        return respond

    def handle(self, handler):
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        posted = json.loads(body)
        if "sensors" in posted:
            return self.respond_to_sensors(handler.path.split("/")[-2], posted["sensors"])
        readings = posted.get("readings", [posted])
        sensors = Counter((reading.get("location_id"), reading.get("sensor_id")) for reading in readings)
        with self._lock:
            self._remember(readings, handler)
            self.connections[handler.client_address] += 1
            requests = self.connections[handler.client_address]
            if self.requests_per_connection_max is not None and requests > self.requests_per_connection_max:
                return None
            self._busy += sensors
            self.twice_at_a_time |= any(
                self._busy[sensor] > 1 for sensor in sensors if all(map(str.isdecimal, map(str, sensor)))
            )
        # The same request again has the same answer.
        response = self._answers.get(body) or self._answer(posted, readings)
        self._answers[body] = response
        with self._lock:
            self._busy -= sensors
        return response

    def _answer(self, posted, readings):
        if "readings" not in posted:
            return self.respond(posted)
        self.batch_sizes.append(len(readings))
        responses = [self.respond(reading) for reading in readings]
        for response in responses:
            if response is None or response[0] not in {200, 400}:
                return response
        results = [
            body if status == 200 else {"error": f"readings[{index}].{body['Message']}"}
            for index, (status, body) in enumerate(responses)
        ]
        broken = sum(result.get("status") == "BROKEN" for result in results)
        rejected = sum("error" in result for result in results)
        accepted = len(results) - broken - rejected + self.added_to_accepted
        if self.drop_last_result:
            results.pop()
        return 200, {"results": results, "accepted": accepted, "broken": broken, "rejected": rejected}

    def _remember(self, readings, handler):
        self.received += readings
        self.paths.add(handler.path)
        self.tokens.add(handler.headers["Authorization"])
        if len(self.received) >= 20:
            self.some_received.set()


class StubServer(ThreadingHTTPServer):
    """Takes all workers' connections at once; with the usual backlog of 5, some would be reset."""

    request_queue_size = 128


@contextlib.contextmanager
def listening(handler):
    """Serve requests by handlers of that class until the block ends; give the address."""
    server = StubServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def serve_stub():
    """Serve a stub until the block ends."""
    stub = StubApi()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_POST(self):
            response = stub.handle(self)
            if response is None:
                self.close_connection = True
                return
            http_status, body = response
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(http_status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

        def handle(self):
            with contextlib.suppress(ConnectionError):
                super().handle()

    with listening(Handler) as address:
        stub.url = f"{address}/api"
        try:
            yield stub
        finally:
            stub.released.set()


def read_dump(path):
    """Read the rows of a dump."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def count_posted(rows):
    """Count equal readings among rows of a dump or among what the stub received."""
    names = ("sensor_id", "location_id", "timestamp")
    return Counter((*(row[name] for name in names), float(row["value"])) for row in rows)
