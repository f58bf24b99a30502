"""What the local cloud does before the first reading is due."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from localcloud.cloud import LocalCloudError, start_processes

WORKERS = 3


@contextmanager
def serving(asked: list[tuple[str, str]], together: threading.Barrier) -> Iterator[str]:
    """Serve an API that answers 404 as soon as several requests are under way, else drops them."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Authorization"]))
            try:
                together.wait(30)
            except threading.BrokenBarrierError:
                return
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()
        thread.join()


def test_as_many_requests_are_under_way_at_once_as_workers_will_post() -> None:
    asked: list[tuple[str, str]] = []
    with serving(asked, threading.Barrier(WORKERS)) as url:
        start_processes(url, "some-token", WORKERS)
    assert asked == [("/api/runs/latest", "Bearer some-token")] * WORKERS


def test_an_api_that_does_not_answer_is_an_error_of_one_line() -> None:
    broken = threading.Barrier(WORKERS)
    broken.abort()
    with serving([], broken) as url, pytest.raises(LocalCloudError, match=r"^GET http://.*/api/runs/latest: .+$"):
        start_processes(url, "some-token", WORKERS)
