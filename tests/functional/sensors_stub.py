"""An API of sensors on loopback, which fails as the test wants."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler
from types import SimpleNamespace

from tests.functional.simulator_stub import listening


class Api:
    """Serves the routes on loopback; `respond` may answer in their place, with None as a connection that breaks."""

    def __init__(self, take):
        self._take = take
        self._lock = threading.Lock()
        self.url = ""
        self.posted = []
        self.respond = lambda posted: ...

    def handle(self, handler):
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        posted = SimpleNamespace(path=handler.path, sensors=json.loads(body)["sensors"], headers=handler.headers)
        with self._lock:
            self.posted.append(posted)
            answer = self.respond(posted)
            return self._take(handler.path, dict(handler.headers), body) if answer is ... else answer


@contextlib.contextmanager
def serving(take):
    api = Api(take)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            answer = api.handle(self)
            if answer is None:
                return
            status, headers, content = answer
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content if isinstance(content, bytes) else json.dumps(content).encode())

        def log_message(self, *_):
            pass

    with listening(Handler) as api.url:
        yield api


def echo(path, headers, body):
    """Answer as the routes do when every sensor is taken."""
    location_id = path.split("/")[2]
    sensors = json.loads(body)["sensors"]
    return 200, {}, {"results": [{"location_id": location_id, "broken": False, **sensor} for sensor in sensors]}
