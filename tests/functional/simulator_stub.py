"""A stub of the API on loopback for the simulator's tests, and what to compare it with."""

import contextlib
import csv
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONFIG = """
meta: {locations: 2, sensors: 10}
timer: {total_runtime_seconds: 0.5, min_delay_seconds: 0.05, max_delay_seconds: 0.1}
load: {workers: 4}
"""


class StubApi:
    """Remembers every reading and answers as the test wants; `respond` gives None to drop the connection."""

    def __init__(self):
        self.url = ""
        self.received = []
        self.paths = set()
        self.tokens = set()
        self.connections = Counter()
        self.requests_per_connection_max = None
        self.twice_at_a_time = False
        self.respond = self.answer_ok
        self.some_received = threading.Event()
        self.released = threading.Event()
        self._busy = set()
        self._lock = threading.Lock()

    def answer_ok(self, reading):
        status = "OK" if 1 <= reading["value"] <= 20_000 else "BROKEN"
        temperature = reading["value"] / 3 if status == "OK" else None
        return 200, {**reading, "temperature": temperature, "status": status}

    def answer_after(self, seconds):
        def respond(reading):
            self.released.wait(seconds)
            return self.answer_ok(reading)

        return respond

    def handle(self, handler):
        reading = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            self._remember(reading, handler)
            self.connections[handler.client_address] += 1
            requests = self.connections[handler.client_address]
            if self.requests_per_connection_max is not None and requests > self.requests_per_connection_max:
                return None
            self.twice_at_a_time |= reading["sensor_id"] in self._busy
            self._busy.add(reading["sensor_id"])
        response = self.respond(reading)
        with self._lock:
            self._busy.discard(reading["sensor_id"])
        return response

    def _remember(self, reading, handler):
        self.received.append(reading)
        self.paths.add(handler.path)
        self.tokens.add(handler.headers["Authorization"])
        if len(self.received) >= 20:
            self.some_received.set()


class StubServer(ThreadingHTTPServer):
    """Takes all workers' connections at once; with the usual backlog of 5, some would be reset."""

    request_queue_size = 128


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

    server = StubServer(("127.0.0.1", 0), Handler)
    stub.url = f"http://127.0.0.1:{server.server_port}/api"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stub
    finally:
        stub.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


def read_dump(path):
    """Read the rows of a dump."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def count_posted(rows):
    """Count equal readings among rows of a dump or among what the stub received."""
    names = ("sensor_id", "location_id", "timestamp")
    return Counter((*(row[name] for name in names), float(row["value"])) for row in rows)
