"""Gratuitous ARP as it is heard in the world outside: a router that moved tells switches where its addresses are now."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from types import TracebackType

from ovnshift.errors import OvnshiftError
from ovnshift.hosts.connection import Connection
from ovnshift.hosts.programs import BOOTSTRAP, envelope, source

START_SECONDS = 20.0
STOP_SECONDS = 10.0
TICK = 0.2


class Announcements:
    """Listens on a host for as long as it is entered. What goes wrong is in ``problem``; nothing is raised.

    Args:
        connection: to a host that is in the external networks.
        seconds: the longest that anybody listens.
    """

    def __init__(self, connection: Connection, seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds
        self._heard: list[tuple[float, str]] = []
        self._ready = threading.Event()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"listening on {connection.name}", daemon=True)
        self.problem = ""

    def __enter__(self) -> Announcements:
        self._thread.start()
        if not self._ready.wait(START_SECONDS):
            self.problem = self.problem or f"nobody listens after {START_SECONDS:.0f} s"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(STOP_SECONDS)

    def since(self, moment: float, addresses: Iterable[str]) -> set[str]:
        """Those of some addresses that were announced since a moment (monotonic)."""
        with self._lock:
            return {address for at, address in self._heard if at >= moment} & set(addresses)

    def _run(self) -> None:
        try:
            stream = self._connection.open("python3", "-c", BOOTSTRAP)
            try:
                stream.settimeout(TICK)
                view = memoryview(
                    envelope(source("ovnshift.evacuation.programs", "listen.py"), {"seconds": self._seconds}) + b"\n"
                )
                while view:
                    view = view[stream.send(bytes(view)) :]
                buffer = b""
                while not self._stopping.is_set():
                    try:
                        data = stream.recv(65536)
                    except TimeoutError:
                        continue
                    if not data:
                        self.problem = "the program there ended"
                        return
                    *lines, buffer = (buffer + data).split(b"\n")
                    for line in lines:
                        self._take(line)
            finally:
                stream.close()
        except (OvnshiftError, OSError, EOFError) as error:
            self.problem = str(error).splitlines()[0]
        finally:
            self._ready.set()

    def _take(self, line: bytes) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            return  # what the login's shell prints by itself
        if said == "listening":
            self._ready.set()
        elif isinstance(said, dict) and "address" in said:
            with self._lock:
                self._heard.append((time.monotonic(), str(said["address"])))
