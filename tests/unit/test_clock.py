"""A clock that is set back while we talk to an API."""

from __future__ import annotations

import datetime
import http.server
import threading
from collections.abc import Iterator

import pytest
import time_machine
from keystoneauth1.adapter import Adapter

from ovnshift.cloud.discovery import SteadySession

BOUND = 20.0


class _Answering(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *values: object) -> None:
        """Not on the terminal of the tests."""


@pytest.fixture
def api() -> Iterator[str]:
    """An API on this machine, by its URL."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answering) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_an_api_is_asked_at_once_after_the_clock_was_set_back(api: str) -> None:
    session = SteadySession()
    adapter = Adapter(session)
    answers: list[int] = []

    def ask() -> None:
        answers.append(adapter.get(api, authenticated=False).status_code)

    ask()
    earlier = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    with time_machine.travel(earlier, tick=True):
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(BOUND)
    session.session.close()
    assert answers == [200, 200]
