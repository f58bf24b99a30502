"""An API with the dashboard's real files and answers that a test makes up, on a loopback port of its own."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote

from chalicelib import dashboard

# As behind API Gateway, where the stage's name comes before every path.
STAGE_PATH = "/dev/"


class StubApi:
    """What the API knows; changing it is a new run."""

    def __init__(self) -> None:
        self.run: dict[str, Any] | None = None
        self.locations: list[dict[str, Any]] = []
        self.reports: dict[str, dict[str, Any]] = {}
        # The only token that is let in, None for an API that asks for none.
        self.token: str | None = None
        self.failing = False
        self.asked: list[str] = []
        self.url = ""

    def answer(self, path: str, authorization: str | None, known: str | None) -> tuple[int, Any, str]:
        """Return status, body and tag of a GET below the stage's path."""
        self.asked.append(path)
        if self.failing:
            return 503, {"Code": "ServiceUnavailableError", "Message": "try again"}, ""
        if self.token is not None and authorization != f"Bearer {self.token}":
            return (401 if authorization is None else 403), {"message": "no"}, ""
        content = self._content(path)
        if content is None or self.run is None:
            return 404, {"Code": "NotFoundError", "Message": "not there"}, ""
        tag = f'"{self.run["run_id"]}"'
        return (304, None, tag) if known == tag else (200, content, tag)

    def _content(self, path: str) -> dict[str, Any] | None:
        if path == "runs/latest":
            return self.run
        if path == "locations":
            return {"locations": self.locations}
        return self.reports.get(unquote(path.removeprefix("locations/").removesuffix("/report")))


@contextmanager
def serve(api: StubApi) -> Iterator[StubApi]:
    """Serve the API until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.removeprefix(STAGE_PATH).partition("?")[0]
            if not path:
                page = dashboard.read_page()
                self._send(200, page.content.encode(), page.headers)
            elif path.startswith("assets/"):
                asset = dashboard.read_asset(path.removeprefix("assets/"))
                self._send(200, asset.content.encode(), asset.headers)
            else:
                headers = self.headers
                status, body, tag = api.answer(path, headers.get("Authorization"), headers.get("If-None-Match"))
                content = b"" if body is None else json.dumps(body).encode()
                self._send(status, content, {"Content-Type": "application/json", "ETag": tag})

        def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    api.url = f"http://127.0.0.1:{server.server_address[1]}{STAGE_PATH}"
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
